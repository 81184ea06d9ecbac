"""Every single call of the disk fails, in every way, under a program that never gives up."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from perdure.errors import CorruptError, LockedError, MissingError, StorageError, WriteError
from perdure.fs import Fs
from perdure.testing import FaultyFs, crashsim, failing_everywhere
from perdure.testing.crashsim import Log
from tests.crash import _figures as figures
from tests.crash._ledger import Ledger, payload
from tests.crash._mistakes import CarelessFs, make
from tests.crash._workloads import STORE, check, check_store

ENTRIES = 9
ATTEMPTS = 5

PLANS = [
    ("once", errno.EIO),
    ("once", errno.ENOSPC),
    ("once", errno.EMFILE),
    ("once", errno.EINTR),
    ("sticky", errno.EIO),
    ("full", errno.ENOSPC),
    ("partial", errno.ENOSPC),
    ("partial", errno.EDQUOT),
    ("short", 0),
    ("lying", errno.EIO),
    ("lying-cached", errno.EIO),
]


class Stubborn:
    """Calls again after every error, with the same object while that is usable, and opens again when it is not."""

    def __init__(self, directory: str, fs: Fs, log: Log | None = None) -> None:
        self._log = log or Log([])
        self.directory = directory
        self.fs = fs
        self.acknowledged = 0
        self.tried = 0
        self.surprises: list[str] = []

    def run(self) -> None:
        store: Ledger | None = None
        for _ in range(ATTEMPTS):
            try:
                for entries in (ENTRIES // 2, ENTRIES):
                    store = store or self._open()
                    self._work(store, entries)
                    ending, store = store, None
                    ending.close()
                break
            except (WriteError, StorageError) as error:
                if isinstance(error, CorruptError | MissingError | LockedError):
                    self.surprises.append(f"{type(error).__name__}: {error}")
                if store is not None and (store.journal is None or store.journal.failure is not None):
                    self._close(store)
                    store = None
        if store is not None:
            self._close(store)

    def _open(self) -> Ledger:
        store = Ledger(self.directory, self.fs)
        if len(store.values) < self.acknowledged:
            self.surprises.append(f"{len(store.values)} entries where {self.acknowledged} were acknowledged")
        # What was shown must stay, too.
        self._promise(len(store.values))
        return store

    def _work(self, store: Ledger, entries: int) -> None:
        while (count := len(store.values)) < entries:
            step = 3 if count == 4 else 1
            self.tried = max(self.tried, count + step)
            self._log.tried(self.tried)
            store.append([payload(seq) for seq in range(count + 1, count + step + 1)])
            self._promise(count + step)
            if count == 2:
                store.mark()
            if count in (3, 7):
                store.snapshot()

    def _promise(self, count: int) -> None:
        self.acknowledged = max(self.acknowledged, count)
        self._log.acknowledged(self.acknowledged)

    def _close(self, store: Ledger) -> None:
        # An error here takes nothing back: no new promise was made.
        with contextlib.suppress(WriteError):
            store.close()


def sweep(
    directory: str, mode: str, error: int, wrapped: Callable[[Fs], Fs] = lambda fs: fs, *, only: slice = slice(None)
) -> tuple[int, list[str]]:
    """One run per call that can fail; how many there were, and what went wrong."""
    problems: list[str] = []
    turns = 0
    for fs in islice(failing_everywhere(mode, error), only.start, only.stop, only.step):  # type: ignore[arg-type]
        turns += 1
        shutil.rmtree(directory, ignore_errors=True)
        program = Stubborn(directory, wrapped(fs))
        program.run()
        fs.drop_caches()
        where = f"{mode} {errno.errorcode.get(error, '')} at {fs.fired}"
        problems += [f"{where}: {surprise}" for surprise in program.surprises]
        if fs.open_fds:
            problems.append(f"{where}: left open {sorted(fs.open_fds.values())}")
        fs.close_leaked()
        problem = check_store(directory, program.acknowledged, program.tried)
        if problem is not None:
            problems.append(f"{where}: {problem}")
    return turns, problems


@pytest.fixture
def directory(tmp_path: Path) -> str:
    # In memory where that is possible: there are thousands of syncs.
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    if parent is None:
        return str(tmp_path / STORE)
    place = os.path.join(parent, f"perdure-{os.getpid()}-{tmp_path.name}")
    return place


@pytest.fixture(autouse=True)
def _tidy(directory: str) -> object:
    yield
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize(("mode", "error"), PLANS)
def test_nothing_acknowledged_is_lost_whichever_call_fails(mode: str, error: int, directory: str) -> None:
    turns, problems = sweep(directory, mode, error)
    figures.tried(figures.DISK_FAILURES, turns, problems)
    assert turns > 5


def test_short_writes_everywhere_change_nothing(directory: str) -> None:
    fs = FaultyFs(short_writes=True)
    program = Stubborn(directory, fs)
    program.run()
    assert not program.surprises
    assert program.acknowledged == ENTRIES
    assert not fs.open_fds
    assert check_store(directory, ENTRIES, ENTRIES) is None


def test_full_disk_refuses_entries_and_takes_them_again_when_there_is_room(directory: str) -> None:
    for fs in failing_everywhere("full", errno.ENOSPC):
        shutil.rmtree(directory, ignore_errors=True)
        try:
            store = Ledger(directory, fs)
        except WriteError:
            continue
        outcomes = []
        for seq in range(1, 8):
            try:
                store.append([payload(seq)])
            except WriteError as error:
                outcomes.append(error.outcome)
                assert store.journal is not None
                assert store.journal.failure is None
                assert store.read() == [payload(each) for each in range(1, seq)]
                fs.make_room()
                store.append([payload(seq)])
        store.close()
        assert outcomes in ([], ["not-written"])
        assert check_store(directory, 7, 7) is None


def test_nothing_is_appended_to_a_file_whose_sync_failed(directory: str) -> None:
    for fs in failing_everywhere("once", errno.EIO, of={"sync"}):
        shutil.rmtree(directory, ignore_errors=True)
        Stubborn(directory, fs).run()
        if fs.fired is not None and fs.fired.path.startswith(os.path.join(directory, "journal-")):
            later = [call for call in fs.calls[fs.fired.number :] if call.path == fs.fired.path]
            assert "write" not in {call.name for call in later if ".tmp-" not in call.path}


# --- an error and then a power cut ---


def refused_batches(mode: str, fail_at: int) -> Callable[[str, Fs, Log], None]:
    """Entries, one of whose writes is refused; what was refused is never tried again."""

    def run(directory: str, fs: Fs, log: Log) -> None:
        faulty = FaultyFs(fail_at=fail_at, mode=mode, error=errno.ENOSPC, inner=fs)  # type: ignore[arg-type]
        store = Ledger(os.path.join(directory, STORE), faulty)
        try:
            for step in (1, 3, 1, 3, 1):
                count = len(store.values)
                log.tried(count + step)
                try:
                    store.append([payload(seq) for seq in range(count + 1, count + step + 1)])
                except WriteError as error:
                    if error.outcome == "not-written":
                        log.tried(count)
                    return
                log.acknowledged(count + step)
        finally:
            # Not closed in order: the machine dies here.
            faulty.close_leaked()

    return run


@pytest.mark.parametrize("fail_at", range(2, 7))
@pytest.mark.parametrize("model", ["posix", "btrfs", "ext4"])
def test_refused_entries_do_not_come_back_after_a_power_cut(model: str, fail_at: int) -> None:
    report = crashsim.explore(refused_batches("partial", fail_at), check, models=[model], limit=64)
    figures.explored(report)


def failing_once(mode: str, fail_at: int) -> tuple[Callable[[str, Fs, Log], None], list[FaultyFs]]:
    """The stubborn program on a disk that fails at this call, and where to see whether it did."""
    used: list[FaultyFs] = []

    def run(directory: str, fs: Fs, log: Log) -> None:
        faulty = FaultyFs(fail_at=fail_at, mode=mode, inner=fs)  # type: ignore[arg-type]
        used.append(faulty)
        program = Stubborn(os.path.join(directory, STORE), faulty, log)
        program.run()
        faulty.close_leaked()
        assert not program.surprises

    return run, used


def error_then_cut(mode: str, model: str, first: int, step: int, limit: int, seconds_max: float | None = None) -> int:
    deadline = None if seconds_max is None else time.monotonic() + seconds_max
    fail_at = first
    while deadline is None or time.monotonic() < deadline:
        run, used = failing_once(mode, fail_at)
        report = crashsim.explore(run, check, models=[model], limit=limit)
        figures.explored(report, f"{mode} at call {fail_at}")
        if used[0].fired is None:
            break
        fail_at += step
    return fail_at


@pytest.mark.parametrize(("mode", "step"), [("once", 29), ("partial", 5)])
def test_a_failing_call_and_then_a_power_cut_lose_nothing(mode: str, step: int) -> None:
    assert error_then_cut(mode, "ext4", first=3, step=step, limit=8) > 10


@pytest.mark.crash
@pytest.mark.parametrize("model", ["posix", "btrfs", "ext4"])
@pytest.mark.parametrize("mode", ["once", "partial", "sticky"])
def test_failing_calls_and_power_cuts_at_length(mode: str, model: str, crash_seconds: float) -> None:
    # A prime step first, so that little time still reaches every part of the run.
    half = crash_seconds / 2
    error_then_cut(mode, model, first=1, step=7, limit=24, seconds_max=half)
    error_then_cut(mode, model, first=1, step=1, limit=24, seconds_max=half)


# --- at length, and the test of the tests ---


@pytest.mark.crash
@pytest.mark.parametrize("mode", ["once", "sticky", "full", "partial", "lying", "lying-cached"])
def test_failing_disk_at_length(mode: str, directory: str, crash_seconds: float) -> None:
    """Each errno there is, one after the other."""
    deadline = time.monotonic() + crash_seconds
    for error in errno.errorcode:
        if time.monotonic() > deadline:
            return
        turns, problems = sweep(directory, mode, error)
        figures.tried(figures.DISK_FAILURES, turns, problems)


@pytest.mark.mistake
@pytest.mark.parametrize(
    ("mistake", "mode"),
    [("partial record stays", "partial"), ("sync retried", "lying"), ("sync retried", "lying-cached")],
)
def test_mistakes_of_the_library_are_found(
    mistake: str, mode: str, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(mistake, monkeypatch)
    _, problems = sweep(directory, mode, errno.EIO)
    figures.found(mistake, problems)


@pytest.mark.mistake
@pytest.mark.parametrize(("mistake", "mode"), [("short write ignored", "short"), ("cache believed", "lying-cached")])
def test_mistakes_of_the_file_system_layer_are_found(mistake: str, mode: str, directory: str) -> None:
    _, problems = sweep(directory, mode, errno.EIO, lambda fs: CarelessFs(fs, {mistake}))
    figures.found(mistake, problems)


def opens_twice(directory: str, fs: Fs) -> bool:
    first = Ledger(directory, fs)
    try:
        Ledger(directory, fs).close()
    except LockedError:
        return False
    finally:
        first.close()
    return True


@pytest.mark.mistake
def test_a_second_writer_is_refused_and_a_missing_lock_is_found(directory: str) -> None:
    assert not opens_twice(directory, Fs())
    figures.found("no lock", opens_twice(directory, CarelessFs(Fs(), {"no lock"})))
