"""Systems under everything else that may happen to a process: disk, signals, memory, limits, and its end."""

from __future__ import annotations

import datetime
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import perdure
import perdure.machine
import perdure.system
from perdure.errors import CorruptError, LockedError, MissingError, PerdureError, StorageError, WriteError
from perdure.testing import FaultyFs, ManualClock, assert_replayable
from perdure.testing.crashsim import strace_is_there
from tests.crash import _figures as figures
from tests.crash._processes import end_by_signal
from tests.crash.test_interrupts import InterruptAtLine
from tests.unit.system.models import Counter

ROOT = Path(__file__).parents[2]
SOURCE = Path(perdure.__file__).parents[1]
WANTED = 8
PLANS = [
    ("once", errno.EIO),
    ("once", errno.EMFILE),
    ("sticky", errno.EIO),
    ("full", errno.ENOSPC),
    ("partial", errno.ENOSPC),
    ("short", 0),
    ("lying", errno.EIO),
    ("lying-cached", errno.EIO),
]


@pytest.fixture
def directory() -> Iterator[Path]:
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    place = Path(tempfile.mkdtemp(prefix="perdure-", dir=parent))
    yield place / "c"
    shutil.rmtree(place)


class Program:
    """Adds 1, 2, 3, … and snapshots now and then, with the same object while that takes commands; never gives up."""

    def __init__(self, directory: Path, fs: FaultyFs, **options: Any) -> None:
        self.directory = directory
        self.fs = fs
        self.options = options
        self.acknowledged = 0
        self.tried = 0
        self.surprises: list[str] = []
        self.counter: Any = None

    def run(self, attempts: int = 6) -> Program:
        for _ in range(attempts):
            try:
                self._work()
                break
            except KeyboardInterrupt:
                continue
            except PerdureError as error:
                if isinstance(error, CorruptError | MissingError | LockedError) or not isinstance(error, StorageError):
                    self.surprises.append(f"{type(error).__name__}: {error}")
                if not isinstance(error, WriteError) or error.outcome == "unknown" or "no further" in str(error):
                    self._close()
        self._close()
        return self

    def _work(self) -> None:
        if self.counter is None:
            self.counter = perdure.open(Counter, self.directory, fs=self.fs, **self.options)
        counter = self.counter
        added = list(counter.added)
        if added != list(range(1, len(added) + 1)) or not self.acknowledged <= len(added) <= self.tried:
            self.surprises.append(f"{added} where {self.acknowledged} were acknowledged and {self.tried} tried")
        while (count := len(counter.added)) < WANTED:
            self.acknowledged = max(self.acknowledged, count) if self.fs.fired is None else self.acknowledged
            self.tried = max(self.tried, count + 1)
            try:
                if count == 3:
                    counter.refuse()
            except ValueError:
                pass
            counter.add(count + 1)
            self.acknowledged = max(self.acknowledged, count + 1)
            if count in (2, 5):
                perdure.control(counter).take_snapshot()
        self._close(quietly=False)

    def _close(self, *, quietly: bool = True) -> None:
        counter = self.counter
        if counter is None:
            return
        try:
            perdure.control(counter).close()
        except StorageError:
            if not quietly:
                raise
        finally:
            if perdure.control(counter).closed:
                self.counter = None

    def problem(self) -> str | None:
        self.fs.heal()
        self.fs.drop_caches()
        if self.surprises:
            return "; ".join(self.surprises)
        try:
            with perdure.open(Counter, self.directory) as counter:
                added = list(counter.added)
                counter.add(len(added) + 1)
                assert_replayable(counter)
        except (PerdureError, AssertionError) as error:
            return f"{type(error).__name__}: {error}"
        if added != list(range(1, len(added) + 1)) or not self.acknowledged <= len(added) <= self.tried:
            return f"{added}; {self.acknowledged} acknowledged, {self.tried} tried"
        return None


def sweep_disk(directory: Path, mode: Any, error: int, *, step: int, first: int = 1) -> tuple[int, list[str]]:
    problems = []
    count = 0
    fail_at = first
    while True:
        shutil.rmtree(directory, ignore_errors=True)
        fs = FaultyFs(fail_at=fail_at, mode=mode, error=error)
        program = Program(directory, fs).run()
        fired = fs.fired
        leaked = dict(fs.open_fds)
        problem = program.problem() or (f"left open: {leaked}" if leaked else None)
        if fired is None:
            return count, problems
        if problem is not None:
            problems.append(f"{mode} at {fired}: {problem}")
        count += 1
        fail_at += step


