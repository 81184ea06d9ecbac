"""HTTP over a connection, with bounds: how many connections, how long a client may take, how much it may say."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from perdure.server._settings import ServerLimits

_CROWDED = b"too many connections\n"
_SLOW = b"the request took too long to arrive\n"
_LONG = b"the headers are too long\n"
_REASONS = {408: b"Request Timeout", 429: b"Too Many Requests", 431: b"Request Header Fields Too Large"}


def _whole(status: int, body: bytes, more: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %d %b\r\ncontent-type: text/plain; charset=utf-8\r\n" % (status, _REASONS[status])
    return b"%bcontent-length: %d\r\n%bconnection: close\r\n\r\n%b" % (head, len(body), more, body)


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which has bounds for none of that."""

    def __init__(self, limits: ServerLimits, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._is_refused = False
        self._header_bytes = 0
        self._is_in_headers = False
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuses one too many, politely."""
        if len(self.connections) >= self._limits.connections_max:
            self._is_refused = True
            transport.write(_whole(429, _CROWDED, b"retry-after: 1\r\n"))
            transport.close()
            return
        super().connection_made(transport)
        self._begin_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of the connection, from whichever side."""
        self._end_waiting()
        if not self._is_refused:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, or of several."""
        if self._is_refused or self.transport.is_closing():
            return
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._begin_waiting()
        super().data_received(data)
        if self._is_in_headers:
            self._header_bytes += len(data)
            if self._header_bytes > self._limits.header_bytes_max:
                self._refuse(431, _LONG)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_in_headers, self._header_bytes = True, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of the path."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header. Raises where there are too many, which the parser makes a 400."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The body has a bound of its own."""
        self._is_in_headers = False
        self._end_waiting()
        super().on_headers_complete()

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._limits.header_bytes_max:
            raise ValueError("the headers are too long")

    def _begin_waiting(self) -> None:
        self._deadline = self.loop.call_later(self._limits.receive_timeout_s, self._too_slow)

    def _end_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self._refuse(408, _SLOW)

    def _refuse(self, status: int, body: bytes) -> None:
        # Nothing of an answer that is under way may be broken into.
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_whole(status, body))
        self.transport.close()
