"""Ctrl-C at every line of the library, under a program that carries on: as a notebook does."""

from __future__ import annotations

import dis
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import perdure.fs
import perdure.journal
import perdure.records
import perdure.snapshots
from perdure.errors import PerdureError
from perdure.fs import DirectoryLock, Fs
from perdure.testing import FaultyFs
from tests.crash import _figures as figures
from tests.crash._ledger import Ledger, payload
from tests.crash._mistakes import make
from tests.crash._workloads import check_store

FILES = frozenset(
    str(path)
    for module in (perdure.journal, perdure.snapshots)
    for path in Path(str(module.__file__)).parent.glob("*.py")
) | {str(perdure.records.__file__)}
ENTRIES = 7
ATTEMPTS = 4


_CALLS = frozenset(dis.opmap[name] for name in ("CALL", "CALL_FUNCTION_EX", "CALL_KW") if name in dis.opmap)
_NOTICING = _CALLS | {dis.opmap["RESUME"], dis.opmap["JUMP_BACKWARD"]}


class InterruptAtLine:
    """Raises ``KeyboardInterrupt`` at the n-th moment in ``FILES`` at which the interpreter could have; once.

    It looks for signals where a function begins, where a loop goes round, and behind a call of something that is not
    written in Python; nowhere else. So ``finally: flag = False`` cannot be torn apart, nor the end of a ``with`` block
    and the release of its lock. Only the first such moment of each line is counted: lines are short.
    """

    def __init__(self, line: int, files: frozenset[str] | None = None) -> None:
        self._files = FILES if files is None else files
        self._left = line
        # Of each running function: the instruction executed last, and the line whose moment was counted last.
        self._last: dict[FrameType, tuple[int, int | None]] = {}
        self.where: str | None = None

    def __enter__(self) -> InterruptAtLine:
        self._before = sys.gettrace()
        # Here, too: 3.12 only looks at single instructions if somebody wants that before the tracing begins.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self._enter_frame)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)
        self._last.clear()

    def _enter_frame(self, frame: FrameType, event: str, argument: Any) -> Any:
        caller = frame.f_back
        if caller is not None and caller in self._last:
            # What it called is written in Python: no signal is looked for when that returns.
            self._last[caller] = -1, self._last[caller][1]
        if self.where is not None or frame.f_code.co_filename not in self._files:
            return None
        frame.f_trace_opcodes = True
        self._last[frame] = dis.opmap["RESUME"], None
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "return":
            self._last.pop(frame, None)
        elif event == "opcode" and self.where is None:
            before, counted = self._last.get(frame, (-1, None))
            if before in _NOTICING and counted != frame.f_lineno:
                counted = frame.f_lineno
                self._left -= 1
            self._last[frame] = frame.f_code.co_code[frame.f_lasti], counted
            if self._left == 0:
                self.where = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} {frame.f_code.co_name}"
                self._last.clear()  # From here on nothing is traced, and no frame may be kept alive.
                raise KeyboardInterrupt
        return self._step


class Notebook:
    """Runs its cells again after an interrupt, with the same object while that takes entries."""

    def __init__(self, directory: str, fs: Fs) -> None:
        self.directory = directory
        self.fs = fs
        self.acknowledged = 0
        self.tried = 0
        self.surprises: list[str] = []
        self.reopened = 0
        self._store: Ledger | None = None

    def run(self) -> None:
        for _ in range(ATTEMPTS):
            try:
                self._cell()
                break
            except KeyboardInterrupt:
                continue
            except PerdureError as error:
                self.surprises.append(f"{type(error).__name__}: {error}")
                self._close()
        self._close()

    def _cell(self) -> None:
        if self._store is None or self._store.journal is None or self._store.journal.failure is not None:
            self._close()
            self._store = Ledger(self.directory, self.fs)
            self.reopened += 1
        self._catch_up(self._store)
        while (count := len(self._store.values)) < ENTRIES:
            step = 2 if count == 3 else 1
            self.tried = max(self.tried, count + step)
            self._store.append([payload(seq) for seq in range(count + 1, count + step + 1)])
            self.acknowledged = max(self.acknowledged, count + step)
            if count == 1:
                self._store.mark()
            if count in (2, 5):
                self._store.snapshot(keep=1)
        self._close()

    def _catch_up(self, store: Ledger) -> None:
        """What the journal took before the interrupt came, and nobody was told of."""
        assert store.journal is not None
        store.journal.sync()
        if store.journal.last_seq > len(store.values):
            store.values += [entry.payload for entry in store.journal.read(len(store.values))]
        self.acknowledged = max(self.acknowledged, len(store.values))

    def _close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            try:
                store.close()
            except KeyboardInterrupt:
                # The lock is what must not stay behind.
                store._lock.release()
                raise


