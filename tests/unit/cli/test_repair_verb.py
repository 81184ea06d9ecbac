"""perdure repair"""

from __future__ import annotations

from pathlib import Path

import perdure
from tests.unit.cli._directories import damage, make_wiki, open_wiki, tree
from tests.unit.cli.conftest import App, Run


def broken(app: App, directory: Path) -> Path:
    """Damaged at seq 2, with no snapshot behind it."""
    wiki = open_wiki(app, directory)
    for name in ("one", "two", "three"):
        wiki.create(name, name.upper())
    perdure.control(wiki).close()
    damage(directory, b"TWO")
    return directory


def test_nothing_to_repair(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    before = tree(tmp_path / "wiki")
    done = run("repair", tmp_path / "wiki")
    assert (done.code, "nothing to repair" in done.out) == (0, True)
    assert tree(tmp_path / "wiki") == before


def test_a_dry_run_says_what_would_be_lost_and_changes_nothing(app: App, tmp_path: Path, run: Run) -> None:
    wiki = broken(app, tmp_path / "wiki")
    before = tree(wiki)
    done = run("repair", wiki, "--dry-run")
    assert done.code == 1
    assert "LOST: 2 entries (seq 2 to 3)" in done.out
    assert tree(wiki) == before
    assert run("repair", wiki, "--dry-run", "--json").json["lost_last"] == 3
    assert tree(wiki) == before


def test_nobody_to_ask_is_an_error(app: App, tmp_path: Path, run: Run) -> None:
    wiki = broken(app, tmp_path / "wiki")
    before = tree(wiki)
    done = run("repair", wiki)
    assert done.code == 2
    assert "--yes" in done.err
    assert tree(wiki) == before


def test_after_it_all_is_well(app: App, tmp_path: Path, run: Run) -> None:
    wiki = broken(app, tmp_path / "wiki")
    done = run("repair", wiki, "--yes")
    assert done.code == 0
    assert "quarantine" in done.out
    assert run("verify", wiki, app.spec).code == 0
    assert "set aside in quarantine/" in run("info", wiki).out
    again = open_wiki(app, wiki)
    assert list(again.pages) == ["one"]
    perdure.control(again).close()


def test_json(app: App, tmp_path: Path, run: Run) -> None:
    wiki = broken(app, tmp_path / "wiki")
    found = run("repair", wiki, "--yes", "--json").json
    assert (found["state"], found["reach"], found["lost_first"]) == ("finished", 1, 2)


def test_a_writer_keeps_it_away(app: App, tmp_path: Path, run: Run) -> None:
    directory = broken(app, tmp_path / "wiki")
    lock = perdure.fs.DirectoryLock(perdure.fs.Fs(), str(directory))
    done = run("repair", directory, "--yes")
    lock.release()
    assert done.code == 2
    assert "open" in done.err


def test_nothing_to_build_on(app: App, tmp_path: Path, run: Run) -> None:
    wiki = broken(app, tmp_path / "wiki")
    for path in wiki.glob("snapshot-*"):
        path.write_bytes(b"x" * 300)
    done = run("repair", wiki, "--yes")
    assert done.code == 1
    assert "cannot be repaired" in done.err
