"""What a store of snapshots is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

Value = TypeVar("Value")


class SnapshotHeader(NamedTuple):
    """What a snapshot says of itself before its content.

    ``seq``: the last entry that it contains. ``at_ns``: the time of that entry. ``log_id``: of the journal it belongs
    to. ``description``: codec, class and code fingerprints. ``receipts``: which requests the state has seen.
    """

    seq: int
    at_ns: int
    log_id: bytes
    description: Mapping[str, Any]
    receipts: bytes = b""


class Snapshot(NamedTuple):
    """A published snapshot. ``name``: what the store calls it; a path where it is a file."""

    header: SnapshotHeader
    name: str
    size_bytes: int

    @property
    def seq(self) -> int:
        return self.header.seq


class Writer(Protocol):
    """Takes a snapshot's content in pieces."""

    def write(self, data: bytes, /) -> object: ...


class Source(Protocol):
    """Gives a snapshot's content: what an unpickler asks of a file."""

    def read(self, size: int, /) -> bytes: ...
    def readline(self) -> bytes: ...
    def readinto(self, buffer: bytearray | memoryview, /) -> int: ...


Dump = Callable[[Writer], None]
"""Writes the whole state."""
Digest = Callable[[], bytes]
"""Digests the whole state."""


class SnapshotStore(Protocol):
    """Keeps whole states, each with the seq it belongs to. One thread at a time writes; any may load.

    Writing is in two steps, so that a forked child can do the first: ``write`` leaves a finished draft that nobody
    sees yet, and ``publish`` gives it its name. A crash before ``publish`` leaves nothing that anybody loads.
    """

    survives_fork: bool
    """Whether a draft that a forked child wrote can be published by its parent."""

    def write(self, header: SnapshotHeader, dump: Dump, digest: Digest, prove: Callable[[Source], bytes]) -> str:
        """Writes a draft, durable, loads it back, and returns its name.

        ``prove``: loads the content and digests what it got; it must equal ``digest()``.

        Raises:
            CodecError: what was written does not load to the same state. The draft is gone.
            WriteError: the disk refused. The draft is gone.
        """
        ...

    def publish(self, draft: str, header: SnapshotHeader) -> Snapshot:
        """Gives a draft its final name, durably.

        Raises:
            WriteError: it is not known whether the snapshot will be there; either way nothing else changed.
        """
        ...

    def discard(self, draft: str) -> None:
        """Forgets a draft. Failing is not an error."""
        ...

    def newest_first(self) -> list[Snapshot]:
        """All published snapshots whose headers can be read, and of the others nothing. See ``unreadable``."""
        ...

    def load(self, snapshot: Snapshot, load: Callable[[Source], Value]) -> tuple[Value, bytes]:
        """Loads a content, and returns it with the digest stored beside it.

        Raises:
            CorruptError: it is damaged. Nothing that ``load`` returned was handed on.
            CodecError: the content is whole, but holds something that is not allowed or no longer exists.
        """
        ...

    def prune(self, keep: int) -> int:
        """Forgets all but the newest ``keep`` and returns the seq of the oldest one left. Failing is not an error."""
        ...
