"""A journal that lives and dies with the process: for tests, and for ``perdure.MEMORY``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from perdure.clock import Clock, WallClock, utc_offset_min
from perdure.errors import ClosedError, MissingError, RecordTooLargeError, UsageError
from perdure.journal._protocol import Capabilities, Draft
from perdure.limits import RECORD_BYTES_MAX
from perdure.records import Entry


class MemoryJournal:
    """The ``Journal`` protocol on a list. Same rules, no disk: everything is "durable" at once."""

    def __init__(self, *, clock: Clock | None = None, after: int = 0, log_id: bytes | None = None) -> None:
        """``after``, ``log_id``: of another journal that this one is to be a copy of, from there on."""
        self._clock = clock or WallClock()
        self._entries: list[Entry] = []
        self._first_seq = after + 1
        self._closed = False
        self._bytes_written = 0
        self.log_id: bytes = log_id or os.urandom(16)
        self.last_seq: int = after
        self.durable_seq: int = after
        self.last_at_ns: int = 0
        self.capabilities: Capabilities = Capabilities(RECORD_BYTES_MAX, "memory: survives nothing", shared=False)

    @property
    def failure(self) -> str | None:
        return "closed" if self._closed else None

    @property
    def bytes_written(self) -> int:
        return self._bytes_written

    def append(self, drafts: Sequence[Draft], *, expected: int | None = None) -> None:
        if self._closed:
            raise ClosedError("the journal is closed")
        if expected is not None and expected != self.last_seq:
            raise UsageError(f"the journal is at seq {self.last_seq}, not at {expected}", seq=self.last_seq)
        if any(len(draft.payload) > RECORD_BYTES_MAX for draft in drafts):
            raise RecordTooLargeError(f"at most {RECORD_BYTES_MAX} bytes go into one entry")
        self.last_at_ns = at_ns = max(self.last_at_ns, self._clock.time_ns())
        offset_min = utc_offset_min(at_ns)
        for seq, draft in enumerate(drafts, self.last_seq + 1):
            draft.seq, draft.at_ns, draft.utc_offset_min = seq, at_ns, offset_min
            draft.more = draft is not drafts[-1]
            self._entries.append(draft.entry())
            self._bytes_written += len(draft.payload)
        self.last_seq += len(drafts)
        self.durable_seq = self.last_seq

    def copy(self, entries: Sequence[Entry]) -> None:
        if self._closed:
            raise ClosedError("the journal is closed")
        if entries[0].seq != self.last_seq + 1 or entries[-1].seq != self.last_seq + len(entries):
            raise UsageError(f"the journal is at seq {self.last_seq}", seq=entries[0].seq)
        self._entries += entries
        self._bytes_written += sum(len(entry.payload) for entry in entries)
        self.last_seq = self.durable_seq = entries[-1].seq
        self.last_at_ns = max(self.last_at_ns, entries[-1].at_ns)

    def sync(self) -> int:
        return self.durable_seq

    def mark(self) -> None:
        return

    def read(self, after: int = 0, before: int | None = None) -> Iterator[Entry]:
        if after + 1 < self._first_seq and after < self.last_seq:
            raise MissingError(f"entries before {self._first_seq} were trimmed", seq=after + 1)
        start = after + 1 - self._first_seq
        stop = len(self._entries) if before is None else max(0, before - self._first_seq)
        yield from self._entries[max(0, start) : stop]

    def trim(self, before: int) -> None:
        count = max(0, min(before, self.last_seq + 1) - self._first_seq)
        del self._entries[:count]
        self._first_seq += count

    def close(self) -> None:
        self._closed = True
