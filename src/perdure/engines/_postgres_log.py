"""A log in PostgreSQL: a row an entry, and a head row a system.

The next position comes from the head row, updated in the same statement that inserts the entry: so positions are dense,
an entry never commits before its predecessor is visible, and trimming does not set the numbering back. The statement
names the log's id, so that nothing is ever appended to another log of the same name. ``NOTIFY`` only says that it is
worth looking: followers read by position, and look once a second in any case.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from perdure.engines._postgres_blobs import PostgresBlobs
from perdure.engines._postgres_connection import PostgresConnection
from perdure.engines._protocol import Blobs, Bounds, ConflictError, Level, LogCapabilities, LogEntry
from perdure.engines._url import EngineUrl
from perdure.errors import (
    DivergedError,
    FormatVersionError,
    LockedError,
    MissingError,
    OutcomeUnknownError,
    RecordTooLargeError,
)
from perdure.limits import MIB

_FORMAT_VERSION = 1
_ENTRY_BYTES_MAX = 64 * MIB
_LOOK_S = 1.0
_ROWS = 2_000
_TABLES = """
create table if not exists perdure_head (
    system text primary key, log_id bytea not null, format integer not null, position bigint not null);
create table if not exists perdure_log (
    system text not null, position bigint not null, id bytea not null, data bytea not null,
    primary key (system, position));
create table if not exists perdure_blob (
    system text not null, key text not null, part integer not null, parts integer not null, data bytea not null,
    primary key (system, key, part));
"""
# Payloads are no text: compressing them on the way in only costs time.
_PLAIN = """
alter table perdure_log alter column data set storage external;
alter table perdure_blob alter column data set storage external;
"""
_APPEND = """
with head as (update perdure_head set position = position + 1 where system = %s and log_id = %s{expected}
              returning position),
     entry as (insert into perdure_log (system, position, id, data) select %s, position, %s, %s from head
               returning position)
