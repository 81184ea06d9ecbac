"""Snapshots as files in a directory."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from perdure.errors import CodecError, CorruptError, StorageError, WriteError
from perdure.fs import Fs, temporary_name
from perdure.limits import SNAPSHOT_BLOCK_BYTES
from perdure.snapshots._format import SnapshotReader, SnapshotWriter
from perdure.snapshots._protocol import Digest, Dump, Snapshot, SnapshotHeader, Source

Value = TypeVar("Value")
_NAME = re.compile(r"snapshot-(\d{20})")


def snapshot_name(seq: int) -> str:
    """The name of a snapshot's file."""
    return f"snapshot-{seq:020d}"


class FileSnapshotStore:
    """One file a snapshot, in a directory whose lock the caller holds (to write) or not (to load).

    What a crash leaves at each step: while a draft is written, a temporary file that the next opening deletes; at the
    rename, the snapshot wholly under its name or not at all; while old ones are pruned, any of them.
    """

    survives_fork = True

    def __init__(self, directory: str, *, fs: Fs | None = None, secrets: Sequence[bytes] = ()) -> None:
        """``secrets``: the first one writes authentication codes, all of them are accepted when reading."""
        self.directory = directory
        self._fs = fs or Fs()
        self._secrets = tuple(secrets)
        self._whole: set[int] = set()  # Seqs of snapshots whose whole content was read and found right.

    @property
    def fs(self) -> Fs:
        return self._fs

    def write(self, header: SnapshotHeader, dump: Dump, digest: Digest, prove: Callable[[Source], bytes]) -> str:
        """See ``SnapshotStore.write``."""
        path = os.path.join(self.directory, snapshot_name(header.seq))
        draft = temporary_name(path)
        try:
            fd = self._fs.create(draft)
            try:
                writer = SnapshotWriter(self._fs, fd, header, self._secrets[0] if self._secrets else None)
                dump(writer)
                expected = digest()
                writer.finish(expected)
                # Before the rename: without it a power cut could leave the name with nothing behind it.
                self._fs.sync(fd)
            finally:
                self._fs.close(fd)
            with self.reader(draft) as reader:
                reader.verify_content()
                got = prove(io.BufferedReader(reader, SNAPSHOT_BLOCK_BYTES))
            if got != expected:
                raise CodecError(
                    "the state does not come back as it was stored, so the snapshot was not taken",
                    path=path,
                    seq=header.seq,
                    hint="is there something that its codec changes, or a __getstate__ that leaves something out?",
                )
        except OSError as error:
            self.discard(draft)
            raise WriteError(
                f"the disk refused the snapshot: {error.strerror}",
                path=path,
                seq=header.seq,
                hint="make room and retry",
            ) from error
        except BaseException:
            self.discard(draft)
            raise
        return draft

    def publish(self, draft: str, header: SnapshotHeader) -> Snapshot:
        """See ``SnapshotStore.publish``."""
        path = os.path.join(self.directory, snapshot_name(header.seq))
        try:
            size_bytes = self._fs.stat(draft).st_size
            self._fs.rename_durably(draft, path)
        except OSError as error:
            self.discard(draft)
            raise WriteError(
                f"the snapshot could not be published: {error.strerror}", path=path, seq=header.seq, outcome="unknown"
            ) from error
        self._whole.add(header.seq)  # It was proven before.
        return Snapshot(header, path, size_bytes)

    def discard(self, draft: str) -> None:
        """See ``SnapshotStore.discard``."""
        with contextlib.suppress(OSError):
            self._fs.unlink(draft)

    def seqs(self) -> list[int]:
        """Of all snapshots that are there, readable or not, the newest first. ``StorageError``: nobody can tell."""
        try:
            names = self._fs.names(self.directory)
        except OSError as error:
            raise StorageError(f"the directory cannot be read: {error.strerror}", path=self.directory) from error
        return sorted((int(match[1]) for name in names if (match := _NAME.fullmatch(name))), reverse=True)

    def path_of(self, seq: int) -> str:
        return os.path.join(self.directory, snapshot_name(seq))

    def snapshot_at(self, seq: int) -> Snapshot:
        """Raises ``CorruptError`` or ``FormatVersionError`` where its header or its end is damaged.

        ``StorageError``: it cannot be read now, which says nothing about what it holds.
        """
        path = self.path_of(seq)
        try:
            return self._snapshot_in(path)
        except OSError as error:
            raise StorageError(f"the snapshot cannot be read: {error.strerror}", path=path, seq=seq) from error

    def _snapshot_in(self, path: str) -> Snapshot:
        with self.reader(path) as reader:
            return Snapshot(reader.header, path, reader.size_bytes)

    def newest_first(self) -> list[Snapshot]:
        """See ``SnapshotStore.newest_first``."""
        found = []
        for seq in self.seqs():
            with contextlib.suppress(CorruptError, OSError):
                found.append(self._snapshot_in(self.path_of(seq)))
        return found

    def load(self, snapshot: Snapshot, load: Callable[[Source], Value]) -> tuple[Value, bytes]:
        """See ``SnapshotStore.load``."""
        try:
            with self.reader(snapshot.name) as reader:
                # All blocks first: damage must not reach a decoder, whatever the decoder makes of it.
                reader.verify_content()
                self._whole.add(snapshot.seq)
                return load(io.BufferedReader(reader, SNAPSHOT_BLOCK_BYTES)), reader.digest
        except OSError as error:
            raise StorageError(f"the snapshot cannot be read: {error.strerror}", path=snapshot.name) from error

    def reader(self, path: str) -> SnapshotReader:
        """To be closed. Raises ``CorruptError`` and ``FormatVersionError`` like ``SnapshotReader``, and ``OSError``."""
        reader = SnapshotReader(self._fs, path, self._secrets)
        named = _NAME.fullmatch(os.path.basename(path))
        if named is not None and int(named[1]) != reader.header.seq:
            reader.close()
            raise CorruptError(f"the file says that it is a snapshot of seq {reader.header.seq}", path=path, offset=0)
        return reader

    def prune(self, keep: int) -> int:
        """See ``SnapshotStore.prune``. A damaged one counts for nothing; it goes when all that are kept are newer."""
        try:
            seqs = self.seqs()
        except StorageError:
            return 0
        kept: list[int] = []
        for seq in seqs:
            if len(kept) >= max(1, keep):
                with contextlib.suppress(OSError):
                    self._fs.unlink(self.path_of(seq))
            elif self._is_whole(seq):
                kept.append(seq)
        return kept[-1] if kept else 0

    def _is_whole(self, seq: int) -> bool:
        """Reads it, unless this store has read or proven it before: then its header will do."""
        try:
            with self.reader(self.path_of(seq)) as reader:
                if seq not in self._whole:
                    reader.verify_content()
        except (StorageError, OSError):
            return False
        self._whole.add(seq)
        return True
