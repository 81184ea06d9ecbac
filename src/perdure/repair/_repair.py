"""Setting a damaged directory right, without losing a byte of it.

What a crash leaves at each step, and why repairing again comes to the same end:

1. Before the first change: a quarantine folder with a report that says what was going to be done.
2. While entries are written anew: a temporary file; then the finished segment under a number of its own, behind all
   others. Its first entry is the one behind the snapshot, so from that moment on opening reads it and nothing older.
3. While a segment is cut: its file has a second name in the quarantine folder, durable; then its good beginning
   replaces it, wholly or not at all. Later segments are still there, so opening refuses until they are gone: at no
   moment can the damage be taken for a torn tail.
4. While files are moved to the quarantine folder: each of them is in one place or in the other. Those that are left
   are either not read (step 2, snapshots) or make opening refuse (step 3).

Whatever was moved is not looked at again, and whatever was not is found to be wrong again.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from perdure.clock import Clock, WallClock, from_ns
from perdure.errors import CorruptError, StorageError, WriteError
from perdure.fs import DirectoryLock, Fs, check_private, existing_directory
from perdure.journal import BINARY, Framing, SegmentHeader
from perdure.machine import QUARANTINE_DIRECTORY
from perdure.records import MAC_BYTES, Chain, Entry
from perdure.repair._diagnosis import Diagnosis, Remedy, diagnose
from perdure.repair._salvage import entries_in, write_segment
from perdure.repair._survey import survey

REPORT_NAME = "report.json"


@dataclass
class RepairReport:
    """What was done. ``folder``: where everything that was taken away lies. ``reach``: the last seq that is left.

    ``lost_first`` and ``lost_last``: entries that were there once and cannot be replayed; both 0 where there are none.
    """

    path: str
    folder: str | None = None
    state: str = "nothing to do"
    at: str = ""
    problems: list[str] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    written_anew: list[int] = field(default_factory=list)
    reach: int = 0
    lost_first: int = 0
    lost_last: int = 0

    @property
    def lost_count(self) -> int:
        return self.lost_last - self.lost_first + 1 if self.lost_last else 0


def repair(
    directory: str,
    *,
    fs: Fs | None = None,
    secrets: Sequence[bytes] = (),
    framing: Framing = BINARY,
    clock: Clock | None = None,
    expected: Remedy | None = None,
) -> RepairReport:
    """Takes the directory's lock and makes it one that opens and verifies.

    Everything that is taken away is kept, whole, in a folder below ``quarantine/``, with a report. ``expected``: what
    somebody was asked about; anything else is refused.

    Raises:
        LockedError: somebody writes here. Nothing was changed.
        CorruptError: it cannot be repaired from what is there. Nothing was changed.
        WriteError: the disk refused half way. Nothing is lost; repair again.
        and what ``survey`` raises.
    """
    fs = fs or Fs()
    path = existing_directory(directory)
    check_private(fs, path)
    lock = DirectoryLock(fs, path)
    try:
        diagnosis = diagnose(survey(path, fs=fs, secrets=secrets), fs=fs, secrets=secrets)
        remedy = diagnosis.remedy
        if expected is not None and _outline(expected) != _outline(remedy):
            raise StorageError("the directory has changed meanwhile; nothing was done", path=path, hint="look again")
        report = plan(diagnosis, clock or WallClock())
        if remedy.impossible is not None:
            raise CorruptError(f"it cannot be repaired: {remedy.impossible}", path=path)
        if not remedy.is_needed:
            return report
        with _mapped(path):
            _Surgeon(path, fs, framing, Chain(tuple(secrets)) if secrets else None, report).operate(diagnosis)
            after = diagnose(survey(path, fs=fs, secrets=secrets), fs=fs, secrets=secrets)
        if after.problems:
            raise StorageError(
                f"after the repair there is still something wrong: {after.problems[0].message}", path=path
            )
        return report
    finally:
        lock.release()


def plan(diagnosis: Diagnosis, clock: Clock | None = None) -> RepairReport:
    """What a repair would report."""
    remedy, path = diagnosis.remedy, diagnosis.survey.path
    at = from_ns((clock or WallClock()).time_ns())
    report = RepairReport(path, at=at.isoformat(), reach=diagnosis.reach)
    report.problems = [_in_words(problem.path, problem.message, problem.offset) for problem in diagnosis.problems]
    report.moved = {os.path.basename(name): why for name, why in remedy.moves.items()}
    if remedy.cut is not None:
        file, end = remedy.cut
        report.cut = {file.name: end}
    if remedy.rescued:
        report.written_anew = [remedy.rescued[0].first, remedy.rescued[-1].last]
    if diagnosis.lost_count:
        report.lost_first, report.lost_last = diagnosis.reach + 1, diagnosis.known_seq
    return report


def _in_words(path: str, message: str, offset: int | None) -> str:
    return f"{os.path.basename(path)}{'' if offset is None else f', byte {offset}'}: {message}"


def _outline(remedy: Remedy) -> object:
    cut = None if remedy.cut is None else (remedy.cut[0].path, remedy.cut[1])
    return (
        remedy.moves,
        cut,
        [(run.path, run.first, run.last) for run in remedy.rescued],
        remedy.new_number,
        remedy.impossible,
    )


@contextlib.contextmanager
def _mapped(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"the disk refused: {error.strerror or error}",
            outcome="unknown",
            path=error.filename if isinstance(error.filename, str) else path,
            hint="nothing is lost: repair again, once there is room",
        ) from error


class _Surgeon:
    def __init__(self, path: str, fs: Fs, framing: Framing, chain: Chain | None, report: RepairReport) -> None:
        self._path = path
        self._fs = fs
        self._framing = framing
        self._chain = chain
        self._report = report

    def operate(self, diagnosis: Diagnosis) -> None:
        remedy, report = diagnosis.remedy, self._report
        folder = report.folder = self._make_folder(report.at)
        self._write_report("begun")
        if remedy.new_number:
            self._write_anew(diagnosis)
        if remedy.cut is not None:
            self._cut(remedy.cut[0].path, remedy.cut[1], folder)
        for path in remedy.moves:
            self._fs.rename(path, os.path.join(folder, os.path.basename(path)))
            # Both sides: a name must not be gone in one before it is durable in the other.
            self._fs.sync_directory(folder)
            self._fs.sync_directory(self._path)
        self._write_report("finished")

    def _make_folder(self, at: str) -> str:
        stamp = datetime.datetime.fromisoformat(at).strftime("%Y%m%dT%H%M%S.%fZ")
        folder = os.path.join(self._path, QUARANTINE_DIRECTORY, stamp)
        count = 1
        while self._fs.exists(folder):
            count += 1
            folder = os.path.join(self._path, QUARANTINE_DIRECTORY, f"{stamp}-{count}")
        self._fs.make_directory(folder)
        return folder

    def _write_report(self, state: str) -> None:
        assert self._report.folder is not None
        self._report.state = state
        text = msgspec.json.format(msgspec.json.encode(self._report), indent=2)
        self._fs.write_atomically(os.path.join(self._report.folder, REPORT_NAME), [text, b"\n"])

    def _write_anew(self, diagnosis: Diagnosis) -> None:
        remedy, base = diagnosis.remedy, diagnosis.base
        assert base is not None
        assert base.snapshot is not None
        sources = {file.path: file.header for file in diagnosis.survey.segments}
        first = sources.get(remedy.rescued[0].path) if remedy.rescued else None
        header = SegmentHeader(
            number=remedy.new_number,
            base_seq=base.seq + 1,
            created_ns=base.snapshot.header.at_ns,
            log_id=base.snapshot.header.log_id,
            durability=0 if first is None else first.durability,
            chain_start=bytes(MAC_BYTES),
            description=dict(base.snapshot.header.description if first is None else first.description),
        )
        chain = None if self._chain is None else self._chain.at(header.chain_start)
        write_segment(self._fs, self._framing, self._path, header, self._rescued(remedy, base.seq), chain)

    def _rescued(self, remedy: Remedy, seq: int) -> Iterator[Entry]:
        for run in remedy.rescued:
            for entry in entries_in(self._fs, self._framing, run, seq, run.last, self._chain):
                if entry.seq != seq + 1:
                    raise StorageError("the file has changed meanwhile", path=run.path, seq=seq + 1)
                seq = entry.seq
                yield entry
        if remedy.rescued and seq != remedy.rescued[-1].last:
            raise StorageError("the file has changed meanwhile", path=remedy.rescued[-1].path, seq=seq + 1)

    def _cut(self, path: str, end: int, folder: str) -> None:
        """Leaves the first ``end`` bytes of a file in its place, and the whole of it in the folder."""
        fs = self._fs
        whole = fs.read_all(path)
        kept = os.path.join(folder, os.path.basename(path))
        try:
            # A second name costs no room, so this works on a full disk, too.
            fs.link(path, kept)
            fs.sync_directory(folder)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                fs.unlink(kept)
            fs.write_atomically(kept, [whole])
        fs.write_atomically(path, [whole[:end]])
