"""Connections to PostgreSQL, and one border for its errors."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from perdure.engines._url import EngineUrl
from perdure.errors import (
    ClosedError,
    OutcomeUnknownError,
    PerdureError,
    RejectedError,
    UnauthorizedError,
    UnreachableError,
    UsageError,
    WriteError,
)
from perdure.extras import needed_module

VERSION_MIN = 120000
_STATEMENT_MS = 8000
_UNAUTHORIZED = ("authentication failed", "no password supplied", "no pg_hba.conf entry", 'FATAL: role "')


class PostgresConnection:
    """One connection that is made anew when it breaks. ``using`` gives it to one thread at a time.

    ``unreplicated``: set when the server says that a commit did not wait for its standbys to the end. It says so by a
    warning beside a success: whoever wrote must not believe the success.
    """

    def __init__(self, url: EngineUrl) -> None:
        self._url = url
        self._psycopg = needed_module("psycopg", "postgres")
        self._lock = threading.RLock()
        self._connection: Any = None
        self._closed = False
        self.unreplicated = False

    def _connected(self) -> Any:
        if self._closed:
            raise ClosedError("the connection is closed", path=self._url.shown)
        if self._connection is None or self._connection.closed:
            try:
                options = self._psycopg.conninfo.conninfo_to_dict(self._url.target)
                options.setdefault("connect_timeout", 5)
                options.setdefault("target_session_attrs", "read-write")
                options.setdefault("application_name", f"perdure {self._url.system}")
                # A peer that vanished is noticed in seconds, not in hours.
                options.setdefault("tcp_user_timeout", 8000)
                options.setdefault("keepalives_idle", 5)
                connection = self._psycopg.connect(**options, autocommit=True, prepare_threshold=1)
            except self._psycopg.Error as error:
                raise self._no_connection(error) from error
            try:
                if connection.info.server_version < VERSION_MIN:
                    raise UsageError(
                        f"PostgreSQL {connection.info.server_version // 10000} is too old; it takes 12",
                        path=self._url.shown,
                    )
                connection.execute(f"set statement_timeout = {_STATEMENT_MS}")
                # Whatever the server's default is: an acknowledgement is worth a sync here.
                if connection.execute("show synchronous_commit").fetchone()[0] in ("off", "local"):
                    connection.execute("set synchronous_commit = on")
            except self._psycopg.Error as error:
                connection.close()
                raise self._no_connection(error) from error
            except BaseException:
                connection.close()
                raise
            connection.add_notice_handler(self._noticed)
            self._connection = connection
        return self._connection

    def _noticed(self, notice: Any) -> None:
        # By number, not by words, which are translated: 01000 is the plain warning. Other warnings cost a retry.
        if notice.sqlstate == "01000":
            self.unreplicated = True

    def _no_connection(self, error: Any) -> PerdureError:
        said = " ".join(str(error).split())
        state = error.sqlstate or ""
        # Before a session there is no state, only words.
        if state.startswith("28") or any(words in said for words in _UNAUTHORIZED):
            return UnauthorizedError(f"the server wants other credentials: {said}", path=self._url.shown)
        if state == "3D000" or ('database "' in said and "does not exist" in said):
            return UsageError(f"there is no such database: {said}", path=self._url.shown, hint="createdb makes one")
        return UnreachableError(f"nobody answers: {said}", path=self._url.shown, hint="is the server running?")

    @contextlib.contextmanager
    def using(self, *, writes: bool = False) -> Iterator[Any]:
        """The connection, for one or a few statements.

        Raises:
            UnreachableError: nothing was done, or nothing that ``writes`` says matters.
            OutcomeUnknownError: it ``writes`` and broke in the middle.
            WriteError, RejectedError: the server refused; nothing was done.
        """
        with self._lock:
            connection = self._connected()
            self.unreplicated = False
            try:
                yield connection
            except self._psycopg.Error as error:
                broken = self._border(error, writes)
                if connection.closed or not isinstance(broken, (WriteError, RejectedError)):
                    self._drop()
                raise broken from error

    def _border(self, error: Any, writes: bool) -> PerdureError:
        said, state = " ".join(str(error).split()) or type(error).__name__, error.sqlstate or ""
        if state.startswith("53"):
            return WriteError(f"the engine has no room: {said}", path=self._url.shown, hint="make room on the server")
        # Without a state the connection broke. 08: connection, 25: turned read-only, 40: rolled back, 57: shut down.
        if not state or state[:2] in ("08", "25", "40", "57"):
            if writes and state[:2] not in ("25", "40"):
                return OutcomeUnknownError(f"no answer came: {said}", path=self._url.shown)
            return UnreachableError(f"no answer: {said}", path=self._url.shown)
        return RejectedError(f"the server refused: {said}", path=self._url.shown)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(self._psycopg.Error):
                connection.close()

    def close(self) -> None:
        """Idempotent."""
        self._closed = True
        with self._lock:
            self._drop()