@pytest.mark.parametrize(("mode", "error"), PLANS)
def test_any_call_of_the_disk_may_fail_under_a_system(directory: Path, mode: Any, error: int) -> None:
    count, problems = sweep_disk(directory, mode, error, step=5)
    figures.tried(figures.DISK_FAILURES, count, problems)
    assert count


@pytest.mark.crash
@pytest.mark.parametrize(("mode", "error"), PLANS)
def test_every_call_of_the_disk_fails_under_a_system(
    directory: Path, mode: Any, error: int, crash_seconds: float
) -> None:
    count, problems = sweep_disk(directory, mode, error, step=1)
    figures.tried(figures.DISK_FAILURES, count, problems)
    assert count


# ---- interrupts

FILES = frozenset(
    str(path)
    for module, names in ((perdure.machine, ["_machine.py", "_commands.py"]), (perdure.system, ["_runtime.py"]))
    for path in Path(str(module.__file__)).parent.glob("*.py")
    if path.name in names
)


def sweep_interrupts(
    directory: Path, *, first: int, step: int, seconds_max: float, durability: str = "always"
) -> tuple[int, list[str]]:
    deadline = time.monotonic() + seconds_max
    problems: list[str] = []
    count, line = 0, first
    while time.monotonic() < deadline:
        shutil.rmtree(directory, ignore_errors=True)
        program = Program(directory, FaultyFs(), durability=durability)
        with InterruptAtLine(line, FILES) as interrupt:
            program.run()
        if interrupt.where is None:
            break
        problem = program.problem()
        if problem is not None:
            problems.append(f"interrupted before {interrupt.where} (line {line} of the run): {problem}")
        count += 1
        line += step
    return count, problems


# ---- the end of processes

CHILD = f"""
import os, sys, threading
sys.path[:0] = [{str(SOURCE)!r}, {str(ROOT)!r}]
import perdure
from tests.unit.system.models import Counter
os.write(1, b"ready\\n")
counter = perdure.open(Counter, sys.argv[1], durability=sys.argv[2])
def work(thread):
    for turn in range(100_000):
        number = thread * 1_000_000 + len([n for n in counter.added if n // 1_000_000 == thread])
        os.write(1, b"t%d\\n" % number)
        counter.add(number)
        os.write(1, b"a%d\\n" % number)
        if thread == 1 and turn % 7 == 6:
            perdure.control(counter).take_snapshot()
threads = [threading.Thread(target=work, args=(t,), daemon=True) for t in (1, 2, 3)]
for t in threads: t.start()
for t in threads: t.join()
"""


def spawn(directory: Path, durability: str = "always", **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(directory), durability],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        **options,
    )


def judge(directory: Path, said: bytes, known: set[int]) -> set[int]:
    """What is there now. ``known``: what was there before."""
    lines = said.splitlines()
    acknowledged = {int(line[1:]) for line in lines if line.startswith(b"a")}
    tried = {int(line[1:]) for line in lines if line.startswith(b"t")}
    with perdure.open(Counter, directory, snapshot="manual") as counter:
        found = list(counter.added)
    assert len(found) == len(set(found)), "applied twice"
    assert known | acknowledged <= set(found), f"lost: {(known | acknowledged) - set(found)}"
    assert set(found) <= known | tried, f"phantom: {set(found) - known - tried}"
    for thread in (1, 2, 3):
        own = [number % 1_000_000 for number in found if number // 1_000_000 == thread]
        assert own == list(range(len(own))), "a hole"
    return set(found)


def kill_loop(directory: Path, signals: list[int], *, count: int, seconds_max: float, seed: int = 0) -> int:
    rng = random.Random(seed)
    deadline = time.monotonic() + seconds_max
    known: set[int] = set()
    kills = 0
    while kills < count and time.monotonic() < deadline:
        child = spawn(directory, rng.choice(["always", "everysec", "never"]))
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0.0, 0.3))
        said, _ = end_by_signal(child, rng.choice(signals))
        with figures.trying(figures.KILLS):
            known = judge(directory, said, known)
        kills += 1
        if len(known) > 3000:
            shutil.rmtree(directory)
            known = set()
    return kills


def test_killed_at_random_nothing_answered_is_lost(directory: Path) -> None:
    assert kill_loop(directory, [signal.SIGKILL], count=25, seconds_max=12)


def test_told_to_end_or_interrupted_nothing_answered_is_lost(directory: Path) -> None:
    assert kill_loop(directory, [signal.SIGTERM, signal.SIGINT], count=8, seconds_max=5)


@pytest.mark.crash
@pytest.mark.parametrize("signals", [[signal.SIGKILL], [signal.SIGTERM, signal.SIGINT, signal.SIGKILL]], ids=str)
def test_kills_at_length(directory: Path, signals: list[int], crash_seconds: float) -> None:
    assert kill_loop(directory, signals, count=100_000, seconds_max=crash_seconds, seed=random.randrange(1 << 30))


