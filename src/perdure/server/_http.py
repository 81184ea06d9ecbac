"""Requests and responses as ASGI has them: the little that the hot path needs of HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from perdure.wire import JSON, Failure, encode_failure

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_DRAIN_FACTOR = 4
_DRAIN_S = 5.0


class HttpError(Exception):
    """An answer that is not 200."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        *,
        hint: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        failure: Failure | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.failure = failure or Failure(kind, message, hint)


async def respond(
    send: Send, status: int, kind: str, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """One whole response. Nothing of it may be kept by a cache, or taken for something else by a browser."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", kind.encode()),
                (b"content-length", b"%d" % len(body)),
                (b"cache-control", b"no-store"),
                (b"x-content-type-options", b"nosniff"),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def respond_error(send: Send, error: HttpError, kind: str = JSON) -> None:
    """What went wrong, in the format of the request."""
    await respond(send, error.status, kind, encode_failure(kind, error.failure), error.headers)


async def read_body(receive: Receive, *, announced: int | None, bytes_max: int, timeout_s: float) -> bytes:
    """The body of a request.

    ``announced``: what it says of its own length.

    Raises:
        HttpError: 413, it is too large; 408, it took too long; 400, the client went away in the middle.
    """
    message = await _next(receive, timeout_s)
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= bytes_max:
        return body
    deadline = time.monotonic() + timeout_s
    parts = [body]
    size = len(body)
    while message.get("more_body", False):
        if size > bytes_max or (announced is not None and announced > bytes_max):
            await _drain(receive, bytes_max * _DRAIN_FACTOR)
            break
        message = await _next(receive, deadline - time.monotonic())
        parts.append(message.get("body", b""))
        size += len(parts[-1])
    if size > bytes_max or (announced is not None and announced > bytes_max):
        raise HttpError(413, "too-large", f"a body has at most {bytes_max} bytes", headers=((b"connection", b"close"),))
    return b"".join(parts)


async def _next(receive: Receive, timeout_s: float) -> MutableMapping[str, Any]:
    try:
        async with asyncio.timeout(max(timeout_s, 0.0)):
            message = await receive()
    except TimeoutError as error:
        raise HttpError(
            408, "slow", "the body took too long to arrive", headers=((b"connection", b"close"),)
        ) from error
    if message["type"] == "http.disconnect":
        raise HttpError(400, "body", "the client went away")
    return message


async def _drain(receive: Receive, bytes_max: int) -> None:
    """Reads on for a while: a client that is still sending does not hear an answer."""
    try:
        async with asyncio.timeout(_DRAIN_S):
            size = 0
            while size < bytes_max:
                message = await receive()
                size += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return
