"""The command line on systems that are on engines."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.cli._main import run
from tests.engines._bank import Bank, BankruptError

APP = "tests.engines._bank:Bank"


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", perdure.EngineWarning)
        yield


def say(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code, and what was written to both streams."""
    capsys.readouterr()
    code = run(arguments)
    found = capsys.readouterr()
    return code, found.out + found.err


def test_create_makes_a_system_once(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = say(capsys, "create", url, APP)
    assert code == 0, said
    assert "made" in said
    bank = perdure.open(Bank, url)
    assert bank.inc("a") == 1
    perdure.control(bank).close()
    code, said = say(capsys, "create", url, APP)
    assert code == 2
    assert "there is a system of this name" in said


def test_info_log_and_verify_tell_of_a_system(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    bank = perdure.open(Bank, url, create=True)
    control = perdure.control(bank)
    bank.inc("first")
    control.take_snapshot()
    bank.inc("second")
    with pytest.raises(BankruptError):
        bank.break_and_undo("third")
    control.close()

    code, said = say(capsys, "info", url, "--json")
    found = json.loads(said)
    assert code == 0
    assert found["class"] == "tests.engines._bank.Bank"
    assert [each["seq"] for each in found["snapshots"]] == [1, 0]
    assert found["durability"]
    code, said = say(capsys, "info", url)
    assert code == 0
    assert "tests.engines._bank.Bank" in said

    code, said = say(capsys, "log", url, "--json")
    lines = [json.loads(line) for line in said.splitlines()]
    assert code == 0
    assert [(line["seq"], line["method"]) for line in lines] == [(1, "inc"), (2, "inc"), (3, "break_and_undo")]
    code, said = say(capsys, "log", url, "--after", "1", "--before", "3")
    assert (code, said.count("\n"), "second" in said) == (0, 1, True)

    code, said = say(capsys, "verify", url, APP, "--json")
    assert code == 0, said
    checks = json.loads(said)["checks"]
    assert [(check["from_seq"], check["to_seq"], check["same"]) for check in checks] == [(0, 1, True), (1, 3, True)]


def test_verify_finds_a_state_that_the_log_does_not_make(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    bank = perdure.open(Bank, url, create=True)
    bank.inc("a")
    bank.done.append("behind the back")
    perdure.control(bank).take_snapshot()
    perdure.control(bank).close()
    code, said = say(capsys, "verify", url, APP)
    assert code == 1
    assert "ANOTHER STATE" in said


def test_a_directory_goes_to_an_engine_and_back(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, back = str(tmp_path / "bank"), str(tmp_path / "back")
    bank = perdure.open(Bank, folder)
    drawn = [bank.draw() for _ in range(3)]
    log_id = perdure.system.system_of(bank).engine.journal.log_id
    perdure.control(bank).close()

    assert say(capsys, "copy", folder, url, APP)[0] == 0
    assert say(capsys, "copy", folder, url, APP)[0] == 2
    moved = perdure.open(Bank, url)
    assert moved.drawn == drawn
    assert perdure.control(moved).seq == 3
    drawn.append(moved.draw())
    assert perdure.system.system_of(moved).engine.log.log_id == log_id
    perdure.control(moved).close()

    assert say(capsys, "copy", url, back, APP)[0] == 0
    returned = perdure.open(Bank, back)
    assert returned.drawn == drawn
    assert perdure.control(returned).seq == 4
    assert perdure.system.system_of(returned).engine.journal.log_id == log_id
    returned.inc("on")
    perdure.control(returned).close()
    again = perdure.open(Bank, back)
    assert perdure.control(again).seq == 5
    perdure.control(again).close()


def test_what_cannot_be_copied_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = say(capsys, "copy", str(tmp_path), str(tmp_path / "other"))
    assert (code, "cp -a" in said) == (2, True)


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = say(capsys, "info", "postgresql://127.0.0.1:9/none?system=x")
    assert (code, "nobody answers" in said) == (2, True)
