"""The faulty file system does what its modes say, and counts."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from perdure.fs import Fs
from perdure.testing import Call, FaultyFs, failing_everywhere


def save(fs: Fs, path: Path, *parts: bytes) -> None:
    fd = fs.create(str(path))
    try:
        for part in parts:
            fs.write_all(fd, part)
            fs.sync(fd)
    finally:
        fs.close(fd)


def test_nothing_fails_without_being_told_to(tmp_path: Path) -> None:
    fs = FaultyFs()
    save(fs, tmp_path / "a", b"one", b"two")
    assert (tmp_path / "a").read_bytes() == b"onetwo"
    assert [call.name for call in fs.calls] == ["open", "write", "sync", "write", "sync", "close"]
    assert fs.counts["write"] == 2
    assert fs.calls[1] == Call(2, "write", str(tmp_path / "a"), 3)
    assert not fs.open_fds


def test_once_fails_one_call_only(tmp_path: Path) -> None:
    fs = FaultyFs(fail_at=2, mode="once", error=errno.EIO, of={"write"})
    with pytest.raises(OSError, match="Input/output error"):
        save(fs, tmp_path / "a", b"one", b"two")
    assert fs.fired is not None
    assert fs.fired.name == "write"
    save(fs, tmp_path / "b", b"one", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert (tmp_path / "b").read_bytes() == b"onetwo"


def test_sticky_fails_every_later_call_of_the_same_kind(tmp_path: Path) -> None:
    fs = FaultyFs(fail_at=3, mode="sticky")
    for name in "ab":
        with pytest.raises(OSError, match="error"):
            save(fs, tmp_path / name, b"one")
    assert fs.fired == Call(3, "sync", str(tmp_path / "a"))
    fs.heal()
    save(fs, tmp_path / "c", b"one")


def test_full_refuses_what_grows_until_there_is_room(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    fs = FaultyFs(fail_at=2, mode="full", error=errno.ENOSPC)
    with pytest.raises(OSError, match="No space"):
        save(fs, tmp_path / "a", b"four")
    assert (tmp_path / "a").read_bytes() == b"fo"
    with pytest.raises(OSError, match="No space"):
        fs.create(str(tmp_path / "b"))
    with pytest.raises(OSError, match="No space"):
        fs.mkdir(str(tmp_path / "d"))
    assert fs.read_all(str(tmp_path / "old")) == b"old"
    fs.unlink(str(tmp_path / "old"))
    fs.make_room()
    save(fs, tmp_path / "b", b"four")


def test_partial_writes_half_and_fails(tmp_path: Path) -> None:
    fs = FaultyFs(fail_at=2, mode="partial", error=errno.EDQUOT)
    with pytest.raises(OSError, match="quota") as raised:
        save(fs, tmp_path / "a", b"one.", b"two.")
    assert raised.value.errno == errno.EDQUOT
    assert (tmp_path / "a").read_bytes() == b"one.tw"


def test_short_writes_are_finished_by_a_careful_writer(tmp_path: Path) -> None:
    fs = FaultyFs(fail_at=1, mode="short")
    save(fs, tmp_path / "a", b"12345678")
    assert fs.counts["write"] == 2
    fs = FaultyFs(short_writes=True)
    save(fs, tmp_path / "b", b"12345678")
    assert fs.counts["write"] == 4
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b"12345678"


def test_lying_sync_loses_the_unsynced_bytes_and_succeeds_later(tmp_path: Path) -> None:
    fs = FaultyFs(fail_at=2, mode="lying")
    fd = fs.create(str(tmp_path / "a"))
    fs.write_all(fd, b"one")
    fs.sync(fd)
    fs.write_all(fd, b"two")
    fs.rename(str(tmp_path / "a"), str(tmp_path / "b"))
    with pytest.raises(OSError, match="error"):
        fs.sync(fd)
    fs.write_all(fd, b"three")
    fs.sync(fd)
    fs.close(fd)
    assert (tmp_path / "b").read_bytes() == b"one\0\0\0three"


def test_lying_sync_shows_the_lost_bytes_while_they_are_cached(tmp_path: Path) -> None:
    for forget in (True, False):
        path = tmp_path / f"forget-{forget}"
        fs = FaultyFs(fail_at=1, mode="lying-cached")
        with pytest.raises(OSError, match="error"):
            save(fs, path, b"one")
        assert fs.read_all(str(path)) == b"one"
        if forget:
            fd = fs.open_for_reading(str(path))
            fs.forget_cached(fd)
            assert fs.read_at(fd, 10, 0) == b"\0\0\0"
            fs.close(fd)
        else:
            fs.drop_caches()
        assert path.read_bytes() == b"\0\0\0"


def test_failing_close_closes_all_the_same(tmp_path: Path) -> None:
    fs = FaultyFs(fail_at=1, of={"close"})
    fd = fs.create(str(tmp_path / "a"))
    with pytest.raises(OSError, match="error"):
        fs.close(fd)
    assert not fs.open_fds
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_open_descriptors_are_known(tmp_path: Path) -> None:
    fs = FaultyFs()
    fd = fs.create(str(tmp_path / "a"))
    assert fs.open_fds == {fd: str(tmp_path / "a")}
    assert fs.close_leaked() == {fd: str(tmp_path / "a")}
    assert not fs.open_fds


def test_every_call_fails_once_in_its_turn(tmp_path: Path) -> None:
    fired = []
    for turn, fs in enumerate(failing_everywhere("once", errno.EIO)):
        try:
            save(fs, tmp_path / str(turn), b"one")
        except OSError:
            assert fs.fired is not None
            fired.append(fs.fired.name)
    assert fired == ["open", "write", "sync", "close"]


def test_a_hook_sees_each_call_before_it_is_made(tmp_path: Path) -> None:
    def interrupt(call: Call) -> None:
        if call.name == "sync":
            raise KeyboardInterrupt

    fs = FaultyFs(before=interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(fs, tmp_path / "a", b"one")
    assert not fs.open_fds


def test_unknown_primitives_are_refused() -> None:
    with pytest.raises(ValueError, match="fsync"):
        FaultyFs(fail_at=1, of={"fsync"})
