"""Filling in parallel."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import CodecError, PersistableError, UsageError, WriteError
from perdure.fill import fill
from perdure.stash import (
    DictionaryStash,
    DirectoryStash,
    FactoryStash,
    Failure,
    FailureFilterStash,
    FillProgress,
    LogStash,
    MultiProcessFactoryStash,
    MultiProcessRobustStash,
    MultiProcessStash,
    ReadOnlyStash,
    Stash,
)
from perdure.stash._fill_pool import worker_count
from perdure.stash._fill_progress import Reporter
from perdure.testing import FaultyFs

SIZE = 40


@dataclass(eq=False)
class Factory(ReadOnlyStash):
    """Makes squares, leaves a trace of each call, and can be told what to do with single names."""

    trace: Path
    size: int = SIZE
    raises: tuple[str, ...] = ()
    kills: tuple[str, ...] = ()
    kills_once: tuple[str, ...] = ()
    unstorable: tuple[str, ...] = ()
    seconds: float = 0.0

    def load(self, name: str) -> Any:
        with open(self.trace / f"made-{os.getpid()}", "a") as file:
            file.write(name + "\n")
        time.sleep(self.seconds)
        if name in self.raises and not (self.trace / "mended").exists():
            raise ValueError(f"cannot make {name}")
        if name in self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if name in self.kills_once and not (self.trace / f"killed-{name}").exists():
            (self.trace / f"killed-{name}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return threading.Lock() if name in self.unstorable else int(name) ** 2

    def keys(self) -> Iterator[str]:
        return (str(number) for number in range(self.size))

    def made(self) -> list[str]:
        return [name for path in self.trace.glob("made-*") for name in path.read_text().split()]


EXPECTED = {str(number): number**2 for number in range(SIZE)}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    (tmp_path / "trace").mkdir()
    return tmp_path / "trace"


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def start_method(request: pytest.FixtureRequest) -> Iterator[str]:
    old = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(old, force=True)


@pytest.fixture
def quick_start() -> Iterator[None]:
    """Fork, where it is there: for tests about other things."""
    old = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("fork", force=True)
    yield
    multiprocessing.set_start_method(old, force=True)


# ---- any executor, any start method ----------------------------------------------------------------------------------


@pytest.mark.parametrize("below", ["directory", "dictionary"])
def test_a_fill_makes_everything_once(tmp_path: Path, trace: Path, start_method: str, below: str) -> None:
    factory = Factory(trace)
    delegate: Stash = DirectoryStash(tmp_path / "stash") if below == "directory" else DictionaryStash()
    stash = MultiProcessStash(delegate, factory, workers=2)
    assert dict(stash) == EXPECTED
    assert dict(delegate) == EXPECTED
    stash.prime()
    assert sorted(factory.made(), key=int) == list(EXPECTED)
    assert stash.has_data


def test_a_filled_stash_is_not_filled_again(tmp_path: Path, trace: Path, quick_start: None) -> None:
    MultiProcessStash(DirectoryStash(tmp_path / "stash"), Factory(trace), workers=2).prime()
    (trace / "made-0").write_text("")
    other = Factory(trace)
    stash = MultiProcessStash(DirectoryStash(tmp_path / "stash"), other, workers=2)
    assert stash["7"] == 49
    assert len(other.made()) == SIZE


EXECUTORS: list[Any] = [
    pytest.param(lambda: ThreadPoolExecutor(2), id="threads"),
    pytest.param(lambda: ProcessPoolExecutor(2, multiprocessing.get_context("spawn")), id="processes"),
]


@pytest.mark.parametrize("make", EXECUTORS)
@pytest.mark.parametrize("ready_made", [True, False])
def test_any_executor_will_do(tmp_path: Path, trace: Path, make: Callable[[], Executor], ready_made: bool) -> None:
    if ready_made:
        with make() as executor:
            stash = MultiProcessStash(DirectoryStash(tmp_path / "stash"), Factory(trace), executor=executor)
            assert dict(stash) == EXPECTED
            assert executor.submit(int, "7").result() == 7
    else:
        assert dict(MultiProcessStash(DictionaryStash(), Factory(trace), executor=make)) == EXPECTED


@pytest.mark.leaky("loky keeps its workers for whoever comes next")
def test_loky_will_do(tmp_path: Path, trace: Path) -> None:
    loky = pytest.importorskip("loky")
    make = partial(loky.get_reusable_executor, max_workers=2, timeout=1)
    assert dict(MultiProcessStash(DictionaryStash(), Factory(trace), executor=make)) == EXPECTED


@pytest.mark.leaky("Dask keeps its event loop and its logging for the whole process")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning")
def test_a_dask_client_will_do_and_computes_everything_anew(tmp_path: Path, trace: Path) -> None:
    distributed = pytest.importorskip("distributed")
    loopback = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, **loopback) as cluster,
        distributed.Client(cluster) as client,
    ):
        factory = Factory(trace)
        for _ in range(2):
            stash = MultiProcessStash(DictionaryStash(), factory, executor=client, chunk_size=5)
            assert dict(stash) == EXPECTED
        assert len(factory.made()) == 2 * SIZE


def test_a_function_fills_any_stash(tmp_path: Path, quick_start: None) -> None:
    with LogStash(tmp_path) as stash:
        report = fill(stash, map(str, range(10)), int, workers=2)
        assert report == (10, 0, [])
        assert stash["7"] == 7
        report = fill(stash, ["3", "11", "x", "11"], int, workers=2)
        assert (report.made, report.there) == (1, 1)
        assert [(failure.name, failure.kind) for failure in report.failures] == [("x", "ValueError")]
    assert fill(DictionaryStash(), [], int) == (0, 0, [])


class Lines(MultiProcessStash):
    """As the documentation of the original has it: a subclass says what the work is."""

    def _create_data(self) -> Iterable[Any]:
        return range(10)

    def _process(self, chunk: Sequence[Any]) -> Iterable[tuple[str, Any]]:
        for number in chunk:
            if number == 7:
                raise RuntimeError("seven")
            yield f"single {number}", number
            yield f"double {number}", 2 * number


@pytest.mark.parametrize("chunk_size", [0, 1, 4, 100])
def test_a_subclass_says_what_the_work_is(tmp_path: Path, quick_start: None, chunk_size: int) -> None:
    for delegate in (DirectoryStash(tmp_path), DictionaryStash()):
        stash = Lines(delegate, chunk_size=chunk_size, workers=2)
        with pytest.raises(PersistableError, match="seven"):
            stash.prime()
        assert [failure.name for failure in stash.iterfails()] == ["7"]
        assert len(delegate) == 18
        assert delegate["double 9"] == 18


# ---- failures --------------------------------------------------------------------------------------------------------


def test_failures_are_listed_and_everything_else_is_made(tmp_path: Path, trace: Path, quick_start: None) -> None:
    factory = Factory(trace, raises=("3", "30"), unstorable=("5",))
    stash = MultiProcessStash(DirectoryStash(tmp_path / "stash"), factory, workers=2)
    with pytest.raises(PersistableError, match="3 items could not be made") as caught:
        stash.prime()
    assert "iterfails" in str(caught.value)
    assert not stash.has_data
    failures = {failure.name: failure for failure in stash.iterfails()}
    assert sorted(failures) == ["3", "30", "5"]
    assert failures["3"].message == "cannot make 3"
    assert "in load" in failures["3"].traceback
    assert failures["5"].kind == "perdure.errors.CodecError"
    assert len(DirectoryStash(tmp_path / "stash")) == SIZE - 3
    (trace / "mended").touch()
    factory.unstorable = ()
    assert stash.reprocess_failures() == {"3", "30", "5"}
    assert list(stash.iterfails()) == []
    assert dict(stash) == EXPECTED


def test_failures_of_a_robust_stash_are_values(tmp_path: Path, trace: Path, quick_start: None) -> None:
    factory = Factory(trace, raises=("3", "30"))
    stash = MultiProcessRobustStash(DirectoryStash(tmp_path / "stash"), factory, workers=2)
    assert len(stash) == SIZE
    assert isinstance(stash["30"], Failure)
    assert dict(FailureFilterStash(stash)) == {
        name: value for name, value in EXPECTED.items() if name not in ("3", "30")
    }
    # Another process, later.
    stash = MultiProcessRobustStash(DirectoryStash(tmp_path / "stash"), factory, workers=2)
    assert stash.has_data
    assert sorted(failure.name for failure in stash.iterfails()) == ["3", "30"]
    assert stash.reprocess_failures() == {"3", "30"}
    assert sorted(failure.name for failure in stash.iterfails()) == ["3", "30"]
    (trace / "mended").touch()
    assert stash.reprocess_failures() == {"3", "30"}
    assert dict(stash) == EXPECTED
    assert stash.reprocess_failures() == set()


def test_a_codec_that_holds_no_failures_is_no_hindrance(tmp_path: Path, trace: Path, quick_start: None) -> None:
    delegate = DirectoryStash(tmp_path / "stash", codec="json")
    stash = MultiProcessRobustStash(delegate, Factory(trace, raises=("3",)), workers=2)
    assert len(stash) == SIZE - 1
    assert [failure.name for failure in stash.iterfails()] == ["3"]


@pytest.mark.parametrize("below", ["directory", "dictionary"])
def test_a_killed_worker_costs_its_chunk_one_retry(tmp_path: Path, trace: Path, quick_start: None, below: str) -> None:
    factory = Factory(trace, kills_once=("13",))
    delegate: Stash = DirectoryStash(tmp_path / "stash") if below == "directory" else DictionaryStash()
    stash = MultiProcessStash(delegate, factory, workers=2, chunk_size=5)
    assert dict(stash) == EXPECTED
    # At most what was in flight is made twice: three chunks for each worker.
    repeated = len(factory.made()) - SIZE
    assert repeated <= (2 if below == "directory" else 6 * 5)


def test_an_item_that_kills_its_workers_is_a_failure_and_the_rest_is_made(
    tmp_path: Path, trace: Path, quick_start: None
) -> None:
    factory = Factory(trace, kills=("13", "14", "39"))
    stash = MultiProcessRobustStash(DirectoryStash(tmp_path / "stash"), factory, workers=2, chunk_size=6)
    assert len(stash) == SIZE
    assert sorted(failure.name for failure in stash.iterfails()) == ["13", "14", "39"]
    assert "worker died" in stash["13"].message


def test_items_that_all_kill_their_workers_are_all_failures(trace: Path, quick_start: None) -> None:
    names = tuple(str(number) for number in range(5))
    stash = MultiProcessRobustStash(DictionaryStash(), Factory(trace, size=5, kills=names), workers=2)
    assert {type(value) for value in stash.values()} == {Failure}
    assert len(stash) == 5


def test_a_ready_made_executor_whose_workers_die_is_a_named_error(trace: Path, quick_start: None) -> None:
    with ProcessPoolExecutor(1) as executor:
        stash = MultiProcessStash(DictionaryStash(), Factory(trace, kills=("3",)), executor=executor, workers=1)
        with pytest.raises(PersistableError, match="workers have died"):
            stash.prime()


def test_a_factory_that_cannot_be_sent_is_a_named_error(quick_start: None) -> None:
    class Local(ReadOnlyStash):
        def load(self, name: str) -> Any:
            return 1

        def keys(self) -> Iterator[str]:
            return iter("a")

    with pytest.raises(CodecError, match="cannot be sent to workers"):
        MultiProcessStash(DictionaryStash(), Local()).prime()
    assert dict(MultiProcessStash(DictionaryStash(), Local(), executor=lambda: ThreadPoolExecutor(1))) == {"a": 1}


@dataclass(eq=False)
class NotThere(ReadOnlyStash):
    """Pickles here and cannot be unpickled there."""

    here: int = 0

    def __reduce__(self) -> Any:
        return _only_in, (os.getpid(),)

    def load(self, name: str) -> Any:
        return 1

    def keys(self) -> Iterator[str]:
        return iter("ab")


def _only_in(pid: int) -> NotThere:
    if os.getpid() != pid:
        raise ImportError("no module named so")
    return NotThere()


def test_a_factory_that_workers_cannot_load_is_a_named_error(quick_start: None) -> None:
    with pytest.raises(PersistableError, match="no module named so"):
        MultiProcessStash(DictionaryStash(), NotThere(), workers=1).prime()


class Broken(ThreadPoolExecutor):
    def submit(self, *arguments: Any, **keywords: Any) -> Any:
        return super().submit(int, "no number")


def test_an_executor_that_never_finishes_anything_is_a_named_error(trace: Path) -> None:
    with pytest.raises(PersistableError, match="cannot even begin"):
        MultiProcessStash(DictionaryStash(), Factory(trace), executor=lambda: Broken(1), workers=1).prime()


# ---- interruptions ---------------------------------------------------------------------------------------------------


def test_a_fill_goes_on_with_what_is_missing_whatever_the_chunks(
    tmp_path: Path, trace: Path, quick_start: None
) -> None:
    done = DirectoryStash(tmp_path / "stash")
    done.set_many({str(number): number**2 for number in range(0, SIZE, 3)})
    factory = Factory(trace)
    stash = MultiProcessStash(DirectoryStash(tmp_path / "stash"), factory, workers=3, chunk_size=7)
    assert dict(stash) == EXPECTED
    assert sorted(factory.made(), key=int) == [str(number) for number in range(SIZE) if number % 3]


def test_an_invalidated_fill_makes_what_is_missing(tmp_path: Path, trace: Path, quick_start: None) -> None:
    factory = Factory(trace, size=10)
    stash = MultiProcessStash(DirectoryStash(tmp_path / "stash"), factory, workers=2)
    stash.prime()
    factory.size = 12
    assert len(stash) == 10
    stash.invalidate()
    assert len(stash) == 12
    assert len(factory.made()) == 12


FILLER = """
    import sys
    from pathlib import Path
    from tests.unit.stash.test_fill import Factory
    from perdure.stash import DirectoryStash, MultiProcessStash
    if __name__ == "__main__":
        where, trace, seconds, workers, chunk = sys.argv[1:]
        factory = Factory(Path(trace), seconds=float(seconds))
        MultiProcessStash(DirectoryStash(Path(where)), factory, workers=int(workers), chunk_size=int(chunk)).prime()
