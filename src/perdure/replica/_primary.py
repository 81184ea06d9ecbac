"""A primary far away, over HTTP: what its replica asks of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, cast, get_args
from urllib.parse import urlencode, urlsplit

from perdure.errors import PerdureError, RejectedError, UnauthorizedError, UnreachableError, UsageError
from perdure.limits import FEED_SILENCE_S, SNAPSHOT_BLOCK_BYTES
from perdure.replica._refused import FeedRefusedError, Reason

_READ_BYTES = 256 * 1024
_ERROR_BYTES_MAX = 64 * 1024


class Primary:
    """Its address and how to be let in. Each request has a connection of its own; any thread may ask."""

    def __init__(self, url: str, token: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        """``url``: the root of a ``perdure serve``. ``tls``: for https, instead of what the system trusts.

        Raises ``UsageError`` where that is no address.
        """
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError as error:
            raise UsageError(f"{url!r} is no address", hint="http://host:port or https://host:port") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is no address", hint="http://host:port or https://host:port")
        self.url: str = url.rstrip("/")
        self._is_secure = parts.scheme == "https"
        self._host = parts.hostname
        self._port = port
        self._prefix = parts.path.rstrip("/")
        self._token = token
        self._tls = tls

    def snapshot(self) -> Iterator[bytes]:
        """The bytes of the newest snapshot. Raises like ``ask``; what is cut off is an ``UnreachableError``."""
        with contextlib.closing(self.ask("GET", "/snapshot")) as answer:
            left_bytes = answer.length
            while data := answer.read(SNAPSHOT_BLOCK_BYTES):
                left_bytes = None if left_bytes is None else left_bytes - len(data)
                yield data
            if left_bytes:
                raise UnreachableError(f"{self.url} broke off in the middle of a snapshot")

    def feed(self, query: Mapping[str, str]) -> Answer:
        """The stream of a feed. Raises like ``ask``."""
        return self.ask("GET", "/feed", query)

    def tell(self, path: str, query: Mapping[str, str]) -> None:
        """Posts something. Raises like ``ask``."""
        self.ask("POST", path, query).close()

    def ask(self, method: str, path: str, query: Mapping[str, str] | None = None) -> Answer:
        """Raises:
        UnreachableError: nobody answers. UnauthorizedError: the token is not accepted.
        FeedRefusedError: the publisher there refuses, and says why. RejectedError: it answers something else.
        """
        connection: http.client.HTTPConnection
        if self._is_secure:
            context = self._tls or ssl.create_default_context()
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=FEED_SILENCE_S, context=context)
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=FEED_SILENCE_S)
        headers = {"connection": "close"}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        target = self._prefix + path + ("?" + urlencode(query) if query else "")
        try:
            connection.connect()
            sock = connection.sock
            connection.request(method, target, headers=headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise UnreachableError(f"{self.url} does not answer: {error}") from error
        if response.status >= 300:
            with contextlib.closing(connection):
                raise self._refusal(response)
        return Answer(self.url, connection, sock, response)

    def _refusal(self, response: http.client.HTTPResponse) -> PerdureError:
        try:
            body = response.read(_ERROR_BYTES_MAX)
        except (OSError, http.client.HTTPException):
            body = b""
        message = _message_in(body) or f"status {response.status} {response.reason}"
        reason = response.headers.get("perdure-reason")
        if response.status in (401, 403):
            return UnauthorizedError(f"{self.url} refuses the token: {message}")
        if reason in get_args(Reason):
            return FeedRefusedError(cast(Reason, reason), message)
        return RejectedError(f"{self.url} answers: {message}", hint="is this the root of a perdure serve?")


class Answer:
    """A response that is being read. One thread reads; any may close it, which ends the reading."""

    def __init__(
        self, url: str, connection: http.client.HTTPConnection, sock: Any, response: http.client.HTTPResponse
    ) -> None:
        self._url = url
        self._connection = connection
        self._sock: socket.socket = sock
        self._response = response
        self.length: int | None = response.length

    def read(self, size: int = _READ_BYTES) -> bytes:
        """What has come, at least one byte; nothing at the end. Raises ``UnreachableError``."""
        try:
            return self._response.read1(size)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise UnreachableError(f"{self._url} broke off: {error!r}") from error

    def cut(self) -> None:
        """From another thread: whoever reads gets an end or an error at once."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """By the reading thread. Idempotent."""
        self.cut()
        self._response.close()
        self._connection.close()


def _message_in(body: bytes) -> str:
    """What an error's JSON body says in its ``message``."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
