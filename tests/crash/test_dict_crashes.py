"""Dicts through power cuts, failing disks, kills and signals: nothing acknowledged is lost, nothing is half there."""

from __future__ import annotations

import errno
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import PerdureError, WriteError
from perdure.fs import Fs
from perdure.mapping import PersistentDict
from perdure.mapping._lines_snapshots import WrongLineError
from perdure.testing import FaultyFs, failing_everywhere
from perdure.testing._faulty_fs import Mode
from perdure.testing.crashsim import Log, explore
from tests.crash import _figures as figures
from tests.crash._processes import end_by_signal


class TickingClock:
    def __init__(self) -> None:
        self._now_ns = 1_700_000_000_000_000_000

    def time_ns(self) -> int:
        self._now_ns += 1_000_000
        return self._now_ns


Step = Callable[[Any], Any]


def _in_transaction(pod: PersistentDict) -> None:
    with pod.transaction():
        pod["rows"].append({"n": 2})
        del pod["gone"]
        pod["rows"][0]["n"] += 1


def _plain_transaction(model: dict[Any, Any]) -> None:
    model["rows"].append({"n": 2})
    del model["gone"]
    model["rows"][0]["n"] += 1


STEPS: list[tuple[Step, Step]] = [
    (lambda d: d.update(rows=[{"n": 0}], gone=1), lambda d: d.update(rows=[{"n": 0}], gone=1)),
    *[(step, step) for step in (
        lambda d: d["rows"].append({"n": 1}),
        lambda d: d["rows"].insert(0, {"first": []}),
        lambda d: d["rows"][1].update(n=5),
        lambda d: d["rows"].pop(0),
    )],
    (_in_transaction, _plain_transaction),
    *[(step, step) for step in (
        lambda d: d["rows"][-1].pop("n"),
        lambda d: d.__setitem__(("t", 1), {"x": "y" * 300}),
        lambda d: d["rows"].reverse(),
        lambda d: d["rows"][0].update(z=[1]),
        lambda d: d["rows"][0]["z"].extend([2, 3]),
    )],
]  # fmt: skip


def states() -> list[str]:
    """The dict after each number of steps."""
    model: dict[Any, Any] = {}
    found = [shown(model)]
    for _, step in STEPS:
        step(model)
        found.append(shown(model))
    return found


def shown(pod: Any) -> str:
    return json.dumps([[repr(key), value] for key, value in pod.items()])


STATES = states()


def opened(directory: str, fs: Fs | None = None, **options: Any) -> PersistentDict:
    options = {"durability": "always", "file_size": 1000, **options}
    return PersistentDict(f"{directory}/p", fs=fs, clock=TickingClock(), **options)


def inline(pod: PersistentDict) -> None:
    """A forked child cannot be recorded."""
    pod._opened.machine._forks = False  # type: ignore[union-attr]


def workload(directory: str, fs: Fs, log: Log) -> None:
    pod = opened(directory, fs)
    inline(pod)
    with pod:
        start = STATES.index(shown(pod))
        log.acknowledged(start)
        for number, (step, _) in enumerate(STEPS[start:], start + 1):
            log.tried(number)
            step(pod)
            log.acknowledged(number)
            if number in (4, 9):
                pod._opened.machine.snapshot()  # type: ignore[union-attr]


def check(directory: str, acknowledged: int, tried: int) -> str | None:
    with opened(directory) as pod:
        found = shown(pod)
        if found not in STATES[acknowledged : tried + 1]:
            return f"steps {acknowledged} to {tried} were promised, found {found}"
        # It goes on from there.
        position = STATES.index(found)
        if position < len(STEPS):
            STEPS[position][0](pod)
    with opened(directory) as pod:
        if position < len(STEPS) and shown(pod) != STATES[position + 1]:
            return f"the step after {position} is not there: {shown(pod)}"
    return None