SMALL = f"""
import os, sys
sys.path[:0] = [{str(SOURCE)!r}, {str(ROOT)!r}]
import perdure
from tests.unit.system.models import Counter
counter = perdure.open(Counter, sys.argv[1])
for number in range(len(counter.added) + 1, len(counter.added) + 5):
    os.write(1, b"t%d\\n" % number)
    counter.add(number)
    os.write(1, b"a%d\\n" % number)
perdure.control(counter).close()
os.write(1, b"end\\n")
"""


def kill_at_call(directory: Path, call: str, when: int) -> tuple[bytes, int]:
    done = subprocess.run(
        ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-P", str(directory), "-e",
         f"inject={call}:signal=SIGKILL:when={when}", sys.executable, "-c", SMALL, str(directory)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    return done.stdout, done.returncode


def kill_everywhere(directory: Path, calls: list[str], seconds_max: float) -> int:
    deadline = time.monotonic() + seconds_max
    kills = 0
    for call in calls:
        for when in range(1, 60):
            if time.monotonic() > deadline:
                return kills
            shutil.rmtree(directory, ignore_errors=True)
            said, _ = kill_at_call(directory, call, when)
            acknowledged = said.count(b"a")
            if b"end" in said:
                break
            with figures.trying(figures.KILLS), perdure.open(Counter, directory) as counter:
                assert counter.added == list(range(1, len(counter.added) + 1))
                assert acknowledged <= len(counter.added) <= max(said.count(b"t"), acknowledged)
            kills += 1
    return kills


@pytest.mark.crash
@pytest.mark.skipif(not strace_is_there(), reason="needs strace")
def test_killed_at_every_system_call_nothing_answered_is_lost(directory: Path, crash_seconds: float) -> None:
    calls = ["fdatasync", "write", "openat", "rename", "unlink", "fsync", "mkdir", "flock"]
    assert kill_everywhere(directory, calls, max(15.0, crash_seconds))


# ---- limits

LIMITED = f"""
import os, resource, signal, sys
sys.path[:0] = [{str(SOURCE)!r}, {str(ROOT)!r}]
import perdure
from tests.unit.system.models import Counter
counter = perdure.open(Counter, sys.argv[1])
counter.add(1)
"""


def run(script: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED + script, str(directory)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_limit_on_the_size_of_files_is_an_ordinary_error(directory: Path) -> None:
    out = run(
        """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
done = 1
try:
    for number in range(2, 200):
        counter.add(number)
        done = number
except perdure.WriteError as error:
    print(error.outcome)
assert counter.added == list(range(1, done + 1))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
counter.add(done + 1)
print(done)
perdure.control(counter).close()
""",
        directory,
    )
    outcome, done = out.split()
    assert outcome == "not-written"
    with perdure.open(Counter, directory) as counter:
        assert counter.added == list(range(1, int(done) + 2))


def test_running_out_of_descriptors_stops_snapshots_and_not_commands(directory: Path) -> None:
    run(
        """
held = []
while True:
    try:
        held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        break
    if len(held) == 1:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (held[0] + 20, hard))
counter.add(2)
try:
    perdure.control(counter).take_snapshot()
except perdure.StorageError as error:
    assert error.path, error
else:
    raise SystemExit("a snapshot without a descriptor")
try:
    perdure.open(Counter, sys.argv[1] + "-other")
except perdure.StorageError as error:
    assert error.path, error
counter.add(3)
for fd in held:
    os.close(fd)
perdure.control(counter).take_snapshot()
counter.add(4)
perdure.control(counter).close()
""",
        directory,
    )
    with perdure.open(Counter, directory) as counter:
        assert counter.added == [1, 2, 3, 4]


OUT_OF_MEMORY = """
import faulthandler, _testcapi
faulthandler.dump_traceback_later(40, exit=True)
acknowledged, failures = [1], 0
for start in range(0, 400, 3):
    number = len(counter.added) + 1
    try:
        _testcapi.set_nomemory(start, start + 1)
        counter.add(number)
        _testcapi.remove_mem_hooks()
        acknowledged.append(number)
    except (MemoryError, perdure.PerdureError):
        _testcapi.remove_mem_hooks()
        failures += 1
    finally:
        _testcapi.remove_mem_hooks()
    if start % 30 == 0:
        try:
            perdure.control(counter).close()
        except perdure.PerdureError:
            pass
        counter = perdure.open(Counter, sys.argv[1])
    try:
        counter.get()
        counter.add(len(counter.added) + 1)
    except perdure.PerdureError:
        perdure.control(counter).close()
        counter = perdure.open(Counter, sys.argv[1])
    assert set(acknowledged) <= set(counter.added), (acknowledged, counter.added)
    assert counter.added == list(range(1, len(counter.added) + 1)), counter.added
kept = list(counter.added)
perdure.control(counter).close()
with perdure.open(Counter, sys.argv[1]) as counter:
    assert counter.added == kept
print(failures)
"""


def test_no_memory_at_any_allocation_of_a_command_loses_nothing(directory: Path) -> None:
    pytest.importorskip("_testcapi")
    failures = int(run(OUT_OF_MEMORY, directory))
    figures.tried(figures.ALLOCATIONS, failures)
    assert failures > 0


# ---- clocks, openings, names


def test_a_clock_that_jumps_changes_no_order(directory: Path) -> None:
    clock = ManualClock(datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC))
    rng = random.Random(5)
    jumps: list[Callable[[], None]] = [
        lambda: clock.advance(rng.uniform(-1e6, 1e6)),
        lambda: clock.set(datetime.datetime(1970, 1, 2, tzinfo=datetime.UTC)),
        lambda: clock.set(datetime.datetime(2128, 6, 11, tzinfo=datetime.UTC)),
        lambda: None,
    ]
    for turn in range(5):
        with perdure.open(Counter, directory, clock=clock, keep_history=True) as counter:
            for number in range(10):
                rng.choice(jumps)()
                counter.add(turn * 10 + number)
                if number % 4 == 0:
                    perdure.control(counter).take_snapshot()
            history = list(perdure.control(counter).history())
            assert [each.at for each in history] == sorted(each.at for each in history)
            assert_replayable(counter)
    with perdure.open(Counter, directory) as counter:
        assert counter.added == list(range(50))


def test_hostile_names_in_the_folder_harm_nothing_outside(directory: Path) -> None:
    victim = directory.parent / "victim"
    victim.write_bytes(b"precious")
    with perdure.open(Counter, directory) as counter:
        counter.add(1)
    for name in ("journal-00000099", "snapshot-00000000000000000099", "x.tmp-0123456789abcdef", "quarantine"):
        link = directory / name
        link.symlink_to(victim)
        try:
            with perdure.open(Counter, directory) as counter:
                assert counter.added[0] == 1
                counter.add(2)
        except PerdureError as error:
            assert error.path
        link.unlink(missing_ok=True)
        assert victim.read_bytes() == b"precious"
    with perdure.open(Counter, directory) as counter:
        assert counter.added[0] == 1


def test_a_link_to_the_folder_is_the_same_folder(directory: Path) -> None:
    link = directory.parent / "link"
    with perdure.open(Counter, directory) as counter:
        counter.add(1)
        link.symlink_to(directory)
        with pytest.raises(LockedError):
            perdure.open(Counter, link)
    with perdure.open(Counter, link) as counter:
        assert counter.added == [1]


@pytest.mark.root
def test_a_folder_of_somebody_else_is_refused(directory: Path) -> None:
    with perdure.open(Counter, directory) as counter:
        counter.add(1)
    os.chown(directory, 12345, 12345)
    with pytest.raises(StorageError) as caught:
        perdure.open(Counter, directory)
    assert caught.value.path == str(directory)
    # Who may read it, reads it: root looks after the data of others.
    with perdure.open(Counter, directory, mode="r") as reader:
        assert reader.added == [1]


def test_two_processes_that_open_at_once_are_one_and_a_refusal(directory: Path) -> None:
    children = [spawn(directory) for _ in range(3)]
    deadline = time.monotonic() + 30
    while sum(child.poll() is not None for child in children) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    for child in children:
        child.kill()
    ends = [child.communicate(timeout=60) for child in children]
    assert sum(b"LockedError" in errors for _, errors in ends) == 2
    judge(directory, b"".join(said for said, _ in ends), set())


# ---- Ctrl-C


@pytest.mark.parametrize("durability", ["always", "never"])
def test_an_interrupt_at_any_line_of_the_machine_loses_nothing(directory: Path, durability: str) -> None:
    count, problems = sweep_interrupts(directory, first=1, step=3, seconds_max=8, durability=durability)
    figures.tried(figures.INTERRUPTS, count, problems)
    assert count > 20


@pytest.mark.crash
@pytest.mark.parametrize("durability", ["always", "never"])
def test_interrupts_of_systems_at_length(directory: Path, durability: str, crash_seconds: float) -> None:
    count, problems = sweep_interrupts(directory, first=1, step=1, seconds_max=crash_seconds, durability=durability)
    figures.tried(figures.INTERRUPTS, count, problems)
    assert count
