"""perdure demo, for real and small"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perdure.cli import _demo
from perdure.demo._pages import gather
from tests.unit.cli.conftest import Run


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_nothing_acknowledged_is_missing(run: Run) -> None:
    done = run("demo", "--pages", 300)
    assert done.code == 0, done.out + done.err
    assert "nothing that was acknowledged is missing" in done.out
    assert done.out.count("SIGKILL") == 2
    for line in done.out.splitlines():
        # The commands that it recommends do work.
        if "perdure-demo" in line and line.startswith("  "):
            arguments = line.split("perdure ", 1)[1].split()
            assert run(*arguments).code == 0, line


def test_figures_for_machines_and_again_in_its_own_folder(run: Run) -> None:
    assert run("demo", "--pages", 60, "--dir", "there").code == 0
    done = run("demo", "--pages", 90, "--dir", "there", "--json")
    assert done.code == 0
    assert done.json["missing"] == 0
    assert [each["killed"] for each in done.json["runs"]] == [True, True, False]
    assert done.json["runs"][-1]["found"] == 90
    assert done.json["figures"]["entries"] == 92


def test_a_foreign_folder_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    done = run("demo", "--dir", "mine", "--pages", 60)
    assert done.code == 2
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


def test_something_of_the_users_in_the_demos_folder_is_left_alone(run: Run, tmp_path: Path) -> None:
    assert run("demo", "--pages", 60).code == 0
    (tmp_path / "perdure-demo" / "thesis.txt").write_text("x")
    before = sorted(os.listdir(tmp_path / "perdure-demo"))
    assert run("demo", "--pages", 60).code == 2
    assert sorted(os.listdir(tmp_path / "perdure-demo")) == before


def test_a_page_that_got_lost_would_be_noticed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    look = _demo._look

    def forgetful(path: str, pages: dict[str, str], acknowledged: list[str], seconds: float, *, killed: bool) -> object:
        changed = {**pages, acknowledged[0]: "another text"}
        return look(path, changed, acknowledged, seconds, killed=killed)

    monkeypatch.setattr(_demo, "_look", forgetful)
    done = run("demo", "--pages", 60)
    assert done.code == 1
    assert "missing" in done.out


def test_pages_are_the_same_each_time() -> None:
    assert list(gather(200).items()) == list(gather(200).items())
    assert len(gather(200)) == 200
