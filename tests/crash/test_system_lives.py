"""Power cuts over what happens beside commands: forked snapshots, tasks, readers beside the writer, closing, repair."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.errors import PerdureError
from perdure.fs import Fs
from perdure.journal import BINARY, DirectoryFollower
from perdure.repair import repair
from perdure.testing import WrappingFs, crashsim
from perdure.testing.crashsim import Log, Workload
from tests.crash import _figures as figures
from tests.crash._mistakes import CarelessFs, make
from tests.crash._workloads import SCRIPTS, STORE, check, workload
from tests.unit.system.models import Counter

MODELS = ("posix", "btrfs", "ext4")


def check_counter(directory: str, acknowledged: int, tried: int) -> str | None:
    """1, 2, 3, … as far as was answered, and not beyond what was called."""
    try:
        counter = perdure.open(Counter, os.path.join(directory, "c"), snapshot="manual")
    except PerdureError as error:
        return f"refused: {error}"
    found = list(counter.added)
    perdure.control(counter).close()
    if found != list(range(1, len(found) + 1)) or not acknowledged <= len(found) <= tried:
        return f"{found}; {acknowledged} answered, {tried} called"
    return None


def add(counter: Any, log: Log) -> None:
    number = len(counter.added) + 1
    log.tried(number)
    counter.add(number)
    log.acknowledged(number)


# ---- snapshots that a child writes


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Every snapshot is written by a forked child, however small the state is. The ids of those that were forked."""
    from perdure.machine import _machine

    forked: list[int] = []
    fork = _machine.fork_writer

    def counted(write: Any) -> Any:
        child = fork(write)
        forked.append(child._pid)
        return child

    monkeypatch.setattr(_machine, "SNAPSHOT_INLINE_BYTES_MAX", -1)
    monkeypatch.setattr(_machine, "fork_writer", counted)
    yield forked
    assert forked


def forked_snapshots(directory: str, fs: Fs, log: Log) -> None:
    """Commands, and others while the child is writing."""
    counter = perdure.open(Counter, os.path.join(directory, "c"), fs=fs, snapshot="manual")
    for turn in range(2):
        add(counter, log)
        snapshot = threading.Thread(target=perdure.control(counter).take_snapshot)
        snapshot.start()
        for _ in range(1 + turn):
            add(counter, log)
        snapshot.join()
    perdure.control(counter).close()


@pytest.mark.parametrize("model", MODELS)
def test_snapshots_of_a_forked_child_keep_the_promise(model: str, children: list[int]) -> None:
    report = crashsim.explore(forked_snapshots, check_counter, models=[model], limit=24, seconds_max=8)
    figures.explored(report)
    assert len(children) >= 2