def interrupted(directory: str, line: int) -> tuple[str | None, str | None]:
    """Where it was interrupted, if the run has so many lines, and what is wrong after it."""
    shutil.rmtree(directory, ignore_errors=True)
    fs = FaultyFs()
    program = Notebook(directory, fs)
    with InterruptAtLine(line) as interrupt:
        program.run()
    fs.close_leaked()
    problem = "; ".join(program.surprises) or check_store(directory, program.acknowledged, program.tried)
    if problem is None and program.acknowledged != ENTRIES:
        problem = f"gave up after {program.acknowledged} entries"
    return interrupt.where, problem


def sweep(directory: str, first: int, step: int, seconds_max: float | None = None) -> tuple[int, list[str]]:
    deadline = None if seconds_max is None else time.monotonic() + seconds_max
    problems = []
    count = 0
    line = first
    while deadline is None or time.monotonic() < deadline:
        where, problem = interrupted(directory, line)
        if where is None:
            break
        count += 1
        line += step
        if problem is not None:
            problems.append(f"interrupted before {where} (line {line - step} of the run): {problem}")
    return count, problems


@pytest.fixture
def directory() -> Iterator[str]:
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    place = tempfile.mkdtemp(prefix="perdure-", dir=parent)
    yield os.path.join(place, "ledger")
    shutil.rmtree(place)


def test_an_interrupt_at_any_line_loses_nothing(directory: str) -> None:
    count, problems = sweep(directory, first=1, step=3)
    figures.tried(figures.INTERRUPTS, count, problems)
    assert count > 60


def test_an_interrupt_while_the_lock_is_taken_leaves_no_lock(tmp_path: Path) -> None:
    line = 0
    taken = None
    files = frozenset({str(perdure.fs.__file__)})
    while taken is None:
        line += 1
        with InterruptAtLine(1_000_000, files):
            # 3.13 tells of single instructions only from the second traced call of a function on.
            DirectoryLock(Fs(), str(tmp_path)).release()
        with InterruptAtLine(line, files):
            try:
                taken = DirectoryLock(Fs(), str(tmp_path))
            except KeyboardInterrupt:
                # This is what must be possible after it.
                DirectoryLock(Fs(), str(tmp_path)).release()
    taken.release()
    assert line > 3


@pytest.mark.crash
@pytest.mark.parametrize("first", range(1, 4))
def test_interrupts_at_length(first: int, directory: str, crash_seconds: float) -> None:
    count, problems = sweep(directory, first=first, step=3, seconds_max=crash_seconds)
    figures.tried(figures.INTERRUPTS, count, problems)
    assert count


@pytest.mark.mistake
def test_a_mark_that_comes_too_late_is_found(directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make("failure marked afterwards", monkeypatch)
    monkeypatch.setattr("tests.crash.test_interrupts.FILES", FILES | {str(make.__code__.co_filename)})
    problems = (interrupted(directory, line)[1] for line in range(1, 2000))
    figures.found("failure marked afterwards", next(filter(None, problems), None))
