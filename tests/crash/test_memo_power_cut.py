"""Results under faults at every disk call, kills at any moment, and interrupts at any line."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import PerdureError
from perdure.memo import memo, persisted
from perdure.testing import failing_everywhere
from tests.crash import _figures as figures

WORKER = """
import os, sys, warnings
from pathlib import Path
import numpy
from perdure.memo import memo, persisted
warnings.simplefilter("error")
seed = int(sys.argv[1])

@memo("cache", size_bytes_max=200_000, map_bytes_min=20_000)
def f(n):
    return [n] * (n * 10) if n % 3 else numpy.full(n * 1000, n)

class Owner:
    @property
    @persisted("_big", path="big.dat")
    def big(self):
        return list(range(20_000))

print("started", flush=True)
while True:
    assert Owner().big == list(range(20_000))
    os.unlink("big.dat")
    for step in range(20):
        seed = seed * 1103515245 + 12345 & 0x7FFFFFFF
        n = seed >> 8 & 31
        got = f(n)
        assert len(got) == (n * 10 if n % 3 else n * 1000) and all(each == n for each in got[:50]), (n, got)
        if seed >> 16 & 7 == 0:
            f.forget(n)
"""


@pytest.mark.parametrize("mode", ["once", "sticky", "lying"])
@pytest.mark.parametrize("old", [False, True])
def test_a_persisted_result_is_whole_or_absent_whatever_fails(tmp_path: Path, mode: Any, old: bool) -> None:
    for number, fs in enumerate(failing_everywhere(mode, errno.EIO)):
        path = tmp_path / str(number) / "r.dat"

        class Owner:
            @property
            @persisted("_kept", path=path, mkdir=True, fs=fs)
            def value(self) -> str:
                return "new"

        if old:
            path.parent.mkdir()
            path.touch()
        try:
            assert Owner().value == "new"
            stored = True
        except PerdureError:
            stored = False
        assert not fs.open_fds

        class Next:
            @property
            @persisted("_kept", path=path, mkdir=True, recover_empty=True)
            def value(self) -> str:
                return "computed again"

        if stored:
            fs.drop_caches()
        with figures.trying(figures.DISK_FAILURES):
            assert Next().value in (("new",) if stored else ("new", "computed again"))


def run_and_kill(directory: Path, seed: int, after_s: float, processes: int) -> None:
    errors = directory / "errors.txt"
    with errors.open("wb") as said:
        children = [
            subprocess.Popen(
                [sys.executable, "worker.py", str(seed + n)], cwd=directory, stdout=subprocess.PIPE, stderr=said
            )
            for n in range(processes)
        ]
    try:
        for child in children:
            assert child.stdout is not None
            child.stdout.readline()
        time.sleep(after_s)
    finally:
        for child in children:
            child.send_signal(signal.SIGKILL)
        for child in children:
            code = child.wait(30)
            assert child.stdout is not None
            child.stdout.close()
            with figures.trying(figures.KILLS):
                assert code == -signal.SIGKILL, f"a worker found something wrong: {errors.read_text()}"


def kill_again_and_again(directory: Path, seconds: float) -> None:
    pytest.importorskip("numpy")
    (directory / "worker.py").write_text(WORKER)
    chance = random.Random(1)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        run_and_kill(directory, chance.randrange(1 << 30), chance.uniform(0, 0.3), 1)


def test_kills_leave_right_results(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, 3)


@pytest.mark.crash
def test_many_kills_leave_right_results(tmp_path: Path, crash_seconds: float) -> None:
    kill_again_and_again(tmp_path, crash_seconds)


class Interrupts:
    """KeyboardInterrupt at the ``number``-th line that runs in the package."""

    # The few lines that take and give back locks are spared: what a tracer can do there, a signal hardly can.
    spared = ("_turns.py", "_lease.py")

    def __init__(self, number: int) -> None:
        self.left = number
        self.package = os.path.dirname(sys.modules["perdure.memo"].__file__ or "")

    def __call__(self, frame: Any, event: str, _: Any) -> Any:
        folder, name = os.path.split(frame.f_code.co_filename)
        if folder != self.package or name in self.spared:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


def test_an_interrupt_at_any_line_leaves_a_right_next_call(tmp_path: Path) -> None:
    """As in a notebook, where all goes on afterwards."""
    for number in range(1, 1000):

        @memo(tmp_path / str(number))
        def f(n: int) -> list[int]:
            return [n]

        interrupts = Interrupts(number)
        sys.settrace(interrupts)
        try:
            f(1)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        with figures.trying(figures.INTERRUPTS):
            assert f(1) == [1]
            assert f(1) == [1]
        if interrupts.left > 0:
            break
    assert 50 < number < 999
