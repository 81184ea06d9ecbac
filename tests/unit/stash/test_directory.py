"""Items as files."""

from __future__ import annotations

import errno
import os
import pickle
import shelve
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from perdure.codecs import Pickle
from perdure.errors import CodecError, CorruptError, StorageError, UsageError, WriteError
from perdure.stash import DirectoryStash
from perdure.testing import FaultyFs, failing_everywhere

ran: list[str] = []


class Exploit:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch /tmp/perdure-was-here",)


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x


def test_instances_of_the_callers_package_are_values(tmp_path: Path) -> None:
    stash = DirectoryStash(tmp_path)
    stash.dump("p", Point(3))
    assert stash["p"] == Point(3)
    assert DirectoryStash(tmp_path, package="tests")["p"] == Point(3)


def test_files_and_directories_are_private_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        stash = DirectoryStash(tmp_path / "a" / "b")
        stash.dump("x", 1)
        stash.set_fill_mark("filled")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    for file in (tmp_path / "a" / "b").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_nothing_is_made_before_something_is_stored(tmp_path: Path) -> None:
    stash = DirectoryStash(tmp_path / "absent")
    assert list(stash.keys()) == []
    assert stash.get("a") is None
    assert not stash.exists("a")
    stash.delete("a")
    stash.clear()
    assert not (tmp_path / "absent").exists()


def test_a_file_is_the_pickle_that_any_unpickler_reads(tmp_path: Path) -> None:
    DirectoryStash(tmp_path).dump("a", {"x": [1]})
    with open(tmp_path / "a.dat", "rb") as file:
        assert pickle.load(file) == {"x": [1]}  # Written by this test a moment ago.


def test_bare_pickles_of_others_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(pickle.dumps({"x": [1]}))
    assert DirectoryStash(tmp_path)["a"] == {"x": [1]}


def test_a_pickle_that_would_run_code_is_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(pickle.dumps(Exploit()))
    stash = DirectoryStash(tmp_path)
    for read in (stash.load, stash.get, stash.__getitem__):
        with pytest.raises(CodecError, match="system") as caught:
            read("a")
        assert caught.value.path == str(tmp_path / "a.dat")
    assert not os.path.exists("/tmp/perdure-was-here")


def test_what_may_not_be_loaded_is_not_stored(tmp_path: Path) -> None:
    stash = DirectoryStash(tmp_path)
    stash.dump("a", 1)
    with pytest.raises(CodecError, match="'a'"):
        stash.dump("a", lambda: None)
    with pytest.raises(CodecError):
        stash.dump("a", Exploit())
    assert stash["a"] == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_unrestricted_pickle_is_there_for_those_who_say_so(tmp_path: Path) -> None:
    stash = DirectoryStash(tmp_path, codec=Pickle(unrestricted=True))
    stash.dump("a", os.getcwd)
    assert stash["a"] is os.getcwd


def test_a_file_cut_anywhere_is_an_error_that_names_it(tmp_path: Path) -> None:
    stash = DirectoryStash(tmp_path)
    stash.dump("a", {"numbers": list(range(50)), "text": "x" * 100})
    path = tmp_path / "a.dat"
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        if size in range(len(whole) - 16, len(whole) - 15):
            assert stash["a"]["text"] == "x" * 100
            continue
        with pytest.raises((CorruptError, CodecError)) as caught:
            stash.load("a")
        assert caught.value.path == str(path)


def test_a_flipped_bit_is_an_error(tmp_path: Path) -> None:
    stash = DirectoryStash(tmp_path)
    stash.dump("a", "text" * 20)
    path = tmp_path / "a.dat"
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :])
        with pytest.raises((CorruptError, CodecError)):
            stash.load("a")


def test_a_damaged_item_can_be_made_anew_and_harms_no_other(tmp_path: Path) -> None:
    stash = DirectoryStash(tmp_path)
    stash.set_many({"a": 1, "b": 2})
    (tmp_path / "a.dat").write_bytes(b"")
    assert stash["b"] == 2
    with pytest.raises(CorruptError):
        stash["a"]
    assert stash.exists("a")
    stash.dump("a", 3)
    assert dict(stash) == {"a": 3, "b": 2}


def test_files_of_others_are_neither_listed_nor_touched(tmp_path: Path) -> None:
    others = ["README.dat", "notes.txt", ".hidden.dat", "%zz.dat", "x.dat.tmp-short", "Ab.dat"]
    for name in others:
        (tmp_path / name).write_text("mine")
    (tmp_path / "folder.dat").mkdir()
    stash = DirectoryStash(tmp_path)
    stash.dump("a", 1)
    assert sorted(stash.keys()) == ["a", "folder"]
    stash.delete("a")
    for name in others:
        assert (tmp_path / name).read_text() == "mine"
    with pytest.raises(StorageError):
        stash["folder"]


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(pickle.dumps("secret"))
    (tmp_path / "stash").mkdir(mode=0o700)
    (tmp_path / "stash" / "a.dat").symlink_to(secret)
    stash = DirectoryStash(tmp_path / "stash")
    with pytest.raises(StorageError, match="cannot be read"):
        stash["a"]
    stash.dump("a", "mine")
    assert stash["a"] == "mine"
    assert secret.read_bytes() == pickle.dumps("secret")


def test_a_directory_that_others_can_write_in_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(StorageError, match="others may write"):
        DirectoryStash(tmp_path / "open").dump("a", 1)
    DirectoryStash(tmp_path / "open", private=False).dump("a", 1)


