"""The smallest program that keeps something with a journal and snapshots: a list of payloads that only grows."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from typing import BinaryIO

from perdure.errors import CorruptError, MissingError, WriteError
from perdure.fs import DirectoryLock, Fs
from perdure.journal import Draft, FileJournal
from perdure.records import COMMAND, Chain
from perdure.snapshots import FileSnapshotStore, SnapshotHeader

LOG_ID = b"a ledger's log id"[:16]
SEGMENT_BYTES_MAX = 300
"""A segment ends after three or four payloads, so that short runs have several."""


class TickingClock:
    """A different time at each look, and the same ones in each run."""

    def __init__(self) -> None:
        self._now_ns = 1_700_000_000_000_000_000

    def time_ns(self) -> int:
        self._now_ns += 1_000_000
        return self._now_ns


def payload(seq: int) -> bytes:
    """What entry ``seq`` must hold. Long ones now and then, so that records have different sizes."""
    return b"entry %d;" % seq + bytes([97 + seq % 26]) * (40 if seq % 5 == 0 else 7)


class Ledger:
    """Opens as a machine does: lock, temporaries, newest snapshot that verifies, entries behind it."""

    def __init__(
        self, directory: str, fs: Fs | None = None, *, secret: bytes = b"", segment_bytes_max: int = SEGMENT_BYTES_MAX
    ) -> None:
        fs = fs or Fs()
        secrets = [secret] if secret else []
        try:
            fs.make_directory(directory)
        except OSError as error:
            raise WriteError(f"no directory: {error.strerror}", path=directory) from error
        self.journal: FileJournal | None = None
        self._lock = DirectoryLock(fs, directory)
        try:
            fs.remove_temporaries(directory)
            self.store = FileSnapshotStore(directory, fs=fs, secrets=secrets)
            after, self.values = self._load()
            self.journal = FileJournal(
                directory,
                fs=fs,
                after=after,
                log_id=LOG_ID,
                clock=TickingClock(),
                chain=Chain(secrets) if secrets else None,
                segment_bytes_max=segment_bytes_max,
            )
            for _, entries in self.journal.read_recovered(after):
                for entry in entries:
                    if entry.seq != len(self.values) + 1:
                        raise AssertionError(f"entry {entry.seq} comes after {len(self.values)}")
                    self.values.append(entry.payload)
            if self.journal.last_seq != len(self.values):
                raise AssertionError(f"the journal is at {self.journal.last_seq}, {len(self.values)} were read")
        except BaseException:
            self._let_go()
            raise

    def _load(self) -> tuple[int, list[bytes]]:
        damage: CorruptError | None = None
        for seq in self.store.seqs():
            try:
                snapshot = self.store.snapshot_at(seq)
                values, digest = self.store.load(snapshot, lambda file: file.read().split(b"\n")[:-1])
            except CorruptError as error:
                damage = damage or error
                continue
            if digest != _digest(values):
                raise AssertionError("a snapshot verified and holds something else")
            return seq, values
        if damage is not None:
            raise damage
        return 0, []

    def append(self, payloads: Sequence[bytes], *, sync: bool = True) -> None:
        """Journals them in one step and makes them durable. They are in ``values`` once this has returned."""
        assert self.journal is not None
        self.journal.append([Draft(COMMAND, each) for each in payloads], expected=len(self.values))
        if sync:
            self.journal.sync()
        self.values += payloads

    def snapshot(self, *, keep: int = 2) -> None:
        """Stores everything, and forgets what is not needed for the newest ``keep`` snapshots."""
        assert self.journal is not None
        header = SnapshotHeader(len(self.values), 0, self.journal.log_id, {})
        content = _content(self.values)
        draft = self.store.write(
            header, lambda writer: writer.write(content) and None, lambda: _digest(self.values), _prove
        )
        self.store.publish(draft, header)
        self.journal.trim(self.store.prune(keep) + 1)

    def mark(self) -> None:
        assert self.journal is not None
        self.journal.mark()

    def read(self) -> list[bytes]:
        """What the journal itself gives back, as far as it reaches."""
        assert self.journal is not None
        for after in (0, *reversed(self.store.seqs())):
            with contextlib.suppress(MissingError):
                return self.values[:after] + [entry.payload for entry in self.journal.read(after)]
        return self.values

    def close(self) -> None:
        """Lets go whatever happens; raises ``WriteError`` where the last entries are not durable."""
        self._let_go()

    def _let_go(self) -> None:
        try:
            if self.journal is not None:
                self.journal.close()
        finally:
            self._lock.release()


def _content(values: Sequence[bytes]) -> bytes:
    return b"".join(value + b"\n" for value in values)


def _digest(values: Sequence[bytes]) -> bytes:
    return hashlib.blake2b(_content(values), digest_size=32).digest()


def _prove(file: BinaryIO) -> bytes:
    return hashlib.blake2b(file.read(), digest_size=32).digest()
