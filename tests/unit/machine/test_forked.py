"""What a forked child of the user's program may do with a system: nothing; and what survives the end of a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import perdure
from tests.unit.system.models import Counter

ROOT = Path(__file__).parents[3]
START = (
    f"import os, sys, threading, warnings\nsys.path[:0] = [{str(Path(perdure.__file__).parents[1])!r}, {str(ROOT)!r}]\n"
)
START += "warnings.filterwarnings('error')\nwarnings.filterwarnings('ignore', '.*fork.*', DeprecationWarning)\n"
START += "import perdure\nfrom tests.unit.system.models import Counter\n"


def run(script: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", START + script, str(directory)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def kept(directory: Path) -> list[int]:
    with perdure.open(Counter, directory) as counter:
        return list(counter.added)


pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def test_a_forked_child_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    script = """
counter = perdure.open(Counter, sys.argv[1])
counter.add(1)
pid = os.fork()
if pid == 0:
    told = []
    for call in (lambda: counter.add(2), counter.get, lambda: perdure.control(counter).take_snapshot(),
                 lambda: perdure.control(counter).sync()):
        try:
            call()
        except perdure.PerdureError as error:
            told.append(type(error).__name__)
    counter.close()
    print(told, flush=True)
    sys.exit(0)
os.waitpid(pid, 0)
counter.add(3)
perdure.control(counter).close()
print("parent", flush=True)
"""
    out = run(script, tmp_path / "c")
    assert "parent" in out
    assert out.count("Error") >= 3
    assert kept(tmp_path / "c") == [1, 3]


def test_a_child_does_not_keep_the_folder_locked(tmp_path: Path) -> None:
    script = """
import time
counter = perdure.open(Counter, sys.argv[1])
counter.add(1)
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    os.close(writer)
    os.read(reader, 1)
    os._exit(0)
perdure.control(counter).close()
with perdure.open(Counter, sys.argv[1]) as counter:
    counter.add(2)
os.close(writer)
os.waitpid(pid, 0)
"""
    run(script, tmp_path / "c")
    assert kept(tmp_path / "c") == [1, 2]


def test_a_child_may_open_for_itself_after_the_parent_has_closed(tmp_path: Path) -> None:
    script = """
counter = perdure.open(Counter, sys.argv[1])
counter.add(1)
perdure.control(counter).close()
pid = os.fork()
if pid == 0:
    with perdure.open(Counter, sys.argv[1]) as counter:
        counter.add(2)
    os._exit(0)
os.waitpid(pid, 0)
"""
    run(script, tmp_path / "c")
    assert kept(tmp_path / "c") == [1, 2]


@pytest.mark.parametrize("durability", ["always", "everysec", "never"])
def test_a_process_that_just_ends_loses_nothing(tmp_path: Path, durability: str) -> None:
    run(
        f"c = perdure.open(Counter, sys.argv[1], durability={durability!r})\nfor n in range(9): c.add(n)",
        tmp_path / "c",
    )
    assert kept(tmp_path / "c") == list(range(9))


@pytest.mark.parametrize("ending", ["sys.exit(0)", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_however_it_ends_what_was_answered_is_there(tmp_path: Path, ending: str) -> None:
    script = f"c = perdure.open(Counter, sys.argv[1])\nfor n in range(9): c.add(n)\n{ending}"
    subprocess.run([sys.executable, "-c", START + script, str(tmp_path / "c")], timeout=60)
    assert kept(tmp_path / "c") == list(range(9))


@pytest.mark.parametrize("durability", ["always", "never"])
def test_an_exit_with_a_daemon_thread_in_the_middle_is_silent_and_loses_nothing(
    tmp_path: Path, durability: str
) -> None:
    script = f"""
counter = perdure.open(Counter, sys.argv[1], durability={durability!r})
def work(start):
    for n in range(start, start + 1_000_000):
        counter.add(n)
        os.write(1, b"%d\\n" % n)
for t in range(3):
    threading.Thread(target=work, args=(t * 1_000_000,), daemon=True).start()
import time
time.sleep(0.1)
"""
    for turn in range(3):
        directory = tmp_path / f"c{turn}"
        acknowledged = [int(line) for line in run(script, directory).splitlines()]
        assert acknowledged
        assert set(acknowledged) <= set(kept(directory))


def test_a_large_state_is_written_by_a_child_while_commands_go_on(tmp_path: Path) -> None:
    script = """
with perdure.open(Counter, sys.argv[1]) as counter:
    counter.big = [str(n) for n in range(300_000)]
    done = []
    threading.Thread(target=lambda: done.append(perdure.control(counter).take_snapshot())).start()
    answers = [counter.add(1) for _ in range(200)]
    while not done: pass
    print(done[0] < 201 or done[0], answers[-1])
"""
    out = run(script, tmp_path / "c")
    assert out.endswith(" 200\n")
    with perdure.open(Counter, tmp_path / "c") as counter:
        assert counter.total == 200
        assert len(counter.big) == 300_000  # type: ignore[attr-defined]
