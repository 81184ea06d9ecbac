"""perdure info"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import perdure
from tests.unit.cli._directories import make_wiki, open_wiki, tree
from tests.unit.cli.conftest import App, Run


def test_it_tells_what_is_there_and_changes_nothing(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    before = tree(tmp_path / "wiki")
    done = run("info", tmp_path / "wiki")
    assert done.code == 0
    for text in (f"{app.name}.Wiki", "pickle", "sealed", "always", "0 entries since"):
        assert text in done.out
    assert tree(tmp_path / "wiki") == before


def test_json_holds_all_of_it(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    found = run("info", tmp_path / "wiki", "--json").json
    assert found["class"] == f"{app.name}.Wiki"
    assert [file["seq"] for file in found["snapshots"]] == [9, 5, 0]
    assert found["last_seq"] == 9
    assert found["entries_since_snapshot"] == 0
    assert found["segments"][0]["base_seq"] == 1
    assert found["lock_holder"] is None


def test_it_names_the_process_that_has_it_open(app: App, tmp_path: Path, run: Run) -> None:
    wiki = open_wiki(app, tmp_path / "wiki")
    wiki.create("Home", "x")
    done = run("info", tmp_path / "wiki")
    assert f"process {os.getpid()}" in done.out
    assert "1 entry since" in done.out
    perdure.control(wiki).close()


def test_nothing_of_the_users_is_imported(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    app.write("raise SystemExit('imported')")
    assert run("info", tmp_path / "wiki").code == 0
    assert run("log", tmp_path / "wiki").code == 0
    assert run("verify", tmp_path / "wiki").code == 0


def test_damaged_files_are_shown_as_such(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    path = next((tmp_path / "wiki").glob("snapshot-*9"))
    path.write_bytes(path.read_bytes()[:-10])
    done = run("info", tmp_path / "wiki")
    assert done.code == 1
    assert "damaged" in done.out


def test_no_such_directory(tmp_path: Path, run: Run) -> None:
    done = run("info", tmp_path / "nothing")
    assert done.code == 2
    assert "no such directory" in done.err
    assert "Traceback" not in done.err


def test_a_directory_of_something_else(tmp_path: Path, run: Run) -> None:
    (tmp_path / "notes.txt").write_text("x")
    done = run("info", tmp_path)
    assert done.code == 2
    assert "nothing of perdure's" in done.err


def test_a_newer_format_is_named(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    path = next((tmp_path / "wiki").glob("journal-*"))
    data = bytearray(path.read_bytes())
    data[16] = 99
    size = int.from_bytes(data[12:16], "little")
    data[8:12] = zlib.crc32(data[12:size]).to_bytes(4, "little")
    path.write_bytes(data)
    for verb in ("info", "verify", "repair"):
        done = run(verb, tmp_path / "wiki")
        assert done.code == 2
        assert "upgrade perdure" in done.err


def test_a_secret_is_asked_for(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki", secret=b"a key")
    key = tmp_path / "key"
    key.write_text("a key\n")
    for verb in ("info", "log", "verify"):
        assert "secret=" in run(verb, tmp_path / "wiki").err
        assert run(verb, tmp_path / "wiki", "--secret-file", key).code == 0
    assert run("verify", tmp_path / "wiki", app.spec, "--secret-file", key).code == 0
