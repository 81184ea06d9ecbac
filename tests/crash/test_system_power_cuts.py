"""A power cut at every step of a system's life: commands, outcomes, roll-backs, snapshots, threads, rotation."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import perdure
from perdure.errors import PerdureError
from perdure.fs import Fs
from perdure.testing import crashsim
from perdure.testing.crashsim import Log
from tests.crash import _figures as figures
from tests.crash._mistakes import CarelessFs
from tests.unit.system.interrupting import strike_once
from tests.unit.system.models import Counter, Wiki

Command = Callable[[Any], object]


def snapshot(system: Any) -> object:
    return perdure.control(system).take_snapshot()


def add(number: int) -> Command:
    return lambda counter: counter.add(number)


def note(text: str) -> Command:
    return lambda wiki: wiki.note(text)


SCRIPTS: dict[str, tuple[type, list[Command], dict[str, Any]]] = {
    "single commands": (Counter, [add(1), add(2), add(3)], {}),
    "nothing but creation": (Counter, [], {}),
    "snapshots and retention": (Counter, [add(1), snapshot, add(2), snapshot, snapshot, add(3), snapshot], {}),
    "history is kept": (Counter, [add(1), snapshot, add(2), snapshot, add(3)], {"keep_history": True}),
    "outcomes": (
        Wiki,
        [note("a"), lambda wiki: wiki.fail_half_way("b"), note("c"), lambda wiki: wiki.fail_half_way("d")],
        {},
    ),
    "roll-backs": (
        Wiki,
        [note("a"), lambda wiki: wiki.all_or_nothing("x", ""), note("b"), lambda wiki: wiki.all_or_nothing("y", "")],
        {},
    ),
    "shadow": (Wiki, [note("a"), lambda wiki: wiki.all_or_nothing("x", ""), note("b")], {"rollback": "shadow"}),
    "secret": (Counter, [add(1), snapshot, add(2), add(3)], {"secret": b"a key"}),
    "never": (Counter, [add(1), add(2), snapshot, add(3)], {"durability": "never"}),
    "everysec": (Counter, [add(1), add(2)], {"durability": "everysec"}),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_power_cut_leaves_the_state_after_some_of_the_commands(name: str) -> None:
    factory, commands, options = SCRIPTS[name]
    report = crashsim.explore_system(factory, commands, limit=24, seconds_max=4, **options)
    figures.explored(report)


@pytest.mark.parametrize("name", ["outcomes", "roll-backs", "snapshots and retention"])
def test_a_second_power_cut_and_a_kill_before_it_do_no_harm(name: str) -> None:
    factory, commands, options = SCRIPTS[name]
    report = crashsim.explore_system(
        factory, commands[:3], models=["ext4"], nested=True, kill_restart=True, limit=6, seconds_max=4, **options
    )
    figures.explored(report)


@pytest.mark.crash
@pytest.mark.parametrize("name", SCRIPTS)
def test_power_cuts_over_systems_at_length(name: str, crash_seconds: float) -> None:
    factory, commands, options = SCRIPTS[name]
    deadline = time.monotonic() + crash_seconds
    seed = 0
    while (left := deadline - time.monotonic()) > 0:
        report = crashsim.explore_system(
            factory,
            commands,
            nested=seed % 3 == 1,
            kill_restart=seed % 3 == 2,
            limit=256 if seed % 3 == 0 else 20,
            seed=seed,
            seconds_max=left,
            **options,
        )
        figures.explored(report, f"seed {seed}")
        seed += 1


# ---- threads: the order of answers is not the order of calls, so what was answered is kept by name


class Group:
    """Four threads, each adding numbers of its own. The n-th try and the n-th answer have names."""

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self.tried: list[int] = []
        self.answered: list[int] = []

    def workload(self, directory: str, fs: Fs, log: Log) -> None:
        self.tried, self.answered = [], []
        lock = threading.Lock()
        counter = perdure.open(Counter, os.path.join(directory, "c"), fs=fs)

        def work(thread: int) -> None:
            for turn in range(self._rounds):
                number = thread * 100 + turn
                with lock:
                    self.tried.append(number)
                    log.tried(len(self.tried))
                counter.add(number)
                with lock:
                    self.answered.append(number)
                    log.acknowledged(len(self.answered))

        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        perdure.control(counter).close()

    def check(self, directory: str, acknowledged: int, tried: int) -> str | None:
        try:
            counter = perdure.open(Counter, os.path.join(directory, "c"), snapshot="manual")
        except PerdureError as error:
            return f"refused: {error}"
        found = list(counter.added)
        perdure.control(counter).close()
        if not set(self.answered[:acknowledged]) <= set(found):
            return f"lost: {set(self.answered[:acknowledged]) - set(found)}"
        if not set(found) <= set(self.tried[:tried]):
            return f"phantom: {set(found) - set(self.tried[:tried])}"
        for thread in range(1, 5):
            own = [number for number in found if number // 100 == thread]
            if own != [thread * 100 + turn for turn in range(len(own))]:
                return f"a hole: {own}"
        return None


def test_group_commit_keeps_its_promise_to_each_thread() -> None:
    group = Group(rounds=3)
    report = crashsim.explore(group.workload, group.check, limit=20, seconds_max=6)
    figures.explored(report)


@pytest.mark.crash
def test_group_commit_at_length(crash_seconds: float) -> None:
    deadline = time.monotonic() + crash_seconds
    seed = 0
    while (left := deadline - time.monotonic()) > 0:
        group = Group(rounds=4)
        report = crashsim.explore(group.workload, group.check, limit=200, seed=seed, seconds_max=left)
        figures.explored(report, f"seed {seed}")
        seed += 1


# ---- interrupts: until its caller has been told, the command may also be there wholly


def _interrupted(directory: str, fs: Fs, log: Log) -> None:
    wiki = perdure.open(Wiki, os.path.join(directory, "w"), fs=fs)
    for number, text in enumerate(["a", "interrupted", "b"], 1):
        log.tried(number)
        if text == "interrupted":
            strike_once(text, KeyboardInterrupt())
            with pytest.raises(KeyboardInterrupt):
                wiki.interrupted(text)
        else:
            wiki.note(text)
        log.acknowledged(number)
    perdure.control(wiki).close()


def _check_interrupted(directory: str, acknowledged: int, tried: int) -> str | None:
    try:
        wiki = perdure.open(Wiki, os.path.join(directory, "w"), snapshot="manual")
    except PerdureError as error:
        return f"refused: {error}"
    found = list(wiki.log)
    perdure.control(wiki).close()
    allowed = [[], ["a"], ["a"], ["a", "b"]][acknowledged : tried + 1]
    if acknowledged < 2 <= tried:
        allowed.append(["a", "interrupted"])
    return None if found in allowed else f"{found}; {acknowledged} answered, {tried} called"


def test_an_interrupt_that_was_told_stays_told() -> None:
    report = crashsim.explore(_interrupted, _check_interrupted, limit=24, seconds_max=4)
    figures.explored(report)


# ---- rotation: segments of a few commands


def test_rotation_under_a_system_keeps_its_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    from perdure.system import _open

    place = _open.Place
    monkeypatch.setattr(_open, "Place", lambda *places: place(*places, segment_bytes_max=300))
    commands = [add(1), add(2), snapshot, add(3), lambda counter: counter.refuse(), add(4), add(5), snapshot, add(6)]
    report = crashsim.explore_system(Counter, commands, limit=16, seconds_max=8)
    figures.explored(report)


# ---- the test of the test


@pytest.mark.mistake
def test_a_system_that_does_not_sync_is_found() -> None:
    def careless(directory: str, fs: Fs, log: Log) -> None:
        group.workload(directory, CarelessFs(fs, {"no sync"}), log)

    group = Group(rounds=1)
    report = crashsim.explore(careless, group.check, models=["ext4"], limit=50)
    figures.found("system: no sync", report.failures)


def test_a_state_that_never_was_is_told_apart_from_a_lost_one() -> None:
    flaky: list[int] = []

    def changing(counter: Any) -> None:
        flaky.append(1)
        counter.added.append(len(flaky))
        counter.add(1)

    report = crashsim.explore_system(Counter, [changing], models=["ext4"], limit=10)
    assert report.failures
    assert "never was" in str(report)
