"""perdure export and perdure import"""

from __future__ import annotations

import json
import os
import shelve
from pathlib import Path
from typing import Any

import pytest

import perdure
from tests.unit.cli._directories import damage, make_wiki, open_wiki, tree
from tests.unit.cli.conftest import App, Run


def exported(run: Run, directory: Path, target: Path, *arguments: object) -> list[Any]:
    done = run("export", directory, *arguments)
    assert done.code == 0, done.err
    target.write_text(done.out, encoding="utf-8")
    return done.lines


@pytest.mark.parametrize("with_class", [False, True])
def test_the_same_state_comes_back(app: App, tmp_path: Path, run: Run, with_class: bool) -> None:
    digest = make_wiki(app, tmp_path / "wiki")
    before = tree(tmp_path / "wiki")
    file = tmp_path / "wiki.jsonl"
    exported(run, tmp_path / "wiki", file, *([app.spec] if with_class else []))
    assert tree(tmp_path / "wiki") == before
    done = run("import", tmp_path / "copy", file, app.spec, "--json")
    assert done.code == 0, done.err
    assert done.json["digest"] == digest
    assert done.json["commands"] == 7
    copy = open_wiki(app, tmp_path / "copy")
    assert perdure.control(copy).digest() == digest
    commands = [list(perdure.control(copy).history())]
    perdure.control(copy).close()
    wiki = open_wiki(app, tmp_path / "wiki")
    commands.append(list(perdure.control(wiki).history()))
    perdure.control(wiki).close()
    # Seqs, times and outcomes are the same, too; the arguments are compared by what they led to.
    told = [[(c.seq, c.at, c.method, c.outcome, c.error) for c in each] for each in commands]
    assert told[0] == told[1]
    assert run("verify", tmp_path / "copy", app.spec).code == 0
    assert (
        run("export", tmp_path / "copy", *([app.spec] if with_class else [])).lines[2:]
        == run("export", tmp_path / "wiki", *([app.spec] if with_class else [])).lines[2:]
    )


