"""The crash tests record at the seam. Here the system calls of a real process prove that nothing goes round it."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

import pytest

import perdure.fs
from perdure.testing import crashsim
from perdure.testing.crashsim import Event
from tests.crash import _figures as figures
from tests.crash._workloads import SCRIPTS, check

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def strace() -> None:
    if crashsim.strace_is_there():
        return
    if os.environ.get("CI"):
        pytest.fail("strace is not installed; the continuous integration must have it", pytrace=False)
    pytest.skip("strace is not installed")


def run_traced(tmp_path: Path, script: str) -> tuple[list[Event], list[Event]]:
    """What strace saw, and what the seam saw."""
    directory = tmp_path / "traced"
    directory.mkdir()
    events_path = tmp_path / "events"
    source = str(Path(perdure.fs.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, str(ROOT)])}
    command = [sys.executable, "-m", "tests.crash._traced_program", str(directory), script, str(events_path)]
    seen = crashsim.record_program(command, str(directory), environment=environment)
    # Written a moment ago by the program above.
    noted = [Event(*fields) for fields in pickle.loads(events_path.read_bytes())]
    return seen, noted


@pytest.mark.usefixtures("strace")
def test_every_system_call_that_changes_files_goes_through_the_seam(tmp_path: Path) -> None:
    seen, noted = run_traced(tmp_path, SCRIPTS["everything"])
    assert len(seen) > 50
    assert [str(event) for event in seen] == [str(event) for event in noted]
    assert seen == noted


@pytest.mark.usefixtures("strace")
def test_what_strace_recorded_gives_the_files_that_are_there(tmp_path: Path) -> None:
    seen, _ = run_traced(tmp_path, SCRIPTS["rotation"])

    def replay(directory: str, fs: crashsim.RecordingFs, log: crashsim.Log) -> None:
        log.tried(7)
        fs.events += seen

    report = crashsim.explore(replay, check, models=["ext4"])  # type: ignore[arg-type]
    figures.explored(report)
    assert report.states > 10


@pytest.mark.usefixtures("strace")
def test_a_program_that_fails_is_reported(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with 3"):
        crashsim.record_program([sys.executable, "-c", "raise SystemExit(3)"], str(tmp_path))


@pytest.mark.usefixtures("strace")
def test_what_is_not_modelled_is_refused(tmp_path: Path) -> None:
    program = "import os, sys; fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); os.posix_fallocate(fd, 0, 10)"
    with pytest.raises(NotImplementedError, match="fallocate"):
        crashsim.record_program([sys.executable, "-c", program, str(tmp_path / "a")], str(tmp_path))
