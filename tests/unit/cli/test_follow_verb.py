"""``perdure follow`` beside ``perdure serve``, each in a process of its own."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import perdure
from tests.server._process import BOTH, ROOT, Served
from tests.unit.replica.models import Wiki

WAIT_S = 60.0
WIKI = "tests.unit.replica.models:Wiki"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    server = Served(tmp_path, app=WIKI)
    server.start()
    yield server
    server.stop()


def follow(served: Served, directory: Path, *options: str) -> subprocess.Popen[str]:
    token_file = served.folder / "token"
    token_file.write_text(BOTH + "\n")
    command = [sys.executable, "-m", "perdure", "follow", WIKI, served.url, "--dir", str(directory), "--json"]
    return subprocess.Popen(
        [*command, "--token-file", str(token_file), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_replica_follows_is_stopped_goes_on_and_is_promoted(served: Served, tmp_path: Path) -> None:
    wiki = perdure.connect(Wiki, served.url, token=BOTH)
    with contextlib.closing(perdure.control(wiki)):
        wiki.put("Home", "Welcome")
        with follow(served, tmp_path / "r") as process:
            assert told(process)["directory"] == str(tmp_path / "r")
            wiki.put("Other", "More")
            with perdure.open(Wiki, tmp_path / "r", mode="r") as reader:
                deadline = time.monotonic() + WAIT_S
                while "Other" not in reader.pages:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            assert told(process)["stopped"]
            process.communicate()
            assert process.returncode == 0
        with follow(served, tmp_path / "r", "--promote") as process:
            assert told(process)["promoted"]
            process.communicate()
            assert process.returncode == 0
        with perdure.open(Wiki, tmp_path / "r") as promoted:
            assert set(promoted.pages) == {"Home", "Other"}
            with pytest.raises(perdure.PerdureError, match="replica was promoted"):
                wiki.put("Late", "No")


def test_what_cannot_run_says_so(served: Served, tmp_path: Path) -> None:
    with follow(served, tmp_path / "r", "--codec", "json") as process:
        _, errors = process.communicate()
        assert process.returncode == 2
        assert "codec" in errors
