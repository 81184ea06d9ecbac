"""Snapshots on their way from one directory to another, as they are stored."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from perdure.errors import StorageError, WriteError
from perdure.fs import Fs, temporary_name
from perdure.limits import SNAPSHOT_BLOCK_BYTES
from perdure.snapshots._files import FileSnapshotStore, snapshot_name
from perdure.snapshots._protocol import Snapshot, SnapshotHeader


class SnapshotBytes:
    """A snapshot's file, held open: it can be read to its end whatever becomes of its name. One thread at a time."""

    def __init__(self, fs: Fs, path: str, header: SnapshotHeader, digest: bytes) -> None:
        """Raises ``OSError``."""
        self.header = header
        self.digest = digest
        self._fs = fs
        self._fd = fs.open_for_reading(path)
        self.size_bytes: int = fs.size(self._fd)

    def __iter__(self) -> Iterator[bytes]:
        """Raises ``OSError``."""
        offset = 0
        while offset < self.size_bytes:
            part = self._fs.read_range(self._fd, offset, min(SNAPSHOT_BLOCK_BYTES, self.size_bytes - offset))
            if not part:
                return
            yield part
            offset += len(part)

    def close(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._fs.close(fd)

    def __enter__(self) -> SnapshotBytes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def send(store: FileSnapshotStore, snapshot: Snapshot) -> SnapshotBytes:
    """The bytes of a snapshot, and the digest of its state.

    Raises:
        CorruptError: it is damaged.
        StorageError: it cannot be read, or was pruned a moment ago.
    """
    try:
        with store.reader(snapshot.name) as reader:
            return SnapshotBytes(store.fs, snapshot.name, reader.header, reader.digest)
    except OSError as error:
        raise StorageError(f"the snapshot cannot be read: {error.strerror}", path=snapshot.name) from error


def receive(store: FileSnapshotStore, chunks: Iterable[bytes]) -> tuple[str, SnapshotHeader]:
    """Writes what ``send`` gave elsewhere as a draft, durable and proven to be whole; ``store.publish`` takes it.

    What a crash leaves: a temporary file that the next opening deletes.

    Raises:
        CorruptError, FormatVersionError: these bytes are no whole snapshot. The draft is gone.
        WriteError: the disk refused. The draft is gone.
        and what going through ``chunks`` raises.
    """
    draft = temporary_name(os.path.join(store.directory, snapshot_name(0)))
    fs = store.fs
    try:
        fd = fs.create(draft)
        try:
            for chunk in chunks:
                fs.write_all(fd, chunk)
            fs.sync(fd)
        finally:
            fs.close(fd)
        with store.reader(draft) as reader:
            reader.verify_content()
            return draft, reader.header
    except OSError as error:
        store.discard(draft)
        raise WriteError(f"the disk refused the snapshot: {error.strerror}", path=draft) from error
    except BaseException:
        with contextlib.suppress(OSError):
            store.discard(draft)
        raise
