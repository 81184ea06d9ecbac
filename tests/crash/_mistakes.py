"""Mistakes that careful authors make, to be found by the crash tests: whoever finds none of them tests nothing."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

import perdure.journal._recovery as recovery
from perdure.errors import WriteError
from perdure.fs import Fs
from perdure.journal import BINARY, Cut, FileJournal
from perdure.snapshots import FileSnapshotStore
from perdure.testing import WrappingFs


class CarelessFs(WrappingFs):
    """A file system layer with mistakes in it."""

    def __init__(self, inner: Fs, mistakes: Collection[str]) -> None:
        super().__init__(inner)
        self.mistakes = mistakes

    def sync(self, fd: int) -> None:
        if "no sync" not in self.mistakes:
            super().sync(fd)

    def sync_names(self, directory_fd: int) -> None:
        if "no directory sync" not in self.mistakes:
            super().sync_names(directory_fd)

    def make_directory(self, path: str) -> None:
        if "parent synced once" not in self.mistakes or not self.exists(path):
            super().make_directory(path)

    def lock(self, fd: int) -> None:
        if "no lock" not in self.mistakes:
            super().lock(fd)

    def forget_cached(self, fd: int) -> None:
        if "cache believed" not in self.mistakes:
            super().forget_cached(fd)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        taken = super().write(fd, data)
        return len(data) if "short write ignored" in self.mistakes else taken


def make(mistake: str, patch: pytest.MonkeyPatch) -> None:
    """Puts a mistake into the library for the time of a test."""
    MISTAKES[mistake](patch)


def _served_unsynced(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(recovery, "_settled_bytes", lambda fs, framing, segment: fs.read_all(segment.path))


def _first_bad_record_ends(patch: pytest.MonkeyPatch) -> None:
    def judge(framing: Any, segment: Any, data: bytes, scanned: Any, after: int) -> Cut:
        return Cut(segment.path, scanned.end, len(data) - scanned.end, None)

    patch.setattr(recovery, "_judge_tail", judge)


def _any_good_record_proves(patch: pytest.MonkeyPatch) -> None:
    def proves(data: bytes, offset: int, seq: int, *, salt: int = 0, known_seq: int = 0) -> int | None:
        for start in range(offset + 1, len(data)):
            for other in range(seq, seq + 8):
                if BINARY.scan(data, start, other - 1, salt=salt).entries:
                    return start
        return None

    patch.setattr(type(BINARY), "proves_durable", staticmethod(proves))


def _partial_record_stays(patch: pytest.MonkeyPatch) -> None:
    def take_back(journal: FileJournal, error: OSError, chain_value: bytes) -> None:
        journal._failure = None

    patch.setattr(FileJournal, "_take_back", take_back)


def _sync_retried(patch: pytest.MonkeyPatch) -> None:
    def sync_file(journal: FileJournal) -> None:
        for attempt in (1, 2):
            try:
                journal._fs.sync(journal._fd)
                return
            except OSError as error:
                if attempt == 2:
                    journal._sync_failure = "a sync failed"
                    raise WriteError("failed", outcome="unknown") from error

    patch.setattr(FileJournal, "_sync_file", sync_file)


def _failure_marked_afterwards(patch: pytest.MonkeyPatch) -> None:
    def put(journal: FileJournal, data: bytes, seq: int, chain_value: bytes) -> None:
        try:
            journal._fs.write_all(journal._fd, data)
        except OSError as error:
            journal._take_back(error, chain_value)
            raise WriteError("refused") from error
        journal._size_bytes += len(data)
        journal.last_seq = seq

    patch.setattr(FileJournal, "_put", put)


def _segment_created_in_place(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("perdure.journal._file.temporary_name", lambda path: path)


def _snapshot_unsynced(patch: pytest.MonkeyPatch) -> None:
    write = FileSnapshotStore.write

    def write_unsynced(store: FileSnapshotStore, *args: Any) -> str:
        fs, store._fs = store._fs, CarelessFs(store._fs, {"no sync"})
        try:
            return write(store, *args)
        finally:
            store._fs = fs

    patch.setattr(FileSnapshotStore, "write", write_unsynced)


def _checksum_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("perdure.records.crc32", lambda data, salt: 0)


MISTAKES = {
    "served unsynced": _served_unsynced,
    "first bad record ends": _first_bad_record_ends,
    "any good record proves": _any_good_record_proves,
    "partial record stays": _partial_record_stays,
    "sync retried": _sync_retried,
    "failure marked afterwards": _failure_marked_afterwards,
    "segment created in place": _segment_created_in_place,
    "snapshot unsynced": _snapshot_unsynced,
    "checksum ignored": _checksum_ignored,
}
