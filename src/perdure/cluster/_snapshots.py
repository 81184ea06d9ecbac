"""Snapshots of a cluster: written and proven as files in a folder of this node, and kept as blobs for all.

A blob's name is that of the log, the seq and the digest, so that two nodes with different states never write to one
name. What a snapshot must know beside the state, where in the log it stands, is in its description under ``"log"``.

What a crash leaves: before the upload, a folder in the temporary directory; after it, a blob that was not announced,
which is whole (engines store blobs as a whole) and as good as any other; it goes when newer ones are pruned.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from perdure.engines import Blobs
from perdure.errors import CorruptError, MissingError, PerdureError, StorageError, UsageError
from perdure.fs import Fs
from perdure.limits import SNAPSHOT_BLOCK_BYTES
from perdure.snapshots import Digest, Dump, FileSnapshotStore, Snapshot, SnapshotHeader, Source

Value = TypeVar("Value")
LOG = "log"
_FETCHED = ".fetched"


class Place(NamedTuple):
    """Where in the log a state stands. ``position`` and ``id``: of the last entry applied. ``term``: who may write."""

    position: int
    id: bytes
    term: bytes
    term_position: int

    def described(self, description: Mapping[str, Any]) -> dict[str, Any]:
        """A description that holds the place, too."""
        return {**description, LOG: list(self)}

    @classmethod
    def found_in(cls, header: SnapshotHeader, name: str) -> Place:
        """Raises ``CorruptError`` where the snapshot does not say it."""
        found = header.description.get(LOG)
        if not isinstance(found, list) or len(found) != 4:
            raise CorruptError("the snapshot does not say where in the log it stands", path=name)
        return cls(*found)


class BlobSnapshots:
    """The ``SnapshotStore`` of a node. ``write``, ``publish`` and ``upload`` are called by one thread at a time."""

    survives_fork = True

    def __init__(self, blobs: Blobs, log_id: bytes, *, keep_history: bool = False, fs: Fs | None = None) -> None:
        self.blobs = blobs
        self.keep_history = keep_history
        self._prefix = f"{log_id.hex()}/"
        self._fs = fs or Fs()
        self._folder = tempfile.mkdtemp(prefix="perdure-node-")
        self._files = FileSnapshotStore(self._folder, fs=self._fs)
        self._refused: set[str] = set()

    # ---- writing

    def write(self, header: SnapshotHeader, dump: Dump, digest: Digest, prove: Callable[[Source], bytes]) -> str:
        """See ``SnapshotStore.write``."""
        return self._files.write(header, dump, digest, prove)

    def publish(self, draft: str, header: SnapshotHeader) -> Snapshot:
        """See ``SnapshotStore.publish``: for this node alone; ``upload`` is what others see."""
        return self._files.publish(draft, header)

    def discard(self, draft: str) -> None:
        """See ``SnapshotStore.discard``."""
        self._files.discard(draft)

    def upload(self, local: Snapshot, digest: bytes) -> str:
        """Stores a published snapshot for all, reads it back, and returns its name. One of the same state stays.

        Raises ``StorageError`` where it is too large for the place or comes back differently, and what the blobs raise.
        """
        if local.size_bytes > self.blobs.bytes_max:
            raise StorageError(
                f"a snapshot of {local.size_bytes} bytes is too large for the engine ({self.blobs.bytes_max})",
                path=self._prefix,
                hint='give snapshots="s3://bucket/folder", or any other place that fsspec knows',
            )
        name = f"{self._prefix}{local.seq:020d}-{digest.hex()[:32]}"
        if self._holds(name, digest):
            return name
        sent = hashlib.blake2b()

        def chunks() -> Iterator[bytes]:
            for part in self._parts_of(local.name):
                sent.update(part)
                yield part

        self.blobs.put(name, chunks())
        got = hashlib.blake2b()
        for part in self.blobs.get(name):
            got.update(part)
        if got.digest() != sent.digest() and not self._holds(name, digest):
            self.blobs.delete(name)
            raise StorageError("a snapshot did not come back as it was stored", path=name)
        return name

    def _holds(self, name: str, digest: bytes) -> bool:
        """Whether a whole snapshot of the same state is there: this node's, or another one's."""
        try:
            return self.load(self.fetched(name, anew=True), lambda _: None)[1] == digest
        except (CorruptError, MissingError):
            return False

    def _parts_of(self, path: str) -> Iterator[bytes]:
        fd = self._fs.open_for_reading(path)
        try:
            offset = 0
            while part := self._fs.read_range(fd, offset, 4 * SNAPSHOT_BLOCK_BYTES):
                yield part
                offset += len(part)
        finally:
            self._fs.close(fd)

    # ---- reading

    def names(self) -> list[str]:
        """Of all that are there, the newest first."""
        return sorted((name for name in self.blobs.keys(self._prefix) if name not in self._refused), reverse=True)

    def has(self, seq: int) -> bool:
        """Whether one of that seq is there."""
        return any(_seq_in(name) == seq for name in self.names())

    def newest_first(self) -> list[Snapshot]:
        """See ``SnapshotStore.newest_first``. Fetches them."""
        found = []
        for name in self.names():
            with contextlib.suppress(CorruptError, MissingError):
                found.append(self.fetched(name))
        return found

    def fetched(self, name: str, *, anew: bool = False) -> Snapshot:
        """The snapshot of that name, on this node's own disk. ``anew``: an equal state may have been stored later.

        Raises ``CorruptError`` where it is damaged, ``MissingError`` where it is gone.
        """
        path = self._path_of(name)
        try:
            if anew or not self._fs.exists(path):
                self._fs.write_atomically(path, self.blobs.get(name), durable=False)
            with self._files.reader(path) as reader:
                snapshot = Snapshot(reader.header, path, reader.size_bytes)
        except OSError as error:
            raise StorageError(f"the snapshot cannot be kept here: {error.strerror}", path=path) from error
        if snapshot.seq != _seq_in(name):
            raise CorruptError(f"it says that it is a snapshot of seq {snapshot.seq}", path=name)
        return snapshot

    def _path_of(self, name: str) -> str:
        """With the digest: nodes that differ, and a creation that lost, store others of the same seq."""
        return os.path.join(self._folder, f"{name.rpartition('/')[2]}{_FETCHED}")

    def load(self, snapshot: Snapshot, load: Callable[[Source], Value]) -> tuple[Value, bytes]:
        """See ``SnapshotStore.load``."""
        return self._files.load(snapshot, load)

    # ---- forgetting

    def refuse(self, name: str) -> None:
        """Forgets a snapshot that was found wrong."""
        self._refused.add(name)
        with contextlib.suppress(PerdureError):
            self.blobs.delete(name)
        with contextlib.suppress(OSError):
            self._fs.unlink(self._path_of(name))

    def prune(self, keep: int) -> int:
        """See ``SnapshotStore.prune``: the files of this node; blobs are forgotten by ``prune_before``."""
        names = sorted((name for name in self._fs.names(self._folder) if name.endswith(_FETCHED)), reverse=True)
        for name in names[keep:]:
            with contextlib.suppress(OSError):
                self._fs.unlink(os.path.join(self._folder, name))
        return _seq_in(names[:keep][-1]) if names else 0

    def prune_before(self, seq: int) -> None:
        """Forgets blobs of earlier seqs, but the very first where history is kept."""
        for name in self.names():
            if _seq_in(name) < seq and not self.keep_history:
                with contextlib.suppress(PerdureError):
                    self.blobs.delete(name)

    def close(self) -> None:
        """Removes the folder of this node."""
        with contextlib.suppress(OSError):
            for name in self._fs.names(self._folder):
                self._fs.unlink(os.path.join(self._folder, name))
            self._fs.rmdir(self._folder)


def _seq_in(name: str) -> int:
    text = name.rpartition("/")[2].partition("-")[0]
    if not text.isdigit():
        raise UsageError(f"{name} is no snapshot's name")
    return int(text)
