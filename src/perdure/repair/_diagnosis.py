"""What is wrong in a directory, and what can be done about it.

A directory is well when opening it gives everything that was ever durable, and when it would still do so if its newest
snapshot were damaged: every snapshot and every record in it is whole, and from the second newest snapshot on the
journal has no gap. What lies further back may have been pruned, in any order.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from perdure.errors import PerdureError, StorageError
from perdure.fs import Fs
from perdure.journal import Framing, SegmentHeader
from perdure.records import Chain
from perdure.repair._salvage import Run, runs_in
from perdure.repair._survey import SegmentFile, SnapshotFile, Survey


class Problem(NamedTuple):
    """One thing that is wrong. ``offset`` in bytes and ``seq`` where they are known."""

    path: str
    message: str
    offset: int | None = None
    seq: int | None = None


@dataclass
class Remedy:
    """What a repair does. ``moves``: path → why it goes to the quarantine folder. ``cut``: the segment of which only
    the good beginning stays, and where that ends. ``rescued``: where the entries come from that are written anew, in a
    segment of the number ``new_number``; without any it is empty, and says only where the journal goes on.
    ``impossible``: why nothing can be done.
    """

    moves: dict[str, str] = field(default_factory=dict)
    cut: tuple[SegmentFile, int] | None = None
    rescued: list[Run] = field(default_factory=list)
    new_number: int = 0
    impossible: str | None = None

    @property
    def is_needed(self) -> bool:
        return bool(self.moves or self.cut or self.new_number or self.impossible)


@dataclass
class Diagnosis:
    """``base``: the newest good snapshot. ``reach``: the last seq that can be brought back from it. ``known_seq``: the
    highest seq of which there is a trace. ``notes``: worth knowing, and no problem.
    """

    survey: Survey
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    base: SnapshotFile | None = None
    reach: int = 0
    known_seq: int = 0
    remedy: Remedy = field(default_factory=Remedy)

    @property
    def lost_count(self) -> int:
        """Entries that were there once and cannot be brought back."""
        return max(0, self.known_seq - self.reach)


def diagnose(survey: Survey, *, fs: Fs | None = None, secrets: Sequence[bytes] = ()) -> Diagnosis:
    """Judges a deep survey. Reads damaged files once more and writes nothing. For a dict it prescribes nothing.

    Raises:
        StorageError: something cannot be read.
    """
    doctor = _Doctor(survey, fs or Fs(), survey.framing, Chain(tuple(secrets)) if secrets else None)
    try:
        doctor.examine()
        if doctor.found.problems and not survey.is_dict:
            doctor.prescribe()
    except OSError as error:
        raise StorageError(f"it cannot be read: {error.strerror}", path=error.filename or survey.path) from error
    return doctor.found


class _Doctor:
    def __init__(self, survey: Survey, fs: Fs, framing: Framing, chain: Chain | None) -> None:
        self.found = Diagnosis(survey)
        self._survey = survey
        self._fs = fs
        self._framing = framing
        self._chain = chain
        self._unusable: dict[int, str] = {}
        self._runs: dict[int, list[Run]] = {}
        good = survey.good_snapshots
        self._base_seq = good[0].seq if good else 0
        # From here on the journal must have no gap: see the top of this file.
        self._needed_from = good[1].seq if len(good) > 1 else self._base_seq

    # ---- what is wrong

    def examine(self) -> None:
        found, survey = self.found, self._survey
        for snapshot in survey.snapshots:
            if snapshot.error is not None:
                found.problems.append(_problem_of(snapshot.error, snapshot.path, None))
        found.base = survey.good_snapshots[0] if survey.good_snapshots else None
        if found.base is None:
            found.problems.append(
                Problem(survey.path, "no snapshot is left that verifies, so there is nothing to build on", None, 0)
            )
        self._examine_headers()
        self._examine_borders()
        self._examine_end()
        self._look_for_traces()
        found.reach = max([self._base_seq, *(file.last_seq for file in self._usable()[-1:])])
        kept = self._kept(found.reach)
        low = kept[0].base_seq - 1 if kept else self._base_seq
        for snapshot in survey.good_snapshots:
            if snapshot.seq < low:
                found.notes.append(f"{snapshot.name} can be looked at, and not be replayed to the present")
        found.notes += _notes(survey)

    def _usable(self) -> list[SegmentFile]:
        return [file for file in self._survey.segments if file.number not in self._unusable]

    def _examine_headers(self) -> None:
        problems = self.found.problems
        base = self.found.base
        log_id = base.snapshot.header.log_id if base is not None and base.snapshot is not None else None
        least: SegmentFile | None = None
        for file in reversed(self._survey.segments):
            if file.header is None:
                assert file.error is not None
                self._unusable[file.number] = file.error.message
                problems.append(_problem_of(file.error, file.path, None))
                continue
            log_id = log_id or file.header.log_id
            if file.header.log_id != log_id:
                self._set_unusable(file, "it belongs to the journal of another system")
            elif least is not None and file.base_seq > least.base_seq:
                self._set_unusable(file, f"its entries stand in {least.name}, too, which is newer")
            else:
                least = file

    def _set_unusable(self, file: SegmentFile, why: str) -> None:
        self._unusable[file.number] = why
        self.found.problems.append(Problem(file.path, why, 0, file.base_seq))

    def _examine_borders(self) -> None:
        """Between each segment and the next: nothing may be missing, and the chain must go on."""
        problems, notes = self.found.problems, self.found.notes
        usable = self._usable()
        for file, following in itertools.pairwise(usable):
            last_seq = following.base_seq - 1
            if file.last_seq < last_seq and file.number + 1 == following.number:
                message = f"entry {file.last_seq + 1} had been durable and is damaged or missing: "
                message += file.problem or "the file ends too early"
                problems.append(Problem(file.path, message, file.end, file.last_seq + 1))
            elif file.number + 1 != following.number:
                self._report_gap(file, following, problems, notes)
            elif self._breaks_chain(file, following):
                self._set_unusable(following, "its chain of authentication codes begins elsewhere")
        first = usable[0].base_seq if usable else self._base_seq + 1
        if first > self._needed_from + 1 and self.found.base is not None:
            message = f"entries {self._needed_from + 1} to {first - 1} are missing, which a snapshot builds on"
            problems.append(Problem(self._survey.path, message, None, self._needed_from + 1))

    def _breaks_chain(self, file: SegmentFile, following: SegmentFile) -> bool:
        assert following.header is not None
        return file.chain_end is not None and file.chain_end != following.header.chain_start

    def _report_gap(self, file: SegmentFile, following: SegmentFile, problems: list[Problem], notes: list[str]) -> None:
        between = range(file.number + 1, following.number)
        if any(number in self._unusable for number in between):
            return
        names = f"segment {between[0]}" if len(between) == 1 else f"segments {between[0]} to {between[-1]}"
        first, last = file.last_seq + 1, following.base_seq - 1
        what = f"with entries {first} to {last}" if last >= first else "between entries"
        if last <= self._needed_from:
            notes.append(f"{names}, {what}, was pruned or is missing; no newer snapshot needs it")
        else:
            problems.append(Problem(self._survey.path, f"{names}, {what}, is missing", None, first))

    def _examine_end(self) -> None:
        problems = self.found.problems
        usable = self._usable()
        if not usable:
            return
        last = usable[-1]
        if last.tail_error is not None:
            problems.append(_problem_of(last.tail_error, last.path, last.last_seq + 1))
        elif last.watermark > last.last_seq:
            message = f"entry {last.watermark} had been durable, and the file ends at {last.last_seq}"
            problems.append(Problem(last.path, message, last.end, last.last_seq + 1))
        elif last.last_seq < self._base_seq:
            message = f"the journal ends at seq {last.last_seq}, before the newest snapshot"
            problems.append(Problem(last.path, message, last.end, last.last_seq + 1))

    def _look_for_traces(self) -> None:
        """How far the journal once went."""
        seqs = [self._base_seq]
        seqs += [problem.seq or 0 for problem in self.found.problems if problem.path != self._survey.path]
        for file in self._survey.segments:
            seqs += [file.last_seq, file.base_seq - 1, file.watermark]
            if self.found.problems and not file.torn:
                seqs += [run.last for run in self._runs_of(file)]
        self.found.known_seq = max(seqs)

    def _runs_of(self, file: SegmentFile) -> list[Run]:
        """What can be read behind a bad spot; of a file whose header is damaged, all."""
        if file.problem is None and file.error is None:
            return []
        if file.number not in self._runs:
            self._runs[file.number] = runs_in(
                self._fs, self._framing, file.path, file.end, self._chain, self._salt_of(file)
            )
        return self._runs[file.number]

    def _salt_of(self, file: SegmentFile) -> int:
        """Of a segment whose header may be damaged: its number is in its name, and the log is that of the others."""
        if file.segment is not None:
            return file.segment.header.salt
        logs = [other.segment.header.log_id for other in self._survey.segments if other.segment is not None]
        logs += [
            snapshot.snapshot.header.log_id for snapshot in self._survey.snapshots if snapshot.snapshot is not None
        ]
        return SegmentHeader(file.number, 0, 0, logs[0] if logs else bytes(16)).salt

    # ---- what can be done

    def prescribe(self) -> None:
        found = self.found
        remedy = found.remedy
        for snapshot in self._survey.snapshots:
            if snapshot.error is not None:
                remedy.moves[snapshot.path] = snapshot.error.message
        if found.base is None:
            remedy.impossible = "no snapshot is left that verifies: bring a snapshot-… file back from a backup"
            return
        if self._survey.segments and not self._usable() and not any(f.error for f in self._survey.segments):
            remedy.impossible = "the journal and the snapshots belong to different systems"
            return
        found.reach, sources = self._bring_back()
        kept = self._kept(found.reach)
        if kept is None:
            remedy.rescued = sources
            remedy.new_number = max((file.number for file in self._survey.segments), default=0) + 1
            kept = []
        if not kept and self._base_seq > 0:
            remedy.new_number = max((file.number for file in self._survey.segments), default=0) + 1
        self._set_aside_segments(kept)
        low = kept[0].base_seq - 1 if kept else self._base_seq
        if low > self._needed_from:
            for snapshot in self._survey.good_snapshots:
                if snapshot.seq < low:
                    remedy.moves[snapshot.path] = f"the entries behind it are not there up to seq {low}"

    def _bring_back(self) -> tuple[int, list[Run]]:
        """The last seq that can be reached from the newest good snapshot, and where the entries are."""
        reach = self._base_seq
        sources: list[Run] = []
        while True:
            run, last = self._holder(reach + 1)
            if run is None:
                return reach, sources
            sources.append(run._replace(last=last))
            reach = last

    def _holder(self, seq: int) -> tuple[Run | None, int]:
        usable = self._usable()
        before = [file for file in usable if file.base_seq <= seq]
        # A segment counts up to where the next one begins.
        following = next((file for file in usable if file.base_seq > seq), None)
        border = following.base_seq - 1 if following is not None else 1 << 63
        if before and before[-1].last_seq >= seq:
            file = before[-1]
            assert file.segment is not None
            code = b"" if file.segment.chain is None else file.segment.chain.value
            run = Run(
                file.path, file.segment.first_offset, file.base_seq - 1, seq, file.last_seq, code, self._salt_of(file)
            )
            return run, min(run.last, border)
        for file in reversed(self._survey.segments):
            if file.number in self._unusable and file.error is None:
                continue
            if before and file.number < before[-1].number:
                continue
            if following is not None and file.number >= following.number:
                continue
            for run in self._runs_of(file) if not file.torn else []:
                if run.first <= seq <= run.last:
                    return run, min(run.last, border)
        return None, 0

    def _kept(self, reach: int) -> list[SegmentFile] | None:
        """The segments that, read as they are, lead from the snapshot to ``reach``; ``None`` where no such do."""
        usable = self._usable()
        ends = [position for position, file in enumerate(usable) if file.base_seq <= reach + 1]
        if not ends or usable[ends[-1]].last_seq < reach:
            return None
        last = usable[ends[-1]]
        kept = [last]
        for file in reversed(usable[: ends[-1]]):
            following = kept[0]
            if file.number + 1 != following.number or file.last_seq < following.base_seq - 1:
                break
            kept.insert(0, file)
        return kept if kept[0].base_seq <= self._base_seq + 1 else None

    def _set_aside_segments(self, kept: list[SegmentFile]) -> None:
        remedy, reach = self.found.remedy, self.found.reach
        last_number = kept[-1].number if kept else -1
        below = [file for file in self._survey.segments if kept and file.number < kept[0].number]
        low = kept[0].base_seq - 1 if kept else self._base_seq
        spoiled = low > self._needed_from or any(self._is_spoiled(file) for file in below)
        for file in self._survey.segments:
            if not kept:
                why = "its entries were written anew" if remedy.rescued else "nothing in it can be replayed"
                remedy.moves[file.path] = self._unusable.get(file.number, why)
            elif file.number > last_number:
                remedy.moves[file.path] = self._unusable.get(
                    file.number, f"entry {reach + 1} is damaged or missing, so that nothing behind it can be replayed"
                )
            elif file in below and spoiled:
                why = f"a snapshot covers its entries, and not all of them are there (up to seq {low})"
                remedy.moves[file.path] = self._unusable.get(file.number, why)
        if kept and kept[-1].problem is not None and not kept[-1].torn:
            remedy.cut = kept[-1], kept[-1].end

    def _is_spoiled(self, file: SegmentFile) -> bool:
        return file.number in self._unusable or any(problem.path == file.path for problem in self.found.problems)


def _problem_of(error: PerdureError, path: str, seq: int | None) -> Problem:
    return Problem(error.path or path, error.message, error.offset, error.seq if error.seq is not None else seq)


def _notes(survey: Survey) -> list[str]:
    notes = []
    for file in survey.segments:
        if file.torn:
            notes.append(
                f"{file.name} ends in {file.size_bytes - file.end} bytes that never became durable as a whole; the "
                "next opening keeps them in a side file and goes on"
            )
    if survey.cuts:
        notes.append(f"torn tails kept in cut/: {', '.join(survey.cuts)}")
    if survey.quarantine:
        notes.append(f"set aside in quarantine/: {', '.join(survey.quarantine)}")
    if survey.temporaries:
        notes.append(f"left by an interrupted write, deleted at the next opening: {', '.join(survey.temporaries)}")
    if survey.foreign:
        notes.append(f"other files, never touched: {', '.join(survey.foreign)}")
    return notes
