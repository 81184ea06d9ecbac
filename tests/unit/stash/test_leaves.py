"""What single leaves add to the contract: numbered items, composites, zip files, shelves."""

from __future__ import annotations

import errno
import os
import pickle
import shelve as standard_shelve
import shutil
import sqlite3
import stat
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import CodecError, CorruptError, MissingError, ReadOnlyError, StorageError, UsageError, WriteError
from perdure.fs import Fs
from perdure.stash import (
    DirectoryCompositeStash,
    DirectoryStash,
    FsspecStash,
    IncrementKeyDirectoryStash,
    ShelveStash,
    SqlStash,
    ZipStash,
    shelve,
)

# ---- numbered --------------------------------------------------------------------------------------------------------


def test_items_are_numbered_as_they_come(tmp_path: Path) -> None:
    stash = IncrementKeyDirectoryStash(tmp_path)
    assert stash.load() is None
    assert stash.get_last_key() is None
    assert stash.get_last_key(inc=True) == "0"
    for number in range(12):
        stash.dump(f"value {number}")
    assert list(stash.keys()) == [str(number) for number in range(12)]
    assert stash.load() == "value 11"
    assert stash.get_last_key() == "11"
    assert stash["3"] == "value 3"
    stash.dump("3", "replaced")
    assert stash["3"] == "replaced"
    with pytest.raises(UsageError):
        stash.dump("three", 1)


def test_series_share_a_directory(tmp_path: Path) -> None:
    one, two = IncrementKeyDirectoryStash(tmp_path, name="one"), IncrementKeyDirectoryStash(tmp_path, name="two")
    one.dump("a")
    two.dump("b")
    two.dump("c")
    assert (dict(one), dict(two)) == ({"0": "a"}, {"0": "b", "1": "c"})


def test_processes_that_dump_at_once_get_numbers_of_their_own(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4) as processes:
        list(processes.map(dump_some, [tmp_path] * 4, range(4)))
    stash = IncrementKeyDirectoryStash(tmp_path)
    assert list(stash.keys()) == [str(number) for number in range(20)]
    assert sorted(stash.values()) == sorted(f"{worker}-{number}" for worker in range(4) for number in range(5))


def dump_some(path: Path, worker: int) -> None:
    for number in range(5):
        IncrementKeyDirectoryStash(path).dump(f"{worker}-{number}")


# ---- composites ------------------------------------------------------------------------------------------------------


@dataclass
class Document:
    title: str
    features: dict[str, Any] | None = field(default_factory=dict)


def composite(path: Path, **fields: Any) -> DirectoryCompositeStash:
    return DirectoryCompositeStash(path, ({"tokens", "tags"}, {"vectors"}), "features", **fields)


DOCUMENT = Document("one", {"vectors": [1.5], "tokens": ["a"], "note": "n", "tags": None})


