"""Files that other libraries wrote. tastypy's were written by tastypy 0.0.3 itself and are kept here as text."""

from __future__ import annotations

import dbm
import gzip
import importlib.util
import json
import os
import pickle
import shelve
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import CorruptError, MissingError, StorageError, UsageError
from perdure.mapping import POD, Tracker, import_diskcache, import_shelve, import_sqlitedict, import_tastypy

TASTYPY = (
    '"foo"\t"again"\n'
    '"n"\t[1, {"a": 2}]\n'
    '"\\\\u00fc"\tnull\n'
    '"a\\\\nb\\\\tc\\\\\\\\d\\\\"e"\t"\\u20ac x"\n'
    '"\\\\u20ac"\t1\n'
    '"z"\t{"x": 1}\n'
)
WANTED = {"foo": "again", "n": [1, {"a": 2}], "ü": None, 'a\nb\tc\\d"e': "€ x", "€": 1, "z": {"x": 1}}


class Custom:
    pass


@pytest.fixture
def pod(tmp_path: Path) -> Any:
    with POD(tmp_path / "into") as opened:
        yield opened


def test_a_folder_of_tastypy(tmp_path: Path, pod: POD) -> None:
    folder = tmp_path / "old.pod"
    folder.mkdir()
    lines = TASTYPY.splitlines(keepends=True)
    (folder / "0.json").write_text("".join(lines[:4]))
    (folder / "1.json.gz").write_bytes(gzip.compress("".join(lines[4:]).encode()))
    (folder / "10.json").write_text('"last"\t{"_aborted": false, "_tries": 1, "_done": true}\n')
    report = import_tastypy(folder, pod)
    assert (report.imported, [skipped.key for skipped in report.skipped]) == (7, ["2.json"])
    assert list(pod.items())[:-1] == list(WANTED.items())
    with Tracker(pod.path) as tracker:
        assert tracker.done("last")


def test_damaged_tastypy_files_are_named_with_their_line(tmp_path: Path, pod: POD) -> None:
    folder = tmp_path / "old.pod"
    with pytest.raises(MissingError):
        import_tastypy(folder, pod)
    folder.mkdir()
    with pytest.raises(MissingError):
        import_tastypy(folder, pod)
    for line, key, problem in (
        ('"b" 2', "line 2", "tab"),
        ("1.5\t2", "line 2", "key"),
        ('"b"\t{', "b", "line 2: the value"),
    ):
        (folder / "0.json").write_text(f'"a"\t1\n{line}\n"c"\t3\n')
        pod.clear()
        report = import_tastypy(folder, pod)
        assert (report.imported, report.skipped_count) == (2, 1)
        assert key in report.skipped[0].key
        assert problem in report.skipped[0].reason
        assert pod == {"a": 1, "c": 3}
    (folder / "2.json").write_text('5\t"five"\n["x", [1]]\t"tuple"\n')
    report = import_tastypy(folder, pod)
    assert report.skipped[-1].key == "1.json"
    assert (pod[5], pod["x", (1,)]) == ("five", "tuple")
    (folder / "2.json").unlink()
    (folder / "0.json").write_text('"a"\tNaN\n"b"\t2\n')
    report = import_tastypy(folder, pod)
    assert (report.imported, report.skipped_count, report.skipped[0].key) == (1, 1, "a")
    (folder / "0.json").unlink()
    (folder / "0.json.gz").write_bytes(b"no gzip")
    with pytest.raises(CorruptError, match="gzip"):
        import_tastypy(folder, pod)


DBMS = [name for name in ("dbm.dumb", "dbm.gnu", "dbm.ndbm", "dbm.sqlite3") if importlib.util.find_spec(name)]


@pytest.mark.parametrize("kind", DBMS)
def test_a_shelf(tmp_path: Path, pod: POD, kind: str) -> None:
    try:
        module = importlib.import_module(kind)
    except ImportError:
        pytest.skip(f"no {kind} here")
    path = str(tmp_path / "shelf")
    shelf = shelve.Shelf(module.open(path, "n"))
    shelf["a"] = [1, {"b": None}]
    shelf["ü"] = "x" * 5000
    shelf["custom"] = Custom()
    shelf["set"] = {1}
    for number in range(2500):
        shelf[f"k{number}"] = number
    shelf.close()
    report = import_shelve(path, pod)
    assert report.imported == 2502
    assert sorted(skipped.key for skipped in report.skipped) == ["custom", "set"]
    assert "Custom" in {skipped.key: skipped.reason for skipped in report.skipped}["custom"]
    assert pod["a"] == [1, {"b": None}]
    assert pod["k2499"] == 2499


def test_what_is_no_shelf_is_refused(tmp_path: Path, pod: POD) -> None:
    with pytest.raises(MissingError):
        import_shelve(tmp_path / "nothing", pod)
    (tmp_path / "file").write_bytes(b"0123456789" * 10)
    with pytest.raises(StorageError):
        import_shelve(tmp_path / "file", pod)


def test_other_objects_go_into_a_dict_of_pickles(tmp_path: Path) -> None:
    path = str(tmp_path / "shelf")
    with dbm.open(path, "n") as file:
        file["set"] = pickle.dumps({1})
        file["evil"] = pickle.dumps(os.system)
        file["broken"] = b"\x80\x04nothing"
        file[b"\xff"] = pickle.dumps(1)
    with POD(tmp_path / "p", codec="pickle") as pod:
        report = import_shelve(path, pod)
        assert pod == {"set": {1}}
    reasons = {skipped.key: skipped.reason for skipped in report.skipped}
    assert set(reasons) == {"evil", "broken", repr(b"\xff")}
    assert "system" in reasons["evil"]