def test_power_cuts_at_every_moment() -> None:
    report = explore(workload, check, limit=40, seconds_max=25)
    figures.explored(report)


@pytest.mark.crash
def test_power_cuts_and_restarts(crash_seconds: float) -> None:
    report = explore(workload, check, limit=400, nested=True, kill_restart=True, seconds_max=crash_seconds)
    figures.explored(report)


@pytest.mark.parametrize("mode", ["once", "sticky", "full", "partial", "lying"])
def test_a_disk_that_fails_at_any_call(tmp_path: Path, mode: Mode) -> None:
    for turn, fs in enumerate(failing_everywhere(mode, errno.ENOSPC)):
        directory = tmp_path / str(turn)
        directory.mkdir()
        acknowledged = tried = 0
        pod = None
        try:
            pod = opened(str(directory), fs)
            inline(pod)
            for number, (step, _) in enumerate(STEPS, 1):
                tried = number
                before = shown(pod)
                try:
                    step(pod)
                except WriteError as error:
                    assert shown(pod) == before
                    if error.outcome == "not-written":
                        tried = acknowledged
                    break
                assert shown(pod) == STATES[number]
                acknowledged = number
        except (PerdureError, OSError) as error:
            assert not isinstance(error, WrongLineError)
        finally:
            if pod is not None:
                try:
                    pod.close()
                except PerdureError:
                    tried = max(tried, acknowledged)
        assert not [path for path in fs.open_fds.values() if fs.fired is None or fs.fired.name != "close"]
        fs.close_leaked()
        with opened(str(directory)) as again:
            assert shown(again) in STATES[acknowledged : tried + 1]


def test_a_full_disk_during_many_threads_and_holds(tmp_path: Path) -> None:
    for fail_at in (3, 4, 7, 11):
        fs = FaultyFs(fail_at=fail_at, mode="full", error=errno.ENOSPC, of=("write",))
        directory = tmp_path / str(fail_at)
        directory.mkdir()
        try:
            pod = opened(str(directory), fs, durability="everysec")
        except WriteError:
            continue
        kept = {}
        pod.hold()
        for number in range(20):
            pod[number] = [number]
            if number % 4 == 0:
                try:
                    pod.sync()
                    kept = {key: list(value) for key, value in pod.items()}
                except WriteError:
                    assert set(pod.dirty()) == set(pod) - set(kept)
                    break
        fs.heal()
        pod.unhold()
        expected = shown(pod)
        pod.close()
        with opened(str(directory)) as again:
            assert shown(again) == expected


# ---- real processes

PROGRAM = """
import sys
from perdure.mapping import PersistentDict
pod = PersistentDict(sys.argv[1], durability=sys.argv[2], file_size=1)
if not pod:
    pod["list"], pod["sum"], pod["deep"] = [], 0, {"a": [{"n": 0}]}
print("ready", flush=True)
while True:
    with pod.transaction():
        pod["sum"] += 1
        pod["list"].append(pod["sum"])
        pod["deep"]["a"].insert(0, {"n": pod["sum"]})
        if len(pod["deep"]["a"]) > 50:
            pod["deep"]["a"].pop()
    print(pod["sum"], flush=True)
"""


def consistent(directory: Path) -> int:
    with PersistentDict(directory) as pod:
        if not pod:
            return 0
        total = pod["sum"]
        assert pod["list"] == list(range(1, total + 1))
        wanted = [{"n": number} for number in range(total, max(-1, total - 51), -1)]
        assert pod["deep"]["a"][:50] == wanted[:50]
        return int(total)


def killed(directory: Path, kill: int, wait_s: float, durability: str = "everysec") -> tuple[int, int, str]:
    """Runs the program until it is killed: the last number it was told, its exit status, and its errors."""
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(directory), durability],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    time.sleep(wait_s)
    out, err = end_by_signal(child, kill)
    numbers = [line for line in out.split("\n")[:-1] if line.isdigit()]
    return int(numbers[-1]) if numbers else 0, child.returncode, err