@pytest.mark.parametrize(
    "pattern", ["", "x", "{name}{name}", "a/{name}", "../{name}", ".{name}", "{name}.tmp-x", "\0{name}"]
)
def test_a_pattern_that_cannot_work_is_refused_at_once(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(UsageError):
        DirectoryStash(tmp_path, pattern)


def test_stashes_with_other_patterns_share_a_directory(tmp_path: Path) -> None:
    one, two = DirectoryStash(tmp_path, "one-{name}"), DirectoryStash(tmp_path, "two-{name}")
    one.dump("a", 1)
    one.set_fill_mark("filled")
    two.dump("a", 2)
    assert (dict(one), dict(two)) == ({"a": 1}, {"a": 2})
    assert two.fill_mark() is None
    two.clear()
    assert dict(one) == {"a": 1}
    assert one.fill_mark() == "filled"


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A folder that every user may enter, which pytest's own is not."""
    path = Path(tempfile.mkdtemp(prefix="perdure-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.root
def test_a_directory_without_permission_is_a_named_error(public_path: Path) -> None:
    (public_path / "stash").mkdir(mode=0o555)
    program = (
        "import os, sys; os.setgid(65534); os.setuid(65534)\n"
        "from perdure.stash import DirectoryStash\nfrom perdure.errors import WriteError\n"
        "stash = DirectoryStash(sys.argv[1], private=False)\n"
        "try: stash.dump('a', 1)\n"
        "except WriteError as error: print(error.outcome, error)\n"
        "print(list(stash.keys()))\n"
    )
    source = str(Path(__file__).parents[3] / "src")
    # As root with the source at hand: a dropped user may not be able to read a checkout in root's home.
    preloaded = f"import sys; sys.path.insert(0, {source!r}); import perdure.stash, perdure.codecs, perdure.errors\n"
    done = subprocess.run(
        [sys.executable, "-c", preloaded + program, str(public_path / "stash")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "not-written" in done.stdout
    assert "Permission denied" in done.stdout
    assert "hint: let this user write" in done.stdout
    assert done.stdout.endswith("[]\n")


def test_a_full_disk_is_a_named_error_and_the_old_value_stays(tmp_path: Path) -> None:
    DirectoryStash(tmp_path).dump("a", "old")
    for fs in failing_everywhere("full", errno.ENOSPC):
        stash = DirectoryStash(tmp_path, fs=fs)
        try:
            stash.dump("a", "new" * 1000)
        except WriteError as error:
            assert error.outcome == "not-written"
            assert "make room" in str(error)
            assert stash["a"] == "old"
            assert [path.name for path in tmp_path.iterdir()] == ["a.dat"]
            fs.make_room()
            stash.dump("a", "new")
        assert stash["a"].startswith("new")
        DirectoryStash(tmp_path).dump("a", "old")


@pytest.mark.parametrize(("mode", "error"), [("once", errno.EIO), ("partial", errno.ENOSPC), ("sticky", errno.EIO)])
def test_every_call_of_the_disk_may_fail(tmp_path: Path, mode: str, error: int) -> None:
    for turn, fs in enumerate(failing_everywhere(mode, error)):  # type: ignore[arg-type]
        path = tmp_path / str(turn)
        DirectoryStash(path).dump("a", "old")
        stash = DirectoryStash(path, fs=fs)
        for action in (lambda s: s.dump("a", "new"), lambda s: s.set_many({"b": 1, "c": 2}), lambda s: s.delete("b")):
            try:
                action(stash)
            except StorageError as refused:
                assert refused.path is not None
        assert not fs.open_fds
        fs.heal()
        assert DirectoryStash(path)["a"] in ("old", "new")
        assert all(not name.startswith("a.dat.tmp") for name in os.listdir(path)) or "unlink" in str(fs.counts)


def test_only_temporaries_that_nobody_can_be_writing_are_deleted(tmp_path: Path) -> None:
    old, new, foreign = (tmp_path / f"x.dat.tmp-{digit * 16}" for digit in "123")
    for path in (old, new, foreign):
        path.touch(0o600)
    foreign.chmod(0o644)
    long_ago = time.time() - 3 * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    os.utime(foreign, (long_ago, long_ago))
    stash = DirectoryStash(tmp_path)
    stash.dump("a", 1)
    assert list(stash.keys()) == ["a"]
    assert not old.exists()
    assert new.exists()
    assert foreign.exists()


def test_one_of_many_processes_puts_an_absent_item(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4) as processes:
        won = list(processes.map(put_once, [tmp_path] * 16, range(16)))
    assert won.count(True) == 1
    assert DirectoryStash(tmp_path)["once"] == won.index(True)
    assert [path.name for path in tmp_path.iterdir()] == ["once.dat"]


def put_once(path: Path, number: int) -> bool:
    return DirectoryStash(path).put_if_absent("once", number)


def test_a_directory_that_was_deleted_meanwhile_is_made_again(tmp_path: Path) -> None:
    stash = DirectoryStash(tmp_path / "stash")
    stash.dump("a", 1)
    (tmp_path / "stash" / "a.dat").unlink()
    (tmp_path / "stash").rmdir()
    assert stash.get("a") is None
    stash.dump("a", 2)
    assert stash["a"] == 2


def test_many_are_stored_with_one_sync_of_the_directory(tmp_path: Path) -> None:
    fs = FaultyFs()
    stash = DirectoryStash(tmp_path, fs=fs)
    stash.dump("warm", 1)
    fs.counts.clear()
    stash.set_many({f"item{number}": number for number in range(50)})
    assert fs.counts["sync"] == 50
    assert fs.counts["sync_names"] == 1


def test_values_of_shelves_are_values_here(tmp_path: Path) -> None:
    with shelve.open(str(tmp_path / "shelf")) as shelf:
        shelf["a"] = [1]
        DirectoryStash(tmp_path / "stash").set_many(dict(shelf))
    assert DirectoryStash(tmp_path / "stash")["a"] == [1]
