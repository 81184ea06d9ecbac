"""``@memo`` on bad files and bad disks: always the right result, never an error."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perdure.memo import MemoWarning, memo
from perdure.memo._entry import Entry, encode_entry
from perdure.memo._store import LITTER_AGE_S
from perdure.testing import FaultyFs, failing_everywhere

calls: list[object] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


def make(where: Path, **settings: Any) -> Any:
    @memo(where, **settings)
    def f(x: int) -> list[int]:
        calls.append(x)
        return [x]

    return f


def entry_path(f: Any, x: int) -> Path:
    return Path(f.info().directory) / f"{f.key(x)}.entry"


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch hacked",)


def test_a_file_cut_at_any_byte_is_a_miss(tmp_path: Path) -> None:
    f = make(tmp_path)
    f(1)
    path = entry_path(f, 1)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.warns(MemoWarning, match="damaged"):
            assert make(tmp_path)(1) == [1]
        assert path.read_bytes() != whole[:size], "it was stored again"
    assert len(calls) == 1 + len(whole)


def test_a_flipped_bit_anywhere_is_a_miss(tmp_path: Path) -> None:
    f = make(tmp_path, durable=False)
    f(1)
    path = entry_path(f, 1)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.warns(MemoWarning):
            assert make(tmp_path, durable=False)(1) == [1]


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x80\x04N.", bytes(4096)], ids=["empty", "text", "pickle", "zeros"]
)
def test_a_foreign_file_is_a_miss(tmp_path: Path, content: bytes) -> None:
    f = make(tmp_path)
    f(1)
    entry_path(f, 1).write_bytes(content)
    with pytest.warns(MemoWarning, match="damaged"):
        assert make(tmp_path)(1) == [1]


def test_the_file_of_another_call_is_a_miss(tmp_path: Path) -> None:
    f = make(tmp_path)
    f(1), f(2)
    shutil.copy(entry_path(f, 1), entry_path(f, 2))
    with pytest.warns(MemoWarning, match="belongs elsewhere"):
        assert make(tmp_path)(2) == [2]


@pytest.mark.parametrize("kind", ["value", "raised", "array"])
def test_a_hostile_pickle_with_a_right_checksum_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    f = make(tmp_path / "cache", exceptions=True)
    f(1)
    path = entry_path(f, 1)
    name, key = f._name, bytes.fromhex(f.key(1))
    entry = Entry(name, key, f._code_digest(), time.time_ns(), kind, "pickle", pickle.dumps(Hostile()))
    path.write_bytes(b"".join(encode_entry(entry)))
    with pytest.warns(MemoWarning):
        assert make(tmp_path / "cache", exceptions=True)(1) == [1]
    assert os.listdir(tmp_path) == ["cache"]


def test_a_link_in_place_of_an_entry_is_not_followed(tmp_path: Path) -> None:
    f = make(tmp_path / "cache")
    f(1)
    path = entry_path(f, 1)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.warns(MemoWarning, match="cannot be read"):
        assert make(tmp_path / "cache")(1) == [1]
    assert not path.is_symlink()


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EMFILE])
@pytest.mark.parametrize("mode", ["once", "sticky", "full", "partial"])
@pytest.mark.filterwarnings("ignore::perdure.memo.MemoWarning")
def test_the_result_is_right_whatever_the_disk_refuses(tmp_path: Path, mode: Any, error: int) -> None:
    for number, fs in enumerate(failing_everywhere(mode, error)):
        where = tmp_path / str(number)
        f = make(where, fs=fs, size_bytes_max=10_000)
        assert [f(1), f(1), f(2)] == [[1], [1], [2]]
        assert not fs.open_fds
        fs.heal()
        assert [f(1), f(2)] == [[1], [2]]
        assert [make(where)(1), make(where)(2)] == [[1], [2]]


def test_a_full_disk_is_a_warning_and_heals(tmp_path: Path) -> None:
    fs = FaultyFs(fail_at=1, of=["write"], mode="full", error=errno.ENOSPC)
    f = make(tmp_path, fs=fs)
    with pytest.warns(MemoWarning, match="No space left"):
        assert f(1) == [1]
    fs.heal()
    assert (f(1), f(1), len(calls)) == ([1], [1], 2)
    assert [name for name in os.listdir(f.info().directory) if not name.endswith(".entry")] == []


def test_a_deleted_directory_is_made_again(tmp_path: Path) -> None:
    f = make(tmp_path / "cache")
    f(1)
    shutil.rmtree(tmp_path / "cache")
    assert f(2) == [2]
    assert make(tmp_path / "cache").peek(2) == [2]


def test_a_file_system_without_locks_still_serves(tmp_path: Path) -> None:
    fs = FaultyFs(fail_at=1, of=["lock"], mode="sticky", error=errno.ENOLCK)
    f = make(tmp_path, fs=fs)
    assert (f(1), f(1), len(calls)) == ([1], [1], 1)
    assert not fs.open_fds


def test_a_hit_that_cannot_be_noted_is_a_hit(tmp_path: Path) -> None:
    make(tmp_path)(1)
    os.utime(entry_path(make(tmp_path), 1), (0, 0))
    fs = FaultyFs(fail_at=1, of=["touch"], mode="sticky", error=errno.EPERM)
    assert make(tmp_path, fs=fs, size_bytes_max=1000)(1) == [1]
    assert fs.fired is not None
    assert len(calls) == 1


@pytest.mark.parametrize("size_bytes_max", [None, 1000])
def test_litter_of_interrupted_writes_goes_when_it_is_old(tmp_path: Path, size_bytes_max: int | None) -> None:
    f = make(tmp_path, size_bytes_max=size_bytes_max)
    f(1)
    folder = Path(f.info().directory)
    young, old = (folder / f"{f.key(9)}.entry.tmp-{digit * 16}" for digit in "ab")
    orphan, foreign = folder / f"{f.key(8)}-{'c' * 16}.npy", folder / "notes.txt"
    for path in (young, old, orphan, foreign):
        path.touch()
    for path in (old, orphan, foreign):
        os.utime(path, (0, time.time() - LITTER_AGE_S - 60))
    make(tmp_path, size_bytes_max=size_bytes_max)(2)
    assert [path.exists() for path in (young, old, orphan, foreign)] == [True, False, False, True]


def test_entries_are_read_as_the_page_says(tmp_path: Path) -> None:
    """The layout, taken apart by hand: magic, BLAKE2b-128 of the rest, one MessagePack array."""
    import hashlib

    f = make(tmp_path)
    f(1)
    data = entry_path(f, 1).read_bytes()
    assert data[:8] == b"\x93pdrS\r\n\x01"
    assert data[8:24] == hashlib.blake2b(data[24:], digest_size=16).digest()
    function, key, code, made_at_ns, kind, codec, payload = msgspec.msgpack.decode(data[24:])
    assert (function, key.hex(), kind, codec) == (f"{__name__}:make.<locals>.f", f.key(1), "value", "pickle")
    assert len(code) == 8
    assert abs(made_at_ns - time.time_ns()) < 60e9
    # Written by this test a moment ago.
    assert pickle.loads(payload) == [1]
