"""Blocking connections: a pool of them, each with a client id of its own."""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from perdure.client._requests import Response, Target, response_of
from perdure.errors import ClosedError
from perdure.limits import CLIENT_CONNECTIONS_MAX
from perdure.wire import client_key


class NotSentError(Exception):
    """No connection could be made: the server has seen nothing."""


class BrokenError(Exception):
    """The connection broke, or no answer came in time: the server may have seen the request, and may not."""


class _WholeHttp(http.client.HTTPConnection):
    """Sends head and body of a request at once: the server wakes up once, and one packet goes out."""

    def request_whole(self, verb: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> None:
        self._parts: list[bytes] | None = []
        try:
            self.request(verb, path, body, headers)
            parts, self._parts = self._parts, None
            self.send(b"".join(parts))
        finally:
            self._parts = None

    def send(self, data: Any) -> None:
        if getattr(self, "_parts", None) is None:
            super().send(data)
        else:
            assert self._parts is not None
            self._parts.append(data)


class _WholeHttps(_WholeHttp, http.client.HTTPSConnection):
    """The same over TLS."""


class Line:
    """One connection, made when it is needed and again when it broke. One thread at a time uses it.

    Its commands carry its id and count upwards, so the server needs one receipt to know them all.
    """

    def __init__(self, target: Target, context: ssl.SSLContext | None) -> None:
        self._target = target
        self._context = context
        self._id = secrets.token_bytes(16)
        self._counter = 0
        self._connection: _WholeHttp | None = None

    def next_key(self) -> str:
        """For the next command."""
        self._counter += 1
        return client_key(self._id, self._counter)

    def exchange(
        self, verb: str, path: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> Response:
        """Sends one request and reads its answer. Raises ``NotSentError`` or ``BrokenError``."""
        try:
            connection = self._connected(timeout_s)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NotSentError(error) from error
        try:
            connection.request_whole(verb, path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise BrokenError(error) from error
        except BaseException:
            # An interrupt in the middle: what comes next on this connection would be the answer to this request.
            self.close()
            raise
        if answer.will_close:
            self.close()
        return response_of(answer.status, answer.headers, content)

    def _connected(self, timeout_s: float) -> _WholeHttp:
        connection = self._connection
        if connection is not None and connection.sock is not None:
            connection.sock.settimeout(timeout_s)
            return connection
        target = self._target
        if target.is_secure:
            connection = _WholeHttps(target.host, target.port, timeout=timeout_s, context=self._context)
        else:
            connection = _WholeHttp(target.host, target.port, timeout=timeout_s)
        self._connection = connection
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Lines:
    """The connections of one client. Any thread may take one; those that were used last are used first."""

    def __init__(self, target: Target, context: ssl.SSLContext | None) -> None:
        self._target = target
        self._context = context
        self._room = threading.BoundedSemaphore(CLIENT_CONNECTIONS_MAX)
        self._idle: list[Line] = []
        self._pid = os.getpid()
        self._closed = threading.Event()

    @contextlib.contextmanager
    def line(self, deadline: float) -> Iterator[Line]:
        """A connection for this thread alone.

        Raises:
            ClosedError: the client was closed.
            NotSentError: all are in use until ``deadline`` (of ``time.monotonic``).
        """
        if not self._room.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise NotSentError(f"all {CLIENT_CONNECTIONS_MAX} connections are in use")
        try:
            if self._pid != os.getpid():
                # A forked child: two processes on one connection would read each other's answers.
                self._idle, self._pid = [], os.getpid()
            if self._closed.is_set():
                raise ClosedError("it was closed", path=self._target.url)
            try:
                line = self._idle.pop()
            except IndexError:
                line = Line(self._target, self._context)
            try:
                yield line
            finally:
                self._idle.append(line)
                if self._closed.is_set():
                    self._close_idle()
        finally:
            self._room.release()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        """Idempotent. Requests that are on their way are finished."""
        self._closed.set()
        self._close_idle()

    def _close_idle(self) -> None:
        with contextlib.suppress(IndexError):  # Two threads may be at it.
            while True:
                self._idle.pop().close()