@pytest.mark.mistake
def test_a_child_that_does_not_sync_is_found(children: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    make("snapshot unsynced", monkeypatch)
    report = crashsim.explore(forked_snapshots, check_counter, models=["posix"], limit=100, failures_max=1)
    figures.found("a forked child's snapshot unsynced", report.failures)


@pytest.mark.crash
def test_snapshots_of_a_forked_child_at_length(children: list[int], crash_seconds: float) -> None:
    report = crashsim.explore(
        forked_snapshots, check_counter, limit=400, nested=True, kill_restart=True, seconds_max=crash_seconds
    )
    figures.explored(report)


# ---- group commit from tasks


class Tasks:
    """Tasks of one event loop, each adding numbers of its own through threads, as an asyncio program must."""

    def __init__(self, turns: int) -> None:
        self._turns = turns
        self.tried: list[int] = []
        self.answered: list[int] = []

    def workload(self, directory: str, fs: Fs, log: Log) -> None:
        self.tried, self.answered = [], []
        counter = perdure.open(Counter, os.path.join(directory, "c"), fs=fs, snapshot="manual")

        async def work(task: int) -> None:
            for turn in range(self._turns):
                # No lock: nothing else of this loop runs between two awaits.
                self.tried.append(task * 100 + turn)
                log.tried(len(self.tried))
                await asyncio.to_thread(counter.add, task * 100 + turn)
                self.answered.append(task * 100 + turn)
                log.acknowledged(len(self.answered))

        async def main() -> None:
            await asyncio.gather(*(work(task) for task in range(1, 5)))

        asyncio.run(main())
        perdure.control(counter).close()

    def check(self, directory: str, acknowledged: int, tried: int) -> str | None:
        try:
            counter = perdure.open(Counter, os.path.join(directory, "c"), snapshot="manual")
        except PerdureError as error:
            return f"refused: {error}"
        found = list(counter.added)
        perdure.control(counter).close()
        if lost := set(self.answered[:acknowledged]) - set(found):
            return f"lost: {lost}"
        if phantoms := set(found) - set(self.tried[:tried]):
            return f"phantoms: {phantoms}"
        for task in range(1, 5):
            own = [number for number in found if number // 100 == task]
            if own != [task * 100 + turn for turn in range(len(own))]:
                return f"a hole: {own}"
        return None


def test_group_commit_keeps_its_promise_to_each_task() -> None:
    tasks = Tasks(turns=3)
    report = crashsim.explore(tasks.workload, tasks.check, limit=20, seconds_max=6)
    figures.explored(report)


# ---- a reader beside the writer: what it has shown must stay


class Watched(WrappingFs):
    """After each change that the writer makes, a reader looks; what it sees counts as promised from then on."""

    def __init__(self, inner: Fs, directory: str, log: Log) -> None:
        super().__init__(inner)
        self._directory = directory
        self._log = log
        self._follower: DirectoryFollower | None = None
        self.seen = 0

    def _look(self) -> None:
        # With a file system of its own: it is another process.
        if self._follower is None:
            if not any(name.startswith("journal-") and "tmp" not in name for name in os.listdir(self._directory)):
                return
            self._follower = DirectoryFollower(self._directory, fs=Fs(), framing=BINARY, after=0)
        self.seen += len(self._follower.poll())
        self._log.acknowledged(self.seen)

    def write(self, fd: int, data: Any) -> int:
        taken = super().write(fd, data)
        self._look()
        return taken

    def sync(self, fd: int) -> None:
        super().sync(fd)
        self._look()

    def sync_names(self, directory_fd: int) -> None:
        super().sync_names(directory_fd)
        if os.path.isdir(self._directory):
            self._look()


def watched(script: str, mistake: str = "") -> tuple[Workload, list[Watched]]:
    """A ledger's script, under the eyes of a reader. The scripts must not trim what the reader has not seen."""
    used: list[Watched] = []

    def run(directory: str, fs: Fs, log: Log) -> None:
        outer = fs if not mistake else CarelessFs(fs, {mistake})
        used.append(Watched(outer, os.path.join(directory, STORE), log))
        workload(script)(directory, used[-1], log)

    return run, used


@pytest.mark.parametrize("name", ["rotation", "batches", "marks", "reopened"])
def test_what_a_reader_beside_the_writer_has_shown_survives_a_power_cut(name: str) -> None:
    run, used = watched(SCRIPTS[name])
    report = crashsim.explore(run, check, limit=16)
    figures.explored(report)
    assert used[0].seen >= len(SCRIPTS[name]) // 2


@pytest.mark.mistake
def test_a_reader_that_shows_what_is_not_durable_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def everything(follower: DirectoryFollower, *_: object) -> list[Any]:
        settled, follower._pending = follower._pending, []
        return settled

    monkeypatch.setattr(DirectoryFollower, "_take_settled", everything)
    run, _ = watched(SCRIPTS["rotation"])
    report = crashsim.explore(run, check, models=["ext4"], failures_max=1)
    figures.found("a follower shows what is not durable", report.failures)


# ---- closing


@pytest.mark.parametrize("durability", ["everysec", "never"])
@pytest.mark.parametrize("model", MODELS)
def test_closing_makes_everything_durable_in_every_mode(model: str, durability: str) -> None:
    def run(directory: str, fs: Fs, log: Log) -> None:
        counter = perdure.open(Counter, os.path.join(directory, "c"), fs=fs, durability=durability, snapshot="manual")
        for number in range(1, 5):
            log.tried(number)
            counter.add(number)
            if number == 2:
                perdure.control(counter).sync()
                log.acknowledged(2)
        perdure.control(counter).close()
        log.acknowledged(4)

    report = crashsim.explore(run, check_counter, models=[model], limit=32, seconds_max=8)
    figures.explored(report)
    assert report.points > 10


# ---- repair


def test_a_power_cut_during_a_repair_leaves_something_that_can_be_repaired(tmp_path: Path) -> None:
    with perdure.open(Counter, tmp_path / "c", snapshot="manual", keep_history=True) as counter:
        for number in range(1, 9):
            counter.add(number)
        machine = perdure.control(counter)._system.machine
        assert machine is not None
        machine.close(snapshot=False)
    files = {path.name: path.read_bytes() for path in (tmp_path / "c").iterdir() if path.is_file()}
    (name,) = [name for name in files if name.startswith("journal-")]
    spot = len(files[name]) // 2
    files[name] = files[name][:spot] + bytes([files[name][spot] ^ 1]) + files[name][spot + 1 :]

    def run(directory: str, fs: Fs, log: Log) -> None:
        box = os.path.join(directory, "c")
        fs.make_directory(box)
        for each, data in files.items():
            fs.write_atomically(os.path.join(box, each), [data])
        log.tried(8)
        repair(box, fs=fs)
        log.acknowledged(1)

    def judge(directory: str, acknowledged: int, tried: int) -> str | None:
        box = os.path.join(directory, "c")
        if tried == 0:
            return None
        repair(box)
        with perdure.open(Counter, box, snapshot="manual") as counter:
            found = list(counter.added)
        # What stands before the damage can be replayed, and is.
        if not found or found != list(range(1, len(found) + 1)) or len(found) >= 8:
            return f"{found}"
        return None

    report = crashsim.explore(run, judge, limit=24, seconds_max=10)
    figures.explored(report)
    assert report.points > 20
