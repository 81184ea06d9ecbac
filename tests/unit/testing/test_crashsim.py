"""The three models allow what they say, and known good and bad programs are told apart."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from perdure.fs import Fs
from perdure.testing import crashsim
from perdure.testing.crashsim import Event, Log, RecordingFs, Report

MODELS = ("posix", "btrfs", "ext4")


def saver(*, sync: bool = True, rename: bool = True, sync_names: bool = True, versions: int = 2) -> crashsim.Workload:
    """A program that keeps one number in one file, more or less carefully."""

    def run(directory: str, fs: Fs, log: Log) -> None:
        final = os.path.join(directory, "number")
        for number in range(1, versions + 1):
            log.tried(number)
            path = f"{final}.{number}" if rename else final
            fd = fs.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            fs.write_all(fd, b"%d!" % number * 500)
            if sync:
                fs.sync(fd)
            fs.close(fd)
            if rename:
                fs.rename(path, final)
            if sync_names:
                fs.sync_directory(directory)
            log.acknowledged(number)

    return run


def check(directory: str, acknowledged: int, tried: int) -> str | None:
    path = os.path.join(directory, "number")
    data = Fs().read_all(path) if os.path.exists(path) else b""
    versions = [b"", *(b"%d!" % number * 500 for number in range(1, 4))]
    if data not in versions:
        return "damaged"
    number = versions.index(data)
    return None if acknowledged <= number <= tried else f"{number}, {acknowledged} acknowledged, {tried} tried"


@pytest.mark.parametrize("model", MODELS)
def test_careful_program_passes(model: str) -> None:
    report = crashsim.explore(saver(), check, models=[model])
    assert not report.failures
    assert report.states > 4
    assert report.complete
    assert str(report).startswith("crashsim: ")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("sync", "rename", "sync_names", "problem"),
    [
        (False, True, False, "acknowledged"),
        (False, True, True, "damaged"),
        (True, False, True, "damaged"),
    ],
)
def test_careless_programs_fail(model: str, sync: bool, rename: bool, sync_names: bool, problem: str) -> None:
    program = saver(sync=sync, rename=rename, sync_names=sync_names)
    report = crashsim.explore(program, check, models=[model], limit=256, failures_max=10_000)
    # Half a page is whole or not there at all on btrfs.
    wanted = "acknowledged" if model == "btrfs" else problem
    assert any(wanted in failure.problem for failure in report.failures), report


def test_unsynced_names_are_lost_on_posix_and_the_last_rename_everywhere() -> None:
    problems = {model: crashsim.explore(saver(sync_names=False), check, models=[model]).failures for model in MODELS}
    assert all(problems.values())
    assert all("damaged" not in failure.problem for failures in problems.values() for failure in failures)


def append_unsynced(directory: str, fs: Fs, log: Log) -> None:
    fd = fs.create(os.path.join(directory, "log"))
    fs.sync(fd)
    fs.sync_directory(directory)
    log.acknowledged(1)
    fs.write_all(fd, b"x" * 20)
    fs.close(fd)
    log.tried(1)


def contents_after(model: str) -> set[bytes]:
    found: set[bytes] = set()

    def collect(directory: str, acknowledged: int, tried: int) -> None:
        if tried:
            found.add(Fs().read_all(os.path.join(directory, "log")))

    crashsim.explore(append_unsynced, collect, models=[model])
    return found


def test_models_differ_in_what_an_unsynced_append_leaves() -> None:
    whole = b"x" * 20
    assert contents_after("btrfs") == {b"", whole}
    assert contents_after("ext4") == {b"", whole, bytes(20)}
    posix = contents_after("posix")
    assert {b"", whole, bytes(20), b"\xff" * 20, b"x" * 8} <= posix


def test_a_second_cut_during_recovery_is_tried() -> None:
    def recover(directory: str, fs: Fs, log: Log) -> None:
        # Puts the number back by writing it again, in place: right once, wrong twice.
        path = os.path.join(directory, "number")
        if os.path.exists(path):
            data = fs.read_all(path)
            fd = fs.open(path, os.O_WRONLY | os.O_TRUNC)
            fs.write_all(fd, data)
            fs.sync(fd)
            fs.close(fd)

    once = crashsim.explore(saver(), check, models=["ext4"], recover=recover)
    twice = crashsim.explore(saver(), check, models=["ext4"], recover=recover, nested=True)
    assert not once.failures
    assert twice.failures
    assert "restarted" in str(twice)
    assert twice.models["ext4"].nested > 0


def test_building_on_what_a_killed_process_left_is_tried() -> None:
    def workload(directory: str, fs: Fs, log: Log) -> None:
        fd = fs.open(os.path.join(directory, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        fs.sync_directory(directory)
        log.acknowledged(fs.size(fd) // 4)
        for number in range(fs.size(fd) // 4 + 1, 4):
            log.tried(number)
            fs.write_all(fd, b"%03d!" % number)
            fs.sync(fd)
            log.acknowledged(number)
        fs.close(fd)

    def count(directory: str, acknowledged: int, tried: int) -> str | None:
        path = os.path.join(directory, "log")
        found = Fs().read_all(path).count(b"!") if os.path.exists(path) else 0
        return None if found >= acknowledged else f"{found} of {acknowledged}"

    assert not crashsim.explore(workload, count, models=["ext4"]).failures
    assert crashsim.explore(workload, count, models=["ext4"], kill_restart=True).failures


def test_the_same_seed_gives_the_same_states() -> None:
    def run(seed: int) -> Report:
        return crashsim.explore(saver(sync=False), check, models=["posix"], limit=20, seed=seed, failures_max=10_000)

    assert [f.tree for f in run(1).failures] == [f.tree for f in run(1).failures]
    assert [f.tree for f in run(1).failures] != [f.tree for f in run(2).failures]


def test_what_the_check_raises_is_a_failure() -> None:
    def explode(directory: str, acknowledged: int, tried: int) -> None:
        raise LookupError("no such thing")

    report = crashsim.explore(saver(versions=1), explode, models=["btrfs"], failures_max=3)
    assert len(report.failures) == 3
    assert not report.complete
    assert "LookupError: no such thing" in report.failures[0].problem


def test_time_is_kept() -> None:
    report = crashsim.explore(saver(), check, seconds_max=0.0)
    assert not report.complete


def test_recording_follows_renames_and_forgets_what_is_gone(tmp_path: object) -> None:
    root = str(tmp_path)
    fs = RecordingFs(root)
    fs.mkdir(f"{root}/d")
    fd = fs.create(f"{root}/d/a")
    fs.rename(f"{root}/d", f"{root}/e")
    fs.write_all(fd, b"1")
    fs.link(f"{root}/e/a", f"{root}/b")
    fs.truncate(fd, 0)
    fs.unlink(f"{root}/e/a")
    fs.write_all(fd, b"2")
    fs.close(fd)
    fs.rmdir(f"{root}/e")
    fs.sync_directory(root)
    assert [str(event) for event in fs.events] == [
        "mkdir d",
        "create d/a",
        "rename d → e",
        "write e/a, 1 bytes",
        "link e/a → b",
        "truncate e/a to 0 bytes",
        "unlink e/a",
        "rmdir e",
        "sync_names .",
    ]
    assert Event("promise", acknowledged=1, tried=2).tried == 2


def in_a_child(work: Callable[[], None]) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_what_a_forked_child_does_is_recorded_in_its_place(tmp_path: Path) -> None:
    fs = RecordingFs(str(tmp_path))
    log = Log(fs.events, before=fs.collect)
    # Whoever holds the lock in the parent must not keep the child from working.
    with fs._lock:
        holder = threading.Thread(target=lambda: fs.mkdir(str(tmp_path / "parent")))
        holder.start()
        in_a_child(lambda: fs.write_atomically(str(tmp_path / "file"), [b"one", b"two"]))
    holder.join()
    in_a_child(lambda: fs.mkdir(str(tmp_path / "second")))
    log.acknowledged(1)
    in_a_child(lambda: fs.rename(str(tmp_path / "file"), str(tmp_path / "moved")))
    fs.collect()
    assert [event.kind for event in fs.events] == [
        "create", "write", "write", "sync", "rename", "sync_names", "mkdir", "mkdir", "promise", "rename",
    ]  # fmt: skip
    assert [event.data for event in fs.events if event.kind == "write"] == [b"one", b"two"]
    assert fs.events[4].target == "file"


@pytest.mark.parametrize("careful", [True, False])
def test_a_child_that_does_not_sync_is_found(careful: bool) -> None:
    def run(directory: str, fs: Fs, log: Log) -> None:
        draft = os.path.join(directory, "draft")

        def write() -> None:
            fd = fs.create(draft)
            fs.write_all(fd, b"1!" * 500)
            if careful:
                fs.sync(fd)
            fs.close(fd)

        log.tried(1)
        in_a_child(write)
        fs.rename_durably(draft, os.path.join(directory, "number"))
        log.acknowledged(1)

    report = crashsim.explore(run, check, models=["posix", "btrfs"])
    assert bool(report.failures) is not careful, report
