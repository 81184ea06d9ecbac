"""Replaying a real journal with today's code, and comparing with what was stored when it was written."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from perdure.clock import Moment
from perdure.errors import CodecError, CorruptError, PerdureError, StorageError
from perdure.fs import Fs
from perdure.journal import BINARY, Framing, Segment, entries_of, needed_segments, start_of_last_append
from perdure.machine import Outcome, State, collector_off, outcomes_in, replay
from perdure.machine._replay import NeedsRestore
from perdure.records import OUTCOME, Chain, Entry
from perdure.repair._survey import SnapshotFile, Survey
from perdure.snapshots import FileSnapshotStore

_CHUNK_ENTRIES = 10_000


@dataclass
class Comparison:
    """Replaying entries ``first`` to ``last`` upon a snapshot.

    ``verdict``: "same"; "different", the state is another one; "failed", it could not be replayed, see ``problem`` and
    ``seq``; "replayed", there was nothing to compare with.
    """

    first: int
    last: int
    verdict: str
    problem: str | None = None
    seq: int | None = None
    hint: str | None = None


class Comparer:
    """Replays between the snapshots of a directory. Writes nothing."""

    def __init__(
        self,
        survey: Survey,
        blank: Callable[[], State],
        *,
        fs: Fs | None = None,
        secrets: Sequence[bytes] = (),
        framing: Framing = BINARY,
        renamed: bool = False,
    ) -> None:
        """``blank``: a state of today's code with nothing in it, a new one at each call. ``renamed``: it has other
        names than the stored one; names are part of a digest.
        """
        self._survey = survey
        self._blank = blank
        self._fs = fs or Fs()
        self._framing = framing
        self._chain = Chain(tuple(secrets)) if secrets else None
        self._store = FileSnapshotStore(survey.path, fs=self._fs, secrets=tuple(secrets))
        last = survey.segments[-1] if survey.segments else None
        self._renamed = renamed
        self.digest: bytes = b""
        """Of the state that the last replay led to."""
        self._last_seq = max(survey.good_snapshots[0].seq, last.last_seq if last is not None else 0)

    def compare(self) -> Iterator[Comparison]:
        """From each snapshot to the next newer one, the oldest first; then behind the newest one."""
        snapshots = list(reversed(self._survey.good_snapshots))
        for older, newer in itertools.pairwise(snapshots):
            yield self._step(older, newer)
        yield self._step(snapshots[-1], None)

    def _step(self, older: SnapshotFile, newer: SnapshotFile | None) -> Comparison:
        last = self._last_seq if newer is None else newer.seq
        result = Comparison(older.seq + 1, last, "replayed" if newer is None else "same")
        try:
            digest = self._digest_at(older, last)
        except PerdureError as error:
            result.verdict, result.problem, result.seq, result.hint = "failed", error.message, error.seq, error.hint
            return result
        if newer is None or digest == newer.digest:
            return result
        today = self._as_it_loads(newer)
        if digest != today:
            result.verdict, result.problem = "different", "the state is not the one in the snapshot"
        elif not self._renamed:
            result.verdict = "different"
            result.problem = "the snapshot itself comes back as another state than was stored in it"
        return result

    def _as_it_loads(self, file: SnapshotFile) -> bytes | None:
        """The digest of what today's code makes of a snapshot; ``None`` where that fails."""
        try:
            return self._digest_at(file, file.seq)
        except (CodecError, StorageError):
            return None

    def _digest_at(self, base: SnapshotFile, last: int) -> bytes:
        """Of the state after ``last``, replayed from a snapshot."""
        segments = []
        if last > base.seq:
            segments = needed_segments(self._fs, self._framing, self._survey.path, base.seq, self._chain)
        outcomes, settled_before = self._outcomes(segments, base.seq, last)
        while True:
            state = self._blank()
            try:
                self._replay(state, segments, base, last, outcomes, settled_before)
            except NeedsRestore as needed:
                # A command was to be undone and the crash came before its outcome was written: as if it had been.
                outcomes[needed.entry.seq] = Outcome(needed.entry.seq, "aborted", "")
                continue
            self.digest = state.digest()
            return self.digest

    def _entries(self, segments: list[Segment], after: int, last: int) -> Iterator[Entry]:
        for _, entries in entries_of(self._fs, self._framing, segments, after, last):
            yield from entries

    def _outcomes(self, segments: list[Segment], after: int, last: int) -> tuple[dict[int, Outcome], int]:
        """Of all commands up to ``last``, and the seq before which all of them are known."""
        found: list[Entry] = []
        recent: collections.deque[Entry] = collections.deque(maxlen=_CHUNK_ENTRIES)
        for entry in self._entries(segments, after, self._last_seq):
            recent.append(entry)
            if entry.kind == OUTCOME:
                found.append(entry)
        return outcomes_in(found), start_of_last_append(list(recent))

    def _replay(
        self,
        state: State,
        segments: list[Segment],
        base: SnapshotFile,
        last: int,
        outcomes: dict[int, Outcome],
        settled_before: int,
    ) -> None:
        snapshot = base.snapshot
        if snapshot is None:
            raise CorruptError("the snapshot is damaged", path=base.path)
        state.check(snapshot.header.description, base.path)
        with collector_off():
            value, _ = self._store.load(snapshot, state.read)
        state.take_over(value)
        moment = Moment(snapshot.header.log_id)
        entries = self._entries(segments, base.seq, last)
        while chunk := list(itertools.islice(entries, _CHUNK_ENTRIES)):
            replay(state, moment, chunk, outcomes, settled_before=settled_before)