def sqlitedict_file(path: Path) -> None:
    """What sqlitedict 2.1 writes."""
    connection = sqlite3.connect(path)
    connection.execute('CREATE TABLE "unnamed" (key TEXT PRIMARY KEY, value BLOB)')
    for key, value in (("a", [1, {"x": 2}]), ("b", None), ("c", Custom())):
        connection.execute('INSERT INTO "unnamed" VALUES (?, ?)', (key, sqlite3.Binary(pickle.dumps(value))))
    connection.execute('INSERT INTO "unnamed" VALUES (?, ?)', ("j", json.dumps({"y": 1})))
    connection.execute('INSERT INTO "unnamed" VALUES (?, ?)', ("t", "no JSON"))
    connection.commit()
    connection.close()


def test_a_file_of_sqlitedict(tmp_path: Path, pod: POD) -> None:
    sqlitedict_file(tmp_path / "d.sqlite")
    report = import_sqlitedict(tmp_path / "d.sqlite", pod)
    assert pod == {"a": [1, {"x": 2}], "b": None, "j": {"y": 1}}
    assert sorted(skipped.key for skipped in report.skipped) == ["c", "t"]
    with pytest.raises(UsageError, match="unnamed"):
        import_sqlitedict(tmp_path / "d.sqlite", pod, table="other")
    with pytest.raises(MissingError):
        import_sqlitedict(tmp_path / "nothing", pod)
    (tmp_path / "junk").write_bytes(b"no sqlite at all" * 100)
    with pytest.raises(StorageError):
        import_sqlitedict(tmp_path / "junk", pod)


def test_a_file_that_sqlitedict_itself_wrote(tmp_path: Path, pod: POD) -> None:
    sqlitedict = pytest.importorskip("sqlitedict")
    with sqlitedict.SqliteDict(tmp_path / "d.sqlite", autocommit=True) as theirs:
        theirs["a"] = {"b": [1]}
    import_sqlitedict(tmp_path / "d.sqlite", pod)
    assert pod == {"a": {"b": [1]}}


def diskcache_folder(folder: Path) -> None:
    """What diskcache 5.6 writes, in the columns that matter."""
    folder.mkdir(parents=True)
    connection = sqlite3.connect(folder / "cache.db")
    connection.execute(
        "CREATE TABLE Cache (rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, store_time REAL, expire_time REAL,"
        " access_time REAL, access_count INTEGER DEFAULT 0, tag BLOB, size INTEGER DEFAULT 0,"
        " mode INTEGER DEFAULT 0, filename TEXT, value BLOB)"
    )
    rows = [
        ("a", 1, None, 1, None, 5),
        (7, 1, None, 1, None, 1.5),
        (pickle.dumps(("t", 1)), 0, None, 4, None, pickle.dumps({"x": [1]})),
        ("old", 1, 1.0, 1, None, 1),
        ("custom", 1, None, 4, None, pickle.dumps(Custom())),
        ("file", 1, None, 3, "aa/text.val", None),
        ("outside", 1, None, 3, "../../outside", None),
        ("gone", 1, None, 4, "aa/gone.val", None),
        ("bytes", 1, None, 1, None, b"x"),
    ]
    connection.executemany(
        "INSERT INTO Cache (key, raw, expire_time, mode, filename, value) VALUES (?,?,?,?,?,?)", rows
    )
    connection.commit()
    connection.close()
    (folder / "aa").mkdir()
    (folder / "aa" / "text.val").write_text("ü" * 100, "utf-8")


def test_a_folder_of_diskcache(tmp_path: Path, pod: POD) -> None:
    diskcache_folder(tmp_path / "cache")
    (tmp_path.parent / "outside").write_text("secret")
    report = import_diskcache(tmp_path / "cache", pod)
    assert pod == {"a": 5, 7: 1.5, ("t", 1): {"x": [1]}, "file": "ü" * 100}
    reasons = {skipped.key: skipped.reason for skipped in report.skipped}
    assert set(reasons) == {"old", "custom", "outside", "gone", "bytes"}
    assert "expired" in reasons["old"]
    assert "outside" in reasons["outside"]
    with pytest.raises(MissingError):
        import_diskcache(tmp_path / "aa", pod)


def test_shards_of_diskcache(tmp_path: Path, pod: POD) -> None:
    diskcache_folder(tmp_path / "fanout" / "000")
    diskcache_folder(tmp_path / "fanout" / "001")
    report = import_diskcache(tmp_path / "fanout", pod)
    assert (report.skipped_count, len(pod)) == (10, 4)


def test_a_folder_that_diskcache_itself_wrote(tmp_path: Path, pod: POD) -> None:
    diskcache = pytest.importorskip("diskcache")
    with diskcache.Cache(str(tmp_path / "cache")) as cache:
        cache["a"] = {"b": [1]}
        cache[("t", 1)] = "x" * 100_000
        cache["soon"] = 1
    import_diskcache(tmp_path / "cache", pod)
    assert pod == {"a": {"b": [1]}, ("t", 1): "x" * 100_000, "soon": 1}
