"""What an engine's log is: an ordered list of entries that several processes append to.

A ``perdure.journal.Journal`` and a ``Log`` are two layers, not two names for one. A journal has one owner: it numbers
an entry before it is durable, many entries ride on one sync, and what stands in memory is never behind it. A log has
many writers: only the engine knows the order, and a writer learns an entry's position after it is stored. So a journal
can serve as a log of one machine (``JournalLog`` does that, and passes the same contract suite), while a log cannot be
a journal. What runs on a log is a node of ``perdure.cluster``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, Protocol

from perdure.errors import LockedError

Level = Literal["memory", "replicated", "fsync", "fsync-majority"]
"""What an acknowledged entry survives, from the least: the end of nothing; of a minority of processes; of the power on
the machine; of the power everywhere at once and of a minority of machines for good."""
LEVELS: tuple[Level, ...] = ("memory", "replicated", "fsync", "fsync-majority")

ID_BYTES = 24
"""An entry's id: the writer's session, 16 random bytes, and its counter, 8 bytes."""


class LogEntry(NamedTuple):
    """``position``: the engine's number of it, from 1, dense. ``id``: chosen by the writer, ``ID_BYTES`` long."""

    position: int
    id: bytes
    data: bytes


class Bounds(NamedTuple):
    """``first``: of the oldest entry that is kept, ``last + 1`` where none is. ``last``: of the newest ever stored."""

    first: int
    last: int


class LogCapabilities(NamedTuple):
    """What a log can promise.

    ``entry_bytes_max``: the largest data. ``durability``: what is known of it, in a sentence. ``level``: the highest
    that is proven. ``server``: name and version.
    """

    entry_bytes_max: int
    durability: str
    level: Level
    server: str


class ConflictError(LockedError):
    """The log does not end where the writer expected. Nothing was written by this call.

    After a call with the same id and the same ``expected`` whose outcome is unknown the entry may be there: it is if
    the one at ``expected + 1`` has the id.
    """


class Blobs(Protocol):
    """Whole things by name, beside a log: snapshots. Any thread may call."""

    bytes_max: int
    """The largest that should be put here."""

    def put(self, key: str, chunks: Iterable[bytes]) -> None:
        """Stores something durably, as a whole or not at all. Raises like ``Log.append``; again is harmless."""
        ...

    def get(self, key: str) -> Iterator[bytes]:
        """Its bytes, in pieces. Raises ``MissingError``."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """Those that begin so, sorted."""
        ...

    def delete(self, key: str) -> None:
        """Forgets it, if it is there."""
        ...

    def close(self) -> None:
        """Lets go. Idempotent."""
        ...


class Log(Protocol):
    """One system's log. Positions count from 1 without gaps, also across trims.

    One thread at a time may append, another one may follow; the other methods may be called by any thread. Where the
    engine cannot be reached each of them raises ``UnreachableError`` (nothing was done) and may be called again: the
    log connects anew by itself.
    """

    log_id: bytes
    """16 bytes that were chosen when it was created: a log of the same name that was made again has others."""
    capabilities: LogCapabilities
    blobs: Blobs
    url: str
    """Where it is, without a password."""

    def append(self, data: bytes, id: bytes, *, expected: int | None = None) -> int:
        """Stores an entry at the end and returns its position, once it is as durable as the engine promises.

        ``expected``: refuse unless the last position is this one. Without it there is no contention: the engine orders.

        Raises:
            ConflictError: nothing was written.
            RecordTooLargeError: nothing was sent.
            UnreachableError: nothing was written.
            OutcomeUnknownError: it may be there, or come to be. Append again with the same id, and see ``confirm``.
            WriteError: the engine refuses, for lack of room for one; nothing was written.
        """
        ...

    def confirm(self, position: int) -> None:
        """Returns when an entry that was found behind an unknown outcome is as durable as an acknowledged one.

        Raises:
            UnreachableError, OutcomeUnknownError: not known yet; ask again.
        """
        ...

    def read(self, after: int, count_max: int) -> list[LogEntry]:
        """Entries behind ``after``, at most so many, without a gap; may be fewer than there are, and may be stale.

        Raises:
            MissingError: the next one was trimmed.
        """
        ...

    def follow(self, after: int, *, idle_s: float) -> Iterator[list[LogEntry]]:
        """Entries behind ``after`` as they come, in order; an empty list after ``idle_s`` seconds without any.

        Raises:
            MissingError: the next one was trimmed.
            UnreachableError: the stream broke, which costs nothing: ``check`` and follow again.
        """
        ...

    def bounds(self) -> Bounds:
        """What is kept. May be stale."""
        ...

    def trim(self, before: int) -> None:
        """Allows the log to forget entries before a position. The numbering goes on."""
        ...

    def check(self) -> None:
        """Whether what is there is still this log.

        Raises:
            DivergedError: it is gone, or another one has its name.
        """
        ...

    def close(self) -> None:
        """Lets go. Idempotent."""
        ...
