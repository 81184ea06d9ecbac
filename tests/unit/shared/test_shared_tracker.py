"""Eight workers, of which some are killed at random, and the owner among them, finish a thousand jobs."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from perdure.mapping import Tracker
from perdure.shared import SharedTracker
from tests.unit.shared._processes import DEADLINE_S

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
JOBS = 1000
WORKERS = 8
KILLS = {"fork": 12, "spawn": 6}


def work(path: str, log_path: str) -> None:
    """A worker: writes down when it begins and ends each job, so that it can be seen who had it when."""
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    tracker = SharedTracker(path)
    while True:
        keys = tracker.claim()
        if not keys:
            if tracker.num_done() == JOBS:
                return
            time.sleep(0.005)
            continue
        (key,) = keys
        os.write(log, f"begin {key} {time.monotonic_ns()}\n".encode())
        time.sleep(0.002)
        os.write(log, f"end {key} {time.monotonic_ns()}\n".encode())
        tracker.mark_done(key)


class Turn(NamedTuple):
    """From when to when somebody had a job; without an end it had it until it was killed."""

    begin_ns: int
    end_ns: int
    worker: int


def turns_of(folder: Path, killed_ns: dict[int, int]) -> dict[str, list[Turn]]:
    turns: dict[str, list[Turn]] = {}
    for number, path in enumerate(sorted(folder.iterdir())):
        begun: dict[str, int] = {}
        for line in path.read_text().splitlines():
            what, key, at_ns = line.split()
            if what == "begin":
                begun[key] = int(at_ns)
            else:
                turns.setdefault(key, []).append(Turn(begun.pop(key), int(at_ns), number))
        for key, begin_ns in begun.items():
            turns.setdefault(key, []).append(Turn(begin_ns, killed_ns[int(path.name)], number))
    return turns


class Crew:
    """The workers; it kills some and puts others in their place."""

    def __init__(self, method: str, path: Path, logs: Path) -> None:
        self.context: Any = multiprocessing.get_context(method)
        self.path, self.logs = path, logs
        self.killed_ns: dict[int, int] = {}
        self.workers: list[Any] = []
        self.count = 0
        for _ in range(WORKERS):
            self.start()

    def start(self) -> None:
        log = str(self.logs / f"{self.count:03}")
        child = self.context.Process(target=work, args=(str(self.path), log), name=str(self.count))
        child.start()
        self.workers.append(child)
        self.count += 1

    def kill(self, child: Any) -> None:
        # Taken before: from here on it may be dead.
        self.killed_ns[int(child.name)] = time.monotonic_ns()
        os.kill(child.pid, signal.SIGKILL)
        child.join(DEADLINE_S)
        self.workers.remove(child)
        child.close()

    def owner(self) -> Any:
        try:
            pid = json.loads((self.path / "owner").read_text())["process"]
        except (OSError, ValueError):
            return None  # Just being written.
        return next((child for child in self.workers if child.pid == pid), None)

    def begun(self) -> int:
        return sum(path.read_text().count("begin") for path in self.logs.iterdir())

    def end(self) -> list[int]:
        codes = []
        for child in self.workers:
            child.join(DEADLINE_S)
            codes.append(child.exitcode)
            child.kill()
            child.join()
            child.close()
        return codes


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_thousand_jobs_are_done_whoever_is_killed(method: str, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    chance = random.Random(method)
    with Tracker(tmp_path / "jobs") as tracker:
        tracker.add_many(range(JOBS))
    crew = Crew(method, tmp_path / "jobs", logs)
    owners_killed = 0
    try:
        for number in range(KILLS[method]):
            deadline_s = time.monotonic() + DEADLINE_S
            while crew.begun() < (number + 1) * JOBS // (KILLS[method] + 2):
                assert time.monotonic() < deadline_s, "nothing goes on any more"
                time.sleep(0.01)
            victim = crew.owner() if number % 2 == 0 else chance.choice(crew.workers)
            if victim is not None:
                owners_killed += number % 2 == 0
                crew.kill(victim)
                crew.start()
    finally:
        codes = crew.end()
    assert set(codes) == {0}
    assert owners_killed
    with Tracker(tmp_path / "jobs") as tracker:
        assert tracker.num_done() == JOBS
        assert tracker.counts()["claimed"] == 0
    turns = turns_of(logs, crew.killed_ns)
    assert set(turns) == {str(key) for key in range(JOBS)}
    for key, held in turns.items():
        held.sort()
        for one, other in itertools.pairwise(held):
            assert other.begin_ns >= one.end_ns, f"two workers had job {key} at once: {one}, {other}"
    # Only what was under way when its worker was killed is done again.
    assert sum(len(held) for held in turns.values()) <= JOBS + len(crew.killed_ns)


def test_what_a_dead_worker_had_is_handed_on(tmp_path: Path) -> None:
    with SharedTracker(tmp_path / "jobs", lease_s=3600) as tracker:
        tracker.add("a")
        child = multiprocessing.get_context("fork").Process(target=claim_and_wait, args=(tracker,))
        child.start()
        while not tracker.counts()["claimed"]:
            time.sleep(0.005)
        assert tracker.claim() == []
        child.kill()
        child.join()
        child.close()
        assert tracker.claim() == ["a"]
        assert tracker.tries("a") == 2


def claim_and_wait(tracker: SharedTracker) -> None:
    tracker.claim()
    time.sleep(DEADLINE_S)
