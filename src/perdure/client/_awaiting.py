"""Calls that are awaited."""

from __future__ import annotations

import asyncio
import secrets
import ssl
import time
from collections.abc import Mapping
from typing import Any

from perdure.client._requests import (
    Request,
    Response,
    Target,
    delays,
    error_of,
    gave_up,
    is_final,
    request_for,
    response_of,
    result_of,
    with_key,
)
from perdure.errors import ClosedError
from perdure.extras import needed_module
from perdure.limits import CLIENT_CONNECTIONS_MAX
from perdure.wire import Method, client_key


class _Turn:
    """The right to have one request on its way, with an id and a counter, as a blocking line has them."""

    def __init__(self) -> None:
        self._id = secrets.token_bytes(16)
        self._counter = 0

    def next_key(self) -> str:
        self._counter += 1
        return client_key(self._id, self._counter)


class AwaitingClient:
    """For the tasks of one event loop, the one on which the first call is made."""

    def __init__(self, target: Target, timeout_s: float, context: ssl.SSLContext | None) -> None:
        self.target = target
        self.closed = False
        self._timeout_s = timeout_s
        self._context = context
        self._aiohttp = needed_module("aiohttp", "client")
        self._session: Any = None
        self._idle: list[_Turn] = []
        self._room = asyncio.Semaphore(CLIENT_CONNECTIONS_MAX)

    def _open_session(self) -> Any:
        if self.closed:
            raise ClosedError("it was closed", path=self.target.url)
        if self._session is None:
            aiohttp = self._aiohttp
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CLIENT_CONNECTIONS_MAX, ssl=self._context or True),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def call(self, proxy: Any, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the method returns there. Cancelling it stops the waiting, not a command that was sent."""
        request = request_for(self.target, method, args, kwargs)
        return result_of(self.target, request, await self._answer(request), proxy)

    async def _answer(self, request: Request) -> Response:
        deadline = time.monotonic() + self._timeout_s
        method = request.method
        url = self._url(request.path)
        was_sent = False
        last: object = None
        async with self._room:
            turn = self._idle.pop() if self._idle else _Turn()
            try:
                headers = with_key(request, None if method.is_query else turn.next_key())
                for delay_s in delays():
                    remaining_s = deadline - time.monotonic()
                    if remaining_s <= 0:
                        break
                    wait_s = delay_s
                    try:
                        response = await self._exchange("POST", url, headers, request.body, remaining_s)
                    except self._aiohttp.ClientConnectorError as error:
                        last = error
                    except (self._aiohttp.ClientError, OSError, TimeoutError) as error:
                        last, was_sent = error or type(error).__name__, True
                    else:
                        if is_final(response):
                            return response
                        was_sent = was_sent or response.status not in (408, 429)
                        last = f"HTTP {response.status}"
                        wait_s = max(delay_s, min(response.retry_after_s or 0.0, 1.0))
                    await asyncio.sleep(max(0.0, min(wait_s, deadline - time.monotonic())))
            finally:
                self._idle.append(turn)
        raise gave_up(self.target, method, was_sent=was_sent, timeout_s=self._timeout_s, last=last)

    async def get(self, path: str, accept: str) -> Response:
        """Something that only asks. Raises what a call raises."""
        deadline = time.monotonic() + self._timeout_s
        headers = {**self.target.headers(), "Accept": accept}
        last: object = None
        for delay_s in delays():
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                break
            try:
                response = await self._exchange("GET", self._url(self.target.prefix + path), headers, None, remaining_s)
                if response.status == 200:
                    return response
                if is_final(response):
                    raise error_of(self.target, response)
                last = f"HTTP {response.status}"
            except (self._aiohttp.ClientError, OSError, TimeoutError) as error:
                last = error
            await asyncio.sleep(max(0.0, min(delay_s, deadline - time.monotonic())))
        raise gave_up(self.target, None, was_sent=False, timeout_s=self._timeout_s, last=last)

    def _url(self, path: str) -> str:
        target = self.target
        host = f"[{target.host}]" if ":" in target.host else target.host
        return f"{'https' if target.is_secure else 'http'}://{host}:{target.port}{path}"

    async def _exchange(
        self, verb: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> Response:
        async with asyncio.timeout(timeout_s):
            async with self._open_session().request(
                verb, url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                content = await answer.read()
                return response_of(answer.status, answer.headers, content)

    async def aclose(self) -> None:
        """Idempotent."""
        self.closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()
