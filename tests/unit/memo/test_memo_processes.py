"""``@memo`` from several processes: one computes, the others wait; when it is killed one of them takes over."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from perdure.memo import memo


def ask(directory: str, answers: multiprocessing.SimpleQueue[tuple[int, list[int]]]) -> None:
    os.chdir(directory)

    @memo("cache")
    def slow(n: int) -> list[int]:
        with open("calls", "a") as calls:
            calls.write(f"{os.getpid()}\n")
        time.sleep(60 if os.path.exists("hang") else 0.2)
        return [n]

    answers.put((os.getpid(), slow(3)))


def start(method: str, directory: Path) -> tuple[list[multiprocessing.process.BaseProcess], object]:
    context = multiprocessing.get_context(method)
    answers = context.SimpleQueue()
    children = [context.Process(target=ask, args=(str(directory), answers)) for _ in range(4)]  # type: ignore[attr-defined]
    for child in children:
        child.start()
    return children, answers


def callers(directory: Path) -> list[int]:
    try:
        text = (directory / "calls").read_text()
    except FileNotFoundError:
        return []
    return [int(line) for line in text.splitlines()] if text.endswith("\n") else []


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_four_processes_compute_once(tmp_path: Path, method: str) -> None:
    children, answers = start(method, tmp_path)
    for child in children:
        child.join(60)
    assert [answers.get()[1] for _ in children] == [[3]] * 4  # type: ignore[attr-defined]
    assert len(callers(tmp_path)) == 1
    names = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert [name.endswith(".entry") for name in names] == [True]
    answers.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_when_the_computing_process_is_killed_one_successor_computes(tmp_path: Path, method: str) -> None:
    (tmp_path / "hang").touch()
    children, answers = start(method, tmp_path)
    while not callers(tmp_path):
        time.sleep(0.005)
    (tmp_path / "hang").unlink()
    killed_at = time.monotonic()
    os.kill(callers(tmp_path)[0], signal.SIGKILL)
    while len(callers(tmp_path)) < 2:
        time.sleep(0.001)
        assert time.monotonic() - killed_at < 30
    for child in children:
        child.join(60)
    assert [answers.get()[1] for _ in range(3)] == [[3]] * 3  # type: ignore[attr-defined]
    assert len(callers(tmp_path)) == 2
    answers.close()  # type: ignore[attr-defined]


_SCRIPT = """
import dataclasses, multiprocessing, sys, warnings
from pathlib import Path
import perdure
from perdure.fill import fill

warnings.simplefilter("error", perdure.MemoWarning)

@dataclasses.dataclass
class Point:
    x: int

    def move(self, by):
        self.x += by
        return self.x

@perdure.memo("cache", on_code_change="recompute")
def moved(point, by):
    print("computed", flush=True)
    return Point(point.x + by)

class Mover:
    @perdure.memo("cache", on_code_change="recompute")
    def move(self, point):
        print("computed", flush=True)
        return Point(point.x + 1)

def make(name):
    return Point(int(name))

def work():
    print(moved(Point(1), by=2), Mover().move(Point(5)), flush=True)
    with perdure.open(Point(0), "system") as point:
        print(point.move(1), flush=True)

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    child = multiprocessing.Process(target=work)
    child.start()
    child.join()
    work()
    stash = perdure.DirectoryStash(Path("stash"))
    fill(stash, ["1", "2"], make, workers=1, progress=False)
    print(stash["1"], stash["2"])
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_script_and_its_children_know_its_classes_by_one_name(tmp_path: Path, method: str) -> None:
    (tmp_path / "script.py").write_text(_SCRIPT)
    ran = subprocess.run(
        [sys.executable, "script.py", method], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    points = "Point(x=3) Point(x=6)"
    assert ran.stdout.splitlines() == ["computed", "computed", points, "1", points, "2", "Point(x=1) Point(x=2)"]


def test_a_child_that_the_computation_forks_does_not_keep_the_lease(tmp_path: Path) -> None:
    program = """
import os, sys, time
from perdure.memo import memo
@memo("cache")
def f():
    if sys.argv[1] == "first":
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        print("computing", flush=True)
        time.sleep(60)
    return 5
print(f(), flush=True)
"""
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, "program.py"]
    with subprocess.Popen([*command, "first"], cwd=tmp_path, stdout=subprocess.PIPE, start_new_session=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"computing\n"
        os.kill(first.pid, signal.SIGKILL)
        second = subprocess.run(
            [*command, "second"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
        )
        assert second.stdout == "5\n"
        os.killpg(first.pid, signal.SIGKILL)


@memo("unused")
def at_top(n: int) -> int:
    return n * 2


def test_a_memo_can_be_handed_to_a_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_top._store, "directory", str(tmp_path / "cache"))
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        assert list(pool.map(at_top, range(5))) == [0, 2, 4, 6, 8]
    assert at_top.info().entries == 5


def test_scripts_with_functions_of_one_name_do_not_meet(tmp_path: Path) -> None:
    outputs = []
    for name in ("one.py", "two.py", "one.py"):
        (tmp_path / name).write_text(
            f"from perdure.memo import memo\n@memo('cache')\ndef f(): print('computed'); return {name!r}\nprint(f())\n"
        )
        done = subprocess.run([sys.executable, name], cwd=tmp_path, capture_output=True, text=True, check=True)
        outputs.append(done.stdout.split())
    assert outputs == [["computed", "one.py"], ["computed", "two.py"], ["one.py"]]
