"""The reference of the command line says what the command says, and the shells complete it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from perdure.cli._main import cli
from tests.docs._pages import ROOT
from tools.command_line_page import PAGE, page


def test_the_page_has_what_the_verbs_say() -> None:
    text = PAGE.read_text("utf-8")
    assert text == page(text), "write it anew: python tools/command_line_page.py"


def test_every_verb_and_every_option_says_what_it_does() -> None:
    for name, verb in cli.commands.items():
        assert verb.help, name
        if not verb.hidden:
            assert verb.get_short_help_str(), name
            for option in verb.params:
                assert getattr(option, "help", "") or not isinstance(option, click.Option), f"{name} {option.name}"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One in which ``perdure`` is this Python's."""
    command = tmp_path / "bin" / "perdure"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m perdure "$@"\n', "utf-8")
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}


@pytest.mark.parametrize(
    ("line", "index", "expected"),
    [("perdure ver", 1, ["verify"]), ("perdure re", 1, ["repair"]), ("perdure log --fo", 2, ["--follow"])],
)
def test_bash_completes_verbs_and_options(
    line: str, index: int, expected: list[str], environment: dict[str, str]
) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash")
    # What bash does at the Tab key, with the line that the page tells people to put into ~/.bashrc.
    script = (
        'eval "$(_PERDURE_COMPLETE=bash_source perdure)"\n'
        f'COMP_WORDS=({line}) COMP_CWORD={index} COMP_LINE="{line}"\n'
        'entry=$(complete -p perdure)\n[[ $entry =~ -F\\ ([^ ]+) ]] || exit 3\n"${BASH_REMATCH[1]}" perdure\n'
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run([bash, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == expected, done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_are_answered(shell: str, environment: dict[str, str]) -> None:
    line = ["perdure"]
    asked = {**environment, "COMP_WORDS": "perdure sna", "COMP_CWORD": "sna" if shell == "fish" else "1"}
    source = subprocess.run(
        line, env={**environment, "_PERDURE_COMPLETE": f"{shell}_source"}, capture_output=True, text=True, timeout=60
    )
    assert f"_PERDURE_COMPLETE={shell}_complete" in source.stdout
    done = subprocess.run(
        line, env={**asked, "_PERDURE_COMPLETE": f"{shell}_complete"}, capture_output=True, text=True, timeout=60
    )
    assert "snapshot" in done.stdout, done.stderr
    assert "verify" not in done.stdout
