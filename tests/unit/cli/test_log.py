"""perdure log"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import perdure
from tests.unit.cli._directories import damage, make_wiki, open_wiki, tree
from tests.unit.cli.conftest import App, Run


def test_each_command_is_a_line(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    before = tree(tmp_path / "wiki")
    lines = run("log", tmp_path / "wiki").out.splitlines()
    assert len(lines) == 7
    assert "create('Home', 'Welcome')" in lines[0]
    assert lines[2].endswith("fail()  → raised builtins.ValueError")
    assert "put(Page(name='Second', text='made outside', tags={'a', 'b'}), when=1.5)" in lines[3]
    assert "guarded()  → aborted builtins.KeyError" in lines[4]
    assert tree(tmp_path / "wiki") == before


def test_long_values_are_shortened_unless_asked(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    assert "x" * 100 not in run("log", tmp_path / "wiki").out
    assert "xxx…'" in run("log", tmp_path / "wiki").out
    assert "x" * 200 in run("log", tmp_path / "wiki", "--full").out


def test_a_part_of_it(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    found = run("log", tmp_path / "wiki", "--after", 1, "--before", 4, "--json").lines
    assert [line["seq"] for line in found] == [2, 3]
    assert found[1]["outcome"] == "raised"


def test_json_lines(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    found = run("log", tmp_path / "wiki", "--json").lines
    assert found[0]["method"] == "create"
    assert found[0]["args"] == ["Home", "Welcome"]
    assert found[3]["args"][0]["$object"] == f"{app.name}.Page"
    assert found[3]["kwargs"] == {"when": 1.5}


def test_commands_before_the_damage_are_shown(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    damage(tmp_path / "wiki")
    done = run("log", tmp_path / "wiki")
    assert done.code == 1
    assert "guarded()" in done.out
    assert "perdure repair" in done.err


def test_a_pruned_journal_says_where_it_begins(app: App, tmp_path: Path, run: Run) -> None:
    wiki = open_wiki(app, tmp_path / "wiki", keep_history=False)
    for number in range(3):
        wiki.create("a", str(number))
        perdure.control(wiki).take_snapshot()
    perdure.control(wiki).close()
    again = open_wiki(app, tmp_path / "wiki", keep_history=False)
    for number in range(3):
        again.create("b", str(number))
        perdure.control(again).take_snapshot()
    perdure.control(again).close()
    done = run("log", tmp_path / "wiki")
    assert done.code == 0
    assert "not in the journal any more" in done.err


def test_what_became_of_the_last_command_is_unknown_until_it_is_written(app: App, tmp_path: Path, run: Run) -> None:
    program = (
        "import contextlib, os, sys, perdure\n"
        f"from {app.name} import Wiki\n"
        "from perdure.machine import Machine\n"
        "Machine.mark = lambda self: None\n"  # As if it died before it was idle.
        "wiki = perdure.open(Wiki, 'wiki', snapshot='manual', validate='off')\n"
        "wiki.create('a', 'b')\n"
        "with contextlib.suppress(ValueError):\n"
        "    wiki.fail()\n"
        "if sys.argv[1] == 'snapshot':\n"
        "    perdure.control(wiki).take_snapshot()\n"
        "os._exit(0)\n"
    )

    def outcomes() -> list[str]:
        return [line["outcome"] for line in run("log", "wiki", "--json").lines]

    subprocess.run([sys.executable, "-c", program, "none"], cwd=tmp_path, check=True, timeout=60)
    assert outcomes() == ["returned", "unknown"]
    assert run("log", "wiki").out.splitlines()[1].endswith("fail()  → unknown")
    with open_wiki(app, tmp_path / "wiki"):
        pass
    assert outcomes() == ["returned", "raised"]
    with open_wiki(app, tmp_path / "wiki") as wiki:
        wiki.create("c", "d")
    subprocess.run([sys.executable, "-c", program, "snapshot"], cwd=tmp_path, check=True, timeout=60)
    assert outcomes() == ["returned", "raised", "returned", "returned", "raised"]


def test_other_codecs(tmp_path: Path, run: Run) -> None:
    for codec in ("json", "msgpack"):
        with perdure.open(dict, tmp_path / codec, codec=codec) as kept:  # type: ignore[var-annotated]
            kept["key"] = [1, {"two": 2}]
        line = run("log", tmp_path / codec, "--json").lines[0]
        assert line["args"] == ["key", [1, {"two": 2}]]


def test_following_a_writer_until_interrupted(app: App, tmp_path: Path) -> None:
    wiki = open_wiki(app, tmp_path / "wiki")
    wiki.create("first", "x")
    command = [sys.executable, "-m", "perdure", "log", str(tmp_path / "wiki"), "--follow"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert "first" in child.stdout.readline()
        wiki.create("second", "y")
        assert "second" in child.stdout.readline()
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=20)
        assert child.returncode == 130
        assert err.strip() == ""
    finally:
        child.kill()
        child.communicate()
    perdure.control(wiki).close()


def test_a_broken_pipe_is_quiet(app: App, tmp_path: Path) -> None:
    wiki = open_wiki(app, tmp_path / "wiki", durability="never")
    for number in range(3000):
        wiki.create(str(number), "x" * 50)
    perdure.control(wiki).close()
    read, write = os.pipe()
    command = [sys.executable, "-m", "perdure", "log", str(tmp_path / "wiki")]
    child = subprocess.Popen(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    os.read(read, 100)
    os.close(read)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 141
    assert err == ""


def test_following_survives_pruning(app: App, tmp_path: Path) -> None:
    wiki = open_wiki(app, tmp_path / "wiki", keep_history=False)
    wiki.create("first", "x")
    command = [sys.executable, "-m", "perdure", "log", str(tmp_path / "wiki"), "--follow", "--json"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert "first" in child.stdout.readline()
        for number in range(5):
            wiki.create(f"page {number}", "y")
            perdure.control(wiki).take_snapshot()
            time.sleep(0.05)
        wiki.create("last", "z")
        for line in child.stdout:
            if "last" in line:
                break
    finally:
        child.kill()
        child.communicate()
    perdure.control(wiki).close()