def test_lines_can_be_read_by_others(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    lines = exported(run, tmp_path / "wiki", tmp_path / "f", app.spec)
    commands = [line for line in lines if "method" in line]
    assert commands[0]["args"] == ["Home", "Welcome"]
    assert list(commands[3]["args"][0]) == ["$pickle"]
    assert commands[6]["args"] == [
        {"$bytes": "Ynl0ZXM="},
        {"$float": "nan"},
        [1, [2]],
        {"k": {"$tuple": [1, 2]}},
        {"$set": [3, 4]},
    ]
    assert lines[-1] == {"end": True, "commands": 7}


def test_arguments_that_share_an_object_go_on_sharing_it(app: App, tmp_path: Path, run: Run) -> None:
    wiki = open_wiki(app, tmp_path / "wiki")
    shared = [1]
    page = app.module.Page("p", "t")
    wiki.extend(shared, shared)
    wiki.extend(page, [page])
    digest = perdure.control(wiki).digest()
    perdure.control(wiki).close()
    for arguments in ([], [app.spec]):
        lines = exported(run, tmp_path / "wiki", tmp_path / "f", *arguments)
        assert all("$call" in line for line in lines if "method" in line)
        target = tmp_path / f"copy{len(arguments)}"
        assert run("import", target, tmp_path / "f", app.spec, "--json").json["digest"] == digest


@pytest.mark.parametrize("codec", ["pickle", "json", "msgpack"])
def test_builtin_systems_need_no_class(tmp_path: Path, run: Run, codec: str) -> None:
    with perdure.open(dict, tmp_path / "d", codec=codec) as kept:  # type: ignore[var-annotated]
        kept["a"] = [1, 2]
        kept.update({"b": {"c": None}})
        digest = perdure.control(kept).digest()
    exported(run, tmp_path / "d", tmp_path / "f")
    done = run("import", tmp_path / "copy", tmp_path / "f", "--json")
    assert done.json["digest"] == digest, done.err


def test_a_pruned_directory_is_exported_from_its_oldest_state(app: App, tmp_path: Path, run: Run) -> None:
    wiki = open_wiki(app, tmp_path / "wiki", keep_history=False)
    for number in range(4):
        wiki.create(str(number), "x")
        perdure.control(wiki).take_snapshot()
    wiki.create("last", "x")
    digest = perdure.control(wiki).digest()
    perdure.control(wiki).close()
    lines = exported(run, tmp_path / "wiki", tmp_path / "f")
    assert lines[0]["base"]["seq"] == 3
    assert run("import", tmp_path / "copy", tmp_path / "f", app.spec, "--json").json["digest"] == digest


def test_with_a_secret(app: App, tmp_path: Path, run: Run) -> None:
    digest = make_wiki(app, tmp_path / "wiki", secret=b"key")
    (tmp_path / "key").write_bytes(b"key")
    secret = ("--secret-file", tmp_path / "key")
    exported(run, tmp_path / "wiki", tmp_path / "f", *secret)
    done = run("import", tmp_path / "copy", tmp_path / "f", app.spec, "--json", *secret)
    assert done.json["digest"] == digest
    copy = open_wiki(app, tmp_path / "copy", secret=b"key")
    copy.create("more", "x")
    perdure.control(copy).close()
    assert run("verify", tmp_path / "copy", *secret).code == 0


def test_a_line_may_be_taken_out(app: App, tmp_path: Path, run: Run) -> None:
    wiki = open_wiki(app, tmp_path / "wiki")
    for name in ("one", "two", "three"):
        wiki.create(name, "x")
    perdure.control(wiki).close()
    exported(run, tmp_path / "wiki", tmp_path / "f")
    text = (tmp_path / "f").read_text().splitlines(keepends=True)
    (tmp_path / "f").write_text("".join(line for line in text if '"two"' not in line))
    done = run("import", tmp_path / "copy", tmp_path / "f", app.spec)
    assert done.code == 0
    assert "numbered anew" in done.err
    copy = open_wiki(app, tmp_path / "copy")
    assert list(copy.pages) == ["one", "three"]
    perdure.control(copy).close()


def test_what_comes_out_differently_is_not_imported(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    exported(run, tmp_path / "wiki", tmp_path / "f")
    text = (tmp_path / "f").read_text().replace("builtins.ValueError", "builtins.OSError")
    (tmp_path / "f").write_text(text)
    done = run("import", tmp_path / "copy", tmp_path / "f", app.spec)
    assert done.code == 1
    assert "seq 3" in done.err
    assert not (tmp_path / "copy").exists()
    assert not [name for name in os.listdir(tmp_path) if ".tmp-" in name]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (0, "nonsense"),
        (0, '{"a": 1}'),
        (0, '{"perdure": "export", "version": 99}'),
        (0, '{"perdure": "export", "version": 1}'),
        (1, '{"state": "!"}'),
        (2, "[]"),
        (2, '{"seq": 1}'),
        (2, '{"seq": 1, "at_ns": 0, "method": "create", "args": 5}'),
        (2, '{"seq": 1, "at_ns": 0, "method": "create", "args": [{"$bytes": 5}]}'),
        (2, '{"seq": 1, "at_ns": 0, "method": "create", "$call": "gASVCwAAAA=="}'),
        (-1, ""),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(app: App, tmp_path: Path, run: Run, line: int, text: str) -> None:
    make_wiki(app, tmp_path / "wiki")
    exported(run, tmp_path / "wiki", tmp_path / "f")
    lines = (tmp_path / "f").read_text().splitlines()
    lines[line] = text
    (tmp_path / "f").write_text("\n".join(lines))
    done = run("import", tmp_path / "copy", tmp_path / "f", app.spec)
    assert done.code in (1, 2)
    assert done.err.startswith("perdure: ")
    assert "Traceback" not in done.err
    assert not (tmp_path / "copy").exists()


def test_nothing_is_overwritten(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    exported(run, tmp_path / "wiki", tmp_path / "f")
    done = run("import", tmp_path / "wiki", tmp_path / "f", app.spec)
    assert done.code == 2
    assert "something already" in done.err


def test_damage_ends_an_export_without_its_end(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    damage(tmp_path / "wiki")
    done = run("export", tmp_path / "wiki")
    assert done.code == 1
    assert "end" not in json.loads(done.out.splitlines()[-1])


# ---- from other libraries


def test_a_shelf_becomes_a_dict_and_what_was_passed_over_is_counted(tmp_path: Path, run: Run) -> None:
    with shelve.open(str(tmp_path / "old")) as shelf:
        shelf["name"] = "value"
        shelf["rows"] = [{"n": 1}]
        shelf["set"] = {1, 2}
        shelf["class"] = os.system
    done = run("import", tmp_path / "new", tmp_path / "old", "--from", "shelve")
    assert done.code == 0, done.err
    assert "2 keys imported, 2 passed over" in done.out
    assert "set: set cannot be stored as JSON" in done.out
    with perdure.PersistentDict(tmp_path / "new") as pod:
        assert pod == {"name": "value", "rows": [{"n": 1}]}
    done = run("import", tmp_path / "pickled", tmp_path / "old", "--from", "shelve", "--codec", "pickle", "--json")
    assert done.json["imported"] == 3
    assert [each["key"] for each in done.json["reasons"]] == ["class"]
    with perdure.PersistentDict(tmp_path / "pickled", codec="pickle") as pod:
        assert pod["set"] == {1, 2}


def test_a_sqlitedict_file_becomes_a_dict(tmp_path: Path, run: Run) -> None:
    sqlitedict = pytest.importorskip("sqlitedict")
    with sqlitedict.SqliteDict(str(tmp_path / "old.db"), tablename="one", autocommit=True) as old:
        old["a"] = [1]
    with sqlitedict.SqliteDict(str(tmp_path / "old.db"), tablename="two", autocommit=True) as old:
        old["b"] = 2
    done = run("import", tmp_path / "new", tmp_path / "old.db", "--from", "sqlitedict", "--table", "two", "--json")
    assert done.json["imported"] == 1, done.err
    with perdure.PersistentDict(tmp_path / "new") as pod:
        assert pod == {"b": 2}


def test_a_diskcache_becomes_a_dict(tmp_path: Path, run: Run) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.Cache(str(tmp_path / "old")) as old:
        old["a"] = {"x": "y" * 100_000}
    done = run("import", tmp_path / "new", tmp_path / "old", "--from", "diskcache")
    assert "1 keys imported, 0 passed over" in done.out, done.err
    with perdure.PersistentDict(tmp_path / "new") as pod:
        assert pod["a"]["x"] == "y" * 100_000


def test_a_tastypy_folder_becomes_a_dict_or_nothing(tmp_path: Path, run: Run) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "0.json").write_text('"foo"\t"bar"\n"n"\t{"_done":true}\n')
    assert run("import", tmp_path / "new", tmp_path / "old", "--from", "tastypy").code == 0
    with perdure.PersistentDict(tmp_path / "new") as pod:
        assert pod == {"foo": "bar", "n": {"_done": True}}
    (tmp_path / "old" / "1.json").write_text("no tab\n")
    done = run("import", tmp_path / "partly", tmp_path / "old", "--from", "tastypy")
    assert "2 keys imported, 1 passed over" in done.out
    assert "1.json, line 1: no tab" in done.out
    (tmp_path / "old" / "2.json.gz").write_text("no gzip")
    done = run("import", tmp_path / "other", tmp_path / "old", "--from", "tastypy")
    assert done.code == 1
    assert "2.json.gz" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old", "partly"]
    assert run("import", tmp_path / "new", tmp_path / "old", "--from", "tastypy").code == 2
    assert run("import", tmp_path / "other", tmp_path / "missing", "--from", "shelve").code == 2