def rounds(count: int, seconds: float) -> Iterator[float]:
    randomness = random.Random(5)
    end = time.monotonic() + seconds
    for number in range(1_000_000):
        if number >= count and time.monotonic() > end:
            return
        yield randomness.uniform(0.0, 0.08)


def kill_loop(directory: Path, count: int, seconds: float, kill: int, durability: str) -> None:
    last = 0
    for wait_s in rounds(count, seconds):
        told, status, err = killed(directory, kill, wait_s, durability)
        assert status == -kill or (kill == signal.SIGINT and "KeyboardInterrupt" in err), err
        with figures.trying(figures.KILLS):
            found = consistent(directory)
            # Everything that was acknowledged, and at most the one transaction that was under way besides.
            assert max(told, last) <= found
        last = found


@pytest.mark.parametrize("durability", ["everysec", "always"])
def test_killed_processes_lose_nothing_acknowledged(tmp_path: Path, durability: str) -> None:
    kill_loop(tmp_path / "p", 5, 0, signal.SIGKILL, durability)


@pytest.mark.parametrize("kill", [signal.SIGTERM, signal.SIGINT])
def test_signals_in_the_middle_of_a_change(tmp_path: Path, kill: int) -> None:
    kill_loop(tmp_path / "p", 5, 0, kill, "everysec")


@pytest.mark.crash
def test_killed_again_and_again(tmp_path: Path, crash_seconds: float) -> None:
    kill_loop(tmp_path / "p", 5, crash_seconds / 2, signal.SIGKILL, "everysec")
    kill_loop(tmp_path / "q", 5, crash_seconds / 2, signal.SIGINT, "everysec")


@pytest.mark.parametrize("ending", ["raise RuntimeError('uncaught')", "sys.exit(3)", "pass", "os.kill(os.getpid(), 2)"])
def test_what_is_held_is_saved_however_a_program_ends(tmp_path: Path, ending: str) -> None:
    program = (
        "import os, sys, signal\n"
        "before = [signal.getsignal(n) for n in (2, 15)]\n"
        "from perdure.mapping import PersistentDict\n"
        "pod = PersistentDict(sys.argv[1]); pod['a'] = [1]; pod.hold(); pod['a'].append(2); pod['b'] = 1\n"
        "assert before == [signal.getsignal(n) for n in (2, 15)]\n"
        f"{ending}\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "p")], capture_output=True, text=True)
    assert "AssertionError" not in done.stderr
    with PersistentDict(tmp_path / "p") as pod:
        assert pod == {"a": [1, 2], "b": 1}


def test_an_uncaught_exception_in_a_transaction_leaves_nothing_of_it(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from perdure.mapping import PersistentDict\n"
        "pod = PersistentDict(sys.argv[1]); pod['a'] = [1]\n"
        "with pod.transaction():\n    pod['a'].append(2)\n    raise RuntimeError\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "p")], capture_output=True, text=True)
    with PersistentDict(tmp_path / "p") as pod:
        assert pod == {"a": [1]}


def test_a_forked_child_changes_nothing(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from perdure.mapping import PersistentDict\n"
        "pod = PersistentDict(sys.argv[1]); pod['a'] = [1]\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    calls = (lambda: pod.update(b=1), lambda: pod['a'].append(2), lambda: PersistentDict(sys.argv[1]))\n"
        "    for change in calls:\n"
        "        try: change()\n"
        "        except Exception as error: print(type(error).__name__, flush=True)\n"
        "    sys.exit()\n"
        "os.waitpid(pid, 0); pod['a'].append(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "p")], capture_output=True, text=True)
    assert done.stdout.split() == ["UsageError", "UsageError", "LockedError"], done.stderr
    with PersistentDict(tmp_path / "p") as pod:
        assert pod == {"a": [1, 3]}