select position, pg_notify(%s, position::text) from entry
"""
_BLIND = _APPEND.format(expected="")
_EXPECTING = _APPEND.format(expected=" and position = %s")
_GONE_HINT = "what this node has is still in its memory: perdure.control(…).digest() and history() read it"


def create_postgres_log(url: EngineUrl, log_id: bytes) -> None:
    """Makes the tables where they are missing, and an empty log. Raises like ``create_nats_log``."""
    connection = PostgresConnection(url)
    try:
        with connection.using() as server, server.transaction():
            # Two creators at once would trip over each other's tables.
            server.execute("select pg_advisory_xact_lock(hashtext('perdure tables'))")
            if server.execute("select to_regclass('perdure_head')").fetchone()[0] is None:
                server.execute(_TABLES)
                server.execute(_PLAIN)
            made = server.execute(
                "insert into perdure_head values (%s, %s, %s, 0) on conflict do nothing returning position",
                (url.system, log_id, _FORMAT_VERSION),
            ).fetchone()
        if made is None:
            raise LockedError("there is a system of this name", path=url.shown)
    finally:
        connection.close()


class PostgresLog:
    """See ``Log``."""

    blobs: Blobs

    def __init__(self, url: EngineUrl) -> None:
        """Connects to a log that is there. Raises like ``NatsLog``."""
        self._url = url
        self.url = url.shown
        self._system = url.system
        self._channel = f"perdure_{url.system}"
        self._writing = PostgresConnection(url)
        self._reading = PostgresConnection(url)
        self._following = PostgresConnection(url)
        try:
            head = self._head()
            if head is None:
                raise MissingError(
                    "there is no system of this name", path=url.shown, hint=f"perdure create {url.shown} app:Class"
                )
            self.log_id, version, _ = head
            if version != _FORMAT_VERSION:
                raise FormatVersionError(f"log format {version}", path=url.shown, hint="upgrade perdure")
            self.capabilities = self._capabilities()
            self.blobs = PostgresBlobs(self._reading, self._system)
        except BaseException:
            self.close()
            raise

    def _head(self) -> tuple[bytes, int, int] | None:
        with self._reading.using() as server:
            if server.execute("select to_regclass('perdure_head')").fetchone()[0] is None:
                return None
            row = server.execute(
                "select log_id, format, position from perdure_head where system = %s", (self._system,)
            ).fetchone()
        return None if row is None else (bytes(row[0]), int(row[1]), int(row[2]))

    def _capabilities(self) -> LogCapabilities:
        with self._reading.using() as server:
            shown = {
                name: server.execute(f"show {name}").fetchone()[0]
                for name in ("fsync", "full_page_writes", "synchronous_commit", "synchronous_standby_names")
            }
            version = server.info.server_version
        return LogCapabilities(
            _ENTRY_BYTES_MAX, *_durability(shown), f"PostgreSQL {version // 10000}.{version % 10000}"
        )

    # ---- append

    def append(self, data: bytes, id: bytes, *, expected: int | None = None) -> int:
        """See ``Log.append``."""
        if len(data) > _ENTRY_BYTES_MAX:
            raise RecordTooLargeError(
                f"an entry of {len(data)} bytes; at most {_ENTRY_BYTES_MAX} go into one", path=self.url
            )
        end = (self._system, id, data, self._channel)
        with self._writing.using(writes=True) as server:
            if expected is None:
                row = server.execute(_BLIND, (self._system, self.log_id, *end)).fetchone()
            else:
                row = server.execute(_EXPECTING, (self._system, self.log_id, expected, *end)).fetchone()
            if self._writing.unreplicated:
                raise OutcomeUnknownError("the entry may be on the primary alone", path=self.url)
        if row is None:
            self.check()
            raise ConflictError(f"the log is not at {expected}", path=self.url, seq=expected)
        return int(row[0])

    def confirm(self, position: int) -> None:
        """See ``Log.confirm``: commits something behind it, and waits for that."""
        with self._writing.using(writes=True) as server:
            server.execute("update perdure_head set position = position where system = %s", (self._system,))
            if self._writing.unreplicated:
                raise OutcomeUnknownError("the entry may be on the primary alone", path=self.url)

    # ---- reading

    def read(self, after: int, count_max: int) -> list[LogEntry]:
        """See ``Log.read``."""
        return self._read(self._reading, after, count_max)

    def _read(self, connection: PostgresConnection, after: int, count_max: int) -> list[LogEntry]:
        with connection.using() as server:
            rows = server.execute(
                "select position, id, data from perdure_log where system = %s and position > %s "
                "and exists (select from perdure_head where system = %s and log_id = %s) order by position limit %s",
                (self._system, after, self._system, self.log_id, count_max),
                binary=True,
            ).fetchall()
        found = [LogEntry(int(position), bytes(id), bytes(data)) for position, id, data in rows]
        if found and found[0].position != after + 1:
            raise MissingError(f"entries before {found[0].position} were trimmed", path=self.url, seq=after + 1)
        return found

    def follow(self, after: int, *, idle_s: float) -> Iterator[list[LogEntry]]:
        """See ``Log.follow``."""
        with self._following.using() as server:
            server.execute(f'listen "{self._channel}"')
        while True:
            found = self._read(self._following, after, _ROWS)
            if not found:
                with self._following.using() as server:
                    for _ in server.notifies(timeout=min(_LOOK_S, idle_s), stop_after=1):
                        pass
                found = self._read(self._following, after, _ROWS)
            if not found:
                bounds = self.bounds()
                if after + 1 < bounds.first:
                    raise MissingError(f"entries before {bounds.first} were trimmed", path=self.url, seq=after + 1)
            yield found
            if found:
                after = found[-1].position

    def bounds(self) -> Bounds:
        """See ``Log.bounds``."""
        with self._reading.using() as server:
            row = server.execute(
                "select head.position, (select min(position) from perdure_log where system = head.system) "
                "from perdure_head head where system = %s and log_id = %s",
                (self._system, self.log_id),
            ).fetchone()
        if row is None:
            raise DivergedError("the log is gone, or another one has its name", path=self.url, hint=_GONE_HINT)
        last, first = int(row[0]), row[1]
        return Bounds(last + 1 if first is None else int(first), last)

    def trim(self, before: int) -> None:
        """See ``Log.trim``."""
        with self._reading.using() as server:
            server.execute("delete from perdure_log where system = %s and position < %s", (self._system, before))

    def check(self) -> None:
        """See ``Log.check``."""
        head = self._head()
        if head is None:
            raise DivergedError("the log is gone", path=self.url, hint=_GONE_HINT)
        if head[0] != self.log_id:
            raise DivergedError("another log has this name now", path=self.url, hint=_GONE_HINT)

    def close(self) -> None:
        """See ``Log.close``."""
        for connection in (self._writing, self._reading, self._following):
            with contextlib.suppress(OSError):
                connection.close()


def _durability(shown: dict[str, Any]) -> tuple[str, Level]:
    standbys = shown["synchronous_standby_names"]
    if shown["fsync"] != "on":
        return "fsync = off: a power cut may lose everything", "memory"
    if shown["full_page_writes"] != "on":
        return "full_page_writes = off: a power cut may leave torn pages", "memory"
    if not standbys:
        return "synced on the primary before it is acknowledged; no synchronous standby is named", "fsync"
    if shown["synchronous_commit"] == "remote_write":
        return f"synced on the primary, in the memory of the standbys {standbys!r}", "fsync"
    return f"synced on the primary and on the standbys {standbys!r} before it is acknowledged", "fsync-majority"
