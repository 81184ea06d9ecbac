"""Verbs on the directory of a ``PersistentDict``: three look at it, the others say what it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perdure import PersistentDict
from tests.unit.cli._directories import tree
from tests.unit.cli.conftest import Run


@pytest.fixture(params=[False, True], ids=["plain", "gzipped"])
def pod(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "pod"
    with PersistentDict(path, gzipped=request.param) as opened:
        opened["a"] = {"b": [1]}
        opened["a"]["b"].append(2)
        opened["t", 1] = "x"
    return path


def test_three_verbs_look_at_a_dict_and_change_nothing(pod: Path, run: Run) -> None:
    before = tree(pod)
    found = run("info", pod, "--json").json
    assert (found["kind"], found["codec"], found["last_seq"]) == ("dict", "json", 3)
    assert {file["state"] for file in (*found["snapshots"], *found["segments"])} == {"good", "sealed"}
    assert "kind       dict" in run("info", pod).out
    done = run("verify", pod)
    assert (done.code, done.out.splitlines()[-1]) == (0, "good")
    lines = run("log", pod).out.splitlines()
    assert [line.split("  ")[-1] for line in lines] == [
        "set('a', {'b': [1]})",
        "['a']['b'].append(2)",
        "set(['t', 1], 'x')",
    ]
    assert tree(pod) == before


def test_they_look_at_one_that_is_open(pod: Path, run: Run) -> None:
    with PersistentDict(pod) as opened:
        opened["new"] = 1
        assert f"process {os.getpid()}" in run("info", pod).out
        assert run("verify", pod).code == 0
        assert run("log", pod, "--after", "3").out.rstrip().endswith("set('new', 1)")


@pytest.mark.parametrize("name", ["journal-00000001", "snapshot-00000000000000000003"])
def test_damage_is_found_and_named(pod: Path, run: Run, name: str) -> None:
    data = bytearray((pod / name).read_bytes())
    data[len(data) // 2] ^= 1
    (pod / name).write_bytes(data)
    done = run("verify", pod)
    assert done.code == 1
    assert name in done.out
    assert "opening it with PersistentDict" in done.out


@pytest.mark.parametrize(
    "verb", [("repair", "--dry-run"), ("repair", "--yes"), ("export",), ("diff", "0", "3"), ("snapshot", "app:Wiki")]
)
def test_the_other_verbs_say_what_it_is(pod: Path, run: Run, verb: tuple[str, ...]) -> None:
    before = tree(pod)
    done = run(verb[0], pod, *verb[1:])
    assert done.code == 2
    assert "this holds a PersistentDict" in done.err
    assert tree(pod) == before