"""


def start_filler(tmp_path: Path, trace: Path, seconds: float, workers: int, chunk: int) -> subprocess.Popen[bytes]:
    script = tmp_path / "filler.py"
    script.write_text(textwrap.dedent(FILLER))
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'src'}"}
    arguments = [str(tmp_path / "stash"), str(trace), str(seconds), str(workers), str(chunk)]
    return subprocess.Popen([sys.executable, str(script), *arguments], env=environment, start_new_session=True)


def test_a_fill_whose_parent_is_killed_goes_on_with_at_most_the_items_in_flight_repeated(
    tmp_path: Path, trace: Path, quick_start: None
) -> None:
    factory = Factory(trace)
    filler = start_filler(tmp_path, trace, 0.05, 2, 4)
    wait_until(lambda: len(factory.made()) > SIZE // 2)
    filler.kill()
    filler.wait()
    workers = [int(path.name.removeprefix("made-")) for path in trace.glob("made-*")]
    wait_until(lambda: not any(is_running(pid) for pid in workers))
    there = dict(DirectoryStash(tmp_path / "stash"))
    assert 0 < len(there) < SIZE
    assert all(EXPECTED[name] == value for name, value in there.items())
    stash = MultiProcessStash(DirectoryStash(tmp_path / "stash"), factory, workers=3, chunk_size=9)
    assert not stash.has_data
    assert dict(stash) == EXPECTED
    assert len(factory.made()) <= SIZE + 2


def test_two_processes_may_fill_one_stash_at_once(tmp_path: Path, trace: Path) -> None:
    fillers = [start_filler(tmp_path, trace, 0.02, 2, chunk) for chunk in (3, 5)]
    assert [filler.wait(60) for filler in fillers] == [0, 0]
    stash = MultiProcessStash(DirectoryStash(tmp_path / "stash"), Factory(trace))
    assert stash.has_data
    assert dict(stash) == EXPECTED


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_full_disk_ends_a_fill_and_room_lets_it_go_on(tmp_path: Path, trace: Path) -> None:
    fs = FaultyFs(fail_at=30, mode="full", error=errno.ENOSPC)
    delegate = DirectoryStash(tmp_path / "stash", fs=fs)
    stash = MultiProcessStash(delegate, Factory(trace), executor=lambda: ThreadPoolExecutor(2), workers=2)
    with pytest.raises(WriteError, match="No space left"):
        stash.prime()
    there = len(delegate)
    assert 0 < there < SIZE
    fs.make_room()
    assert dict(stash) == EXPECTED


def test_ctrl_c_waits_for_the_items_in_hand_only(tmp_path: Path, trace: Path) -> None:
    filler = start_filler(tmp_path, trace, 0.3, 2, 20)
    wait_until(lambda: len(Factory(trace).made()) > 2)
    os.killpg(filler.pid, signal.SIGINT)
    assert filler.wait(60) != 0
    assert len(Factory(trace).made()) < SIZE
    assert not DirectoryStash(tmp_path / "stash").fill_mark()


# ---- single items, fields --------------------------------------------------------------------------------------------


def test_a_factory_stash_makes_single_items_too(tmp_path: Path, trace: Path, quick_start: None) -> None:
    stash = MultiProcessFactoryStash(DirectoryStash(tmp_path / "stash"), Factory(trace, size=3), workers=1)
    assert stash["1"] == 1
    assert len(stash) == 3
    assert stash.get("50") is None
    assert stash["50"] == 2500
    assert stash.get("50") == 2500


def test_layers_may_stand_above_and_below(tmp_path: Path, trace: Path, quick_start: None) -> None:
    below = FactoryStash(DirectoryStash(tmp_path / "stash"), Factory(trace, size=0))
    assert dict(MultiProcessStash(below, Factory(trace), workers=2)) == EXPECTED


@pytest.mark.parametrize("workers", [True, 0.0, 1.5, -0.5, "4", None])
def test_workers_that_make_no_sense_are_refused(workers: Any) -> None:
    with pytest.raises(UsageError):
        worker_count(workers)


def test_workers_are_counted_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert [worker_count(workers) for workers in (0, 3, -1, -7, -20, 1.0, 0.5, 0.01)] == [8, 3, 7, 1, 1, 8, 4, 1]


def test_other_fields_that_make_no_sense_are_refused(trace: Path) -> None:
    with pytest.raises(UsageError, match="chunk_size"):
        MultiProcessStash(DictionaryStash(), Factory(trace), chunk_size=-1).prime()
    with pytest.raises(UsageError, match="executor"):
        MultiProcessStash(DictionaryStash(), Factory(trace), executor=7).prime()
    with pytest.raises(UsageError, match="needs a factory"):
        MultiProcessStash(DictionaryStash()).prime()
    with pytest.raises(UsageError, match="needs a delegate"):
        MultiProcessStash(None, Factory(trace)).prime()


def test_no_factory_name_is_made_twice(trace: Path, quick_start: None) -> None:
    class Doubles(Factory):
        def keys(self) -> Iterator[str]:
            return iter(["1", "2", "1", "2"])

    factory = Doubles(trace)
    assert dict(MultiProcessStash(DictionaryStash(), factory, executor=lambda: ThreadPoolExecutor(2))) == {
        "1": 1,
        "2": 4,
    }
    assert sorted(factory.made()) == ["1", "2"]


# ---- progress --------------------------------------------------------------------------------------------------------


def test_progress_calls_a_function(trace: Path, quick_start: None) -> None:
    seen: list[FillProgress] = []
    stash = MultiProcessRobustStash(
        DictionaryStash(), Factory(trace, raises=("3",)), workers=2, chunk_size=10, progress=seen.append
    )
    stash.prime()
    assert seen[-1][:3] == (SIZE, SIZE, 1)
    assert seen[-1].left_s == 0
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal() -> None:
    pytest.importorskip("rich")
    stream = Terminal()
    reporter = Reporter(True, "filling", 100, stream=stream)
    for done in range(0, 101, 20):
        reporter.done, reporter.failed = done, done // 50
        reporter.tell()
    reporter.end()
    assert "filling" in stream.getvalue()
    assert "100/100" in stream.getvalue()
    assert "2 failed" in stream.getvalue()


def test_progress_is_plain_lines_elsewhere_and_nothing_when_it_is_short() -> None:
    stream = io.StringIO()
    asked, unasked, never = (Reporter(wanted, "filling", 10, stream=stream) for wanted in (True, None, False))
    for reporter in (unasked, never, asked):
        reporter.done, reporter.failed = 10, 3
        reporter.tell()
        reporter.end()
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("filling: 10 of 10 (100 %), ")
    assert line.endswith("/s, 0 s left, 3 failed")
