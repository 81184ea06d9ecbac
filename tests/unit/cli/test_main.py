"""The command line as a whole: help, exit codes, completion, a missing library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import perdure
from perdure.cli import main
from tests.unit.cli.conftest import Run

VERBS = "info log verify repair snapshot export import diff demo".split()


def test_version_and_help(run: Run) -> None:
    assert perdure.__version__ in run("--version").out
    text = run("--help").out
    assert all(f"\n  {verb} " in text for verb in VERBS)
    assert "_replay" not in text


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_explains_itself(run: Run, verb: str) -> None:
    done = run(verb, "--help")
    assert done.code == 0
    assert len(done.out.splitlines()) > 5
    assert "--json" in done.out


def test_a_wrong_call_cannot_run(run: Run) -> None:
    assert run("nothing").code == 2
    assert run("info").code == 2
    assert run("log", ".", "--after", "x").code == 2
    assert run("verify", ".", "a:B", "--rename", "x").code == 2


def test_python_dash_m(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "perdure", "info", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("perdure: ")


def test_without_the_extra_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(["--version"]) == 2
    assert "pip install 'perdure[cli]'" in capsys.readouterr().err


def test_importing_perdure_needs_neither_click_nor_rich() -> None:
    code = "import sys, perdure, perdure.cli, perdure.repair; sys.exit('click' in sys.modules or 'rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_shell_completion() -> None:
    environment = {**os.environ, "_PERDURE_COMPLETE": "zsh_complete", "COMP_WORDS": "perdure in", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "perdure"], env=environment, capture_output=True, text=True, check=False
    )
    assert "info" in done.stdout


def test_a_directory_that_cannot_be_read_is_said(tmp_path: Path, run: Run) -> None:
    (tmp_path / "journal-00000001").mkdir()
    done = run("info", tmp_path)
    assert done.code == 2
    assert "cannot be read" in done.err