def test_a_composite_is_put_together_again_and_the_callers_object_is_not_touched(tmp_path: Path) -> None:
    stash = composite(tmp_path)
    document = Document(DOCUMENT.title, dict(DOCUMENT.features or {}))
    features = document.features
    stash.dump("d", document)
    assert document == DOCUMENT
    assert document.features is features
    loaded = stash["d"]
    assert loaded == DOCUMENT
    assert list(loaded.features) == ["vectors", "tokens", "note", "tags"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["group-tags-tokens", "group-vectors", "items"]


def test_only_the_groups_that_are_asked_for_are_read(tmp_path: Path) -> None:
    composite(tmp_path).dump("d", DOCUMENT)
    for path in (tmp_path / "group-vectors").iterdir():
        path.write_bytes(b"damaged")
    partial = composite(tmp_path, load_keys={"tags"})
    assert partial["d"].features == {"tags": None}
    assert composite(tmp_path, load_keys=["note"])["d"].features == {"note": "n"}
    with pytest.raises(CorruptError):
        composite(tmp_path)["d"]


def test_replacing_a_composite_leaves_no_old_parts(tmp_path: Path) -> None:
    stash = composite(tmp_path)
    stash.dump("d", DOCUMENT)
    stash.dump("d", Document("two", {"vectors": [2]}))
    assert stash["d"] == Document("two", {"vectors": [2]})
    assert len(list((tmp_path / "group-vectors").iterdir())) == 1
    assert list((tmp_path / "group-tags-tokens").iterdir()) == []
    stash.delete("d")
    assert list((tmp_path / "group-vectors").iterdir()) == []


def test_orphans_of_a_crash_are_found(tmp_path: Path) -> None:
    stash = composite(tmp_path)
    stash.dump("d", DOCUMENT)
    DirectoryStash(tmp_path / "group-vectors").dump("0123456789abcdef.d", {"vectors": "orphan"})
    assert stash["d"] == DOCUMENT
    assert stash.remove_orphans() == 1
    assert stash.remove_orphans() == 0
    assert stash["d"] == DOCUMENT


@pytest.mark.parametrize("fields", [{"groups": [{"a"}, {"a"}]}, {"groups": [set()]}, {"attribute_name": "no name"}])
def test_composites_that_cannot_work_are_refused_at_once(tmp_path: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        DirectoryCompositeStash(tmp_path, **{"attribute_name": "features", **fields})


def test_a_composite_needs_its_dict(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no dict"):
        composite(tmp_path).dump("d", Document("one", None))
    assert len(composite(tmp_path)) == 0


# ---- zip files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("data/one.txt", "1" * 500)
        file.writestr("data/sub/two.txt", "2")
        file.writestr("database/three.txt", "3")
        file.writestr("top.json", '{"x": 1}')
    return path


def test_a_root_is_a_whole_folder(archive: Path) -> None:
    with ZipStash(archive, "data") as stash:
        assert dict(stash) == {"one.txt": b"1" * 500, "sub/two.txt": b"2"}
        assert "../top.json" not in stash
    with ZipStash(archive, "/data/sub/") as stash:
        assert list(stash.keys()) == ["two.txt"]
    with ZipStash(archive) as stash:
        assert len(stash) == 4
    with ZipStash(archive, encoding="ascii") as stash:
        assert stash["data/sub/two.txt"] == "2"
    with pytest.raises(UsageError):
        ZipStash(archive, encoding="utf-8", codec="json")
    with ZipStash(archive, codec="json") as stash:
        assert stash["top.json"] == {"x": 1}


def test_a_zip_file_is_read_only_and_closes(archive: Path) -> None:
    stash = ZipStash(archive, strict=True)
    assert stash["top.json"]
    with pytest.raises(ReadOnlyError):
        stash.dump("a", b"")
    copy = pickle.loads(pickle.dumps(stash))  # Made by this test a moment ago.
    assert copy["top.json"] == stash["top.json"]
    copy.close()
    stash.close()
    stash.close()


def test_bad_zip_files_are_named_errors(tmp_path: Path, archive: Path) -> None:
    with pytest.raises(MissingError):
        ZipStash(tmp_path / "absent.zip").load("a")
    (tmp_path / "bad.zip").write_bytes(archive.read_bytes()[:100])
    with pytest.raises(CorruptError):
        ZipStash(tmp_path / "bad.zip").load("a")
    damaged = bytearray(archive.read_bytes())
    damaged[damaged.index(b"data/one.txt") + 14] ^= 0xFF
    (tmp_path / "damaged.zip").write_bytes(damaged)
    with ZipStash(tmp_path / "damaged.zip") as stash, pytest.raises((CorruptError, StorageError)):
        stash["data/one.txt"]
    with ZipStash(archive, item_bytes_max=100) as stash, pytest.raises(StorageError, match="500 bytes"):
        stash["data/one.txt"]


# ---- shelves ---------------------------------------------------------------------------------------------------------


def test_shelves_are_those_of_the_standard_library(tmp_path: Path) -> None:
    with shelve(tmp_path / "shelf") as stash:
        stash.dump("a", {"x": [1]})
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with standard_shelve.open(str(tmp_path / "shelf")) as other:
        assert dict(other) == {"a": {"x": [1]}}
        other["b"] = None
    with shelve(tmp_path / "shelf") as stash:
        assert dict(stash) == {"a": {"x": [1]}, "b": None}


def test_a_shelf_closes_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), shelve(tmp_path / "shelf") as stash:
        stash.dump("a", 1 / len(stash))
    assert stash._db is None
    with pytest.raises(ZeroDivisionError), shelve(tmp_path / "shelf") as stash:
        stash.set_many({"a": 1, "b": 1 // len(stash)})
    ShelveStash(tmp_path / "shelf").dump("a", 1)
    assert stash._db is None
    assert ShelveStash(tmp_path / "shelf")["a"] == 1


def test_changes_in_place_are_kept_with_writeback(tmp_path: Path) -> None:
    with shelve(tmp_path / "shelf") as stash:
        stash.dump("a", [1])
        stash["a"].append(2)
        assert stash["a"] == [1]
    with shelve(tmp_path / "shelf", writeback=True) as stash:
        stash["a"].append(2)
        assert stash["a"] == [1, 2]
    with shelve(tmp_path / "shelf") as stash:
        assert stash["a"] == [1, 2]


def test_a_hostile_shelf_is_refused(tmp_path: Path) -> None:
    class Exploit:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, ("true",)

    with standard_shelve.open(str(tmp_path / "shelf")) as other:
        other["a"] = Exploit()
    with shelve(tmp_path / "shelf") as stash, pytest.raises(CodecError, match="system"):
        stash["a"]


def test_processes_take_turns_at_a_shelf(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3) as processes:
        list(processes.map(shelve_some, [tmp_path / "shelf"] * 3, range(3)))
    assert len(ShelveStash(tmp_path / "shelf")) == 30


def shelve_some(path: Path, worker: int) -> None:
    for number in range(10):
        ShelveStash(path).dump(f"{worker}-{number}", number)


# ---- hostile and damaged bytes ---------------------------------------------------------------------------------------


def test_a_damaged_composite_can_be_replaced_and_deleted(tmp_path: Path) -> None:
    stash = composite(tmp_path)
    for harm in (lambda data: data[: len(data) // 2], lambda data: data[:30] + b"\xff" + data[31:]):
        for mend in (lambda: stash.dump("a", DOCUMENT), lambda: stash.delete("a")):
            stash.dump("a", DOCUMENT)
            path = stash._items.key_to_path("a")
            path.write_bytes(harm(path.read_bytes()))
            with pytest.raises((CorruptError, CodecError)):
                stash.load("a")
            mend()
            assert stash.get("a", "gone") in (DOCUMENT, "gone")
    stash.clear()
    assert list(tmp_path.rglob("*.dat")) == []


@pytest.mark.parametrize(
    "stored", [7, {"version": "1"}, {"version": 1, "parts": [], "rest": {}, "order": [], "item": 0}]
)
def test_an_item_that_is_none_of_a_composite_is_named(tmp_path: Path, stored: object) -> None:
    stash = composite(tmp_path)
    stash._items.dump("a", stored)
    with pytest.raises(CorruptError, match="none of a composite"):
        stash.load("a")
    with pytest.raises(CorruptError, match="none of a composite"):
        stash.remove_orphans()


def test_a_name_that_is_no_text_is_named(tmp_path: Path) -> None:
    with standard_shelve.open(str(tmp_path / "shelf")) as shelf:
        shelf.dict[b"\xff\xfe"] = b""  # type: ignore[attr-defined]
    with pytest.raises(CorruptError, match="no text"):
        list(ShelveStash(tmp_path / "shelf").keys())
    url = f"sqlite:///{tmp_path / 'items.db'}"
    with SqlStash(url) as stash:
        stash.dump("a", 1)
        with sqlite3.connect(tmp_path / "items.db") as other:
            other.execute("UPDATE perdure_stash SET name = x'ff'")
        other.close()
        with pytest.raises(CorruptError, match="no text"):
            list(stash.keys())


def test_a_local_folder_of_fsspec_that_was_deleted_is_made_again_and_refusals_are_those_of_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "items"
    stash = FsspecStash(folder.as_uri())
    for store in (
        lambda: stash.dump("a", 1),
        lambda: stash.set_many({"a": 1, "b": 2}),
        lambda: stash.put_if_absent("a", 1),
        lambda: stash.set_fill_mark("filled"),
    ):
        stash.dump("c", 3)
        shutil.rmtree(folder)
        store()
        assert stash.get("a", 1) == 1
    assert stash.fill_mark() == "filled"

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Fs, "write_all", full)
    with pytest.raises(WriteError, match="No space left") as caught:
        stash.dump("a", 2)
    assert caught.value.outcome == "not-written"
    monkeypatch.undo()
    assert stash.get("a", 1) == 1


def test_a_local_folder_of_fsspec_is_private_and_settled_before_it_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "items"
    FsspecStash(folder.as_uri()).dump("a", 1)
    synced: list[str] = []
    sync_directory = Fs.sync_directory
    monkeypatch.setattr(Fs, "sync_directory", lambda fs, path: (synced.append(path), sync_directory(fs, path)))
    assert FsspecStash(folder.as_uri())["a"] == 1
    assert synced == [str(folder), str(tmp_path)]
    folder.chmod(0o777)
    with pytest.raises(StorageError, match="others may write"):
        FsspecStash(folder.as_uri()).dump("a", 2)
    folder.chmod(0o700)
    assert FsspecStash(folder.as_uri())["a"] == 1
