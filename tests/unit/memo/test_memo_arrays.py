"""``@memo`` with numpy and pandas: arguments by content, large arrays mapped."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perdure.memo import MISSING, MemoWarning, memo
from perdure.memo._arrays import ArrayPlace
from perdure.memo._entry import decode_entry, encode_entry
from perdure.testing import ManualClock, failing_everywhere

np = pytest.importorskip("numpy")
MIB = 1 << 20
calls: list[object] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


def make(where: Path, result: Any, **settings: Any) -> Any:
    @memo(where, **settings)
    def f(*args: Any) -> Any:
        calls.append(args)
        return result

    return f


def test_arrays_count_by_content_dtype_and_shape(tmp_path: Path) -> None:
    f = make(tmp_path, 1)
    a = np.arange(12, dtype="i4")
    same = [a, a.copy(), np.arange(24, dtype="i4")[::2] // 2, np.asfortranarray(a)]
    assert len({f.key(each) for each in same}) == 1
    square = a.reshape(3, 4)
    assert f.key(square) == f.key(np.asfortranarray(square))
    different = [a, square, square.T, a.astype("i8"), a.view("u4"), a[:-1], a + 1, a.tolist(), a[:0], np.int32(1), 1]
    different += [a.astype("M8[s]"), a.astype("M8[ms]"), a.astype(object), np.float64(1.0), 1.0]
    assert len({f.key(each) for each in different}) == len(different)
    assert f.key({"k": [a]}) == f.key({"k": [a.copy()]})
    structured = np.zeros(3, dtype=[("x", "i4"), ("y", "f8")])
    assert f.key(structured) == f.key(structured.copy()) != f.key(structured["x"])


def test_frames_and_series_count_by_content(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    f = make(tmp_path, 1)

    def frame() -> Any:
        return pd.DataFrame(
            {
                "n": [1, 2, 3],
                "s": ["a", None, "c"],
                "c": pd.Categorical(["x", "y", "x"]),
                "t": pd.date_range("2020-01-01", periods=3, tz="UTC"),
                "i": pd.array([1, None, 3], dtype="Int64"),
            }
        )

    base = frame()
    assert f.key(base) == f.key(frame()) == f.key(base.copy())
    other = [base.rename(columns={"n": "m"}), base.set_index("n"), base.iloc[::-1], base.drop(columns="s"), base["n"]]
    other += [base.assign(n=[1, 2, 4]), base.assign(s=["a", "b", "c"]), base.assign(n=[1.0, 2.0, 3.0]), base.index]
    other += [
        base.assign(c=pd.Categorical(["x", "y", "x"], categories=["y", "x"])),
        base["n"].rename("m"),
        base.columns,
    ]
    other += [
        base.assign(i=pd.array([1, 2, 3], dtype="Int64")),
        base.set_index(["n", "s"]),
        base.set_index(["n", "s"]).index,
    ]
    keys = [f.key(each) for each in (base, *other)]
    assert len(set(keys)) == len(keys)


def test_frames_are_results_where_asked(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"n": [1, 2], "s": ["a", None]}, index=pd.date_range("2020-01-01", periods=2))
    make(tmp_path, frame, allow=["pandas"])(1)
    loaded = make(tmp_path, None, allow=["pandas"]).peek(1)
    pd.testing.assert_frame_equal(loaded, frame)


def test_neither_library_is_imported_by_perdure() -> None:
    code = "import sys, perdure.memo; print([name for name in ('numpy', 'pandas') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("shape", [(MIB,), (1024, 1024), (4, 512, 512)], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f8", "u2", "M8[ns]", "c16", ">i4"])
def test_a_large_array_is_mapped_read_only(tmp_path: Path, shape: tuple[int, ...], order: Any, dtype: str) -> None:
    array = np.asarray(np.arange(MIB) % 100, dtype="i8").astype(dtype).reshape(shape, order=order)
    f = make(tmp_path, array)
    for got in (f(1), f(1), make(tmp_path, None)(1)):
        assert np.array_equal(got, array)
        assert (got.dtype, got.shape, got.flags.writeable) == (array.dtype, array.shape, False)
        assert type(got) is np.ndarray
    assert len(calls) == 1
    (saved,) = Path(f.info().directory).glob("*.npy")
    assert np.array_equal(np.load(saved, allow_pickle=False), array)
    assert saved.stat().st_mode & 0o777 == 0o600


def test_a_hit_on_100_mb_takes_less_than_a_millisecond(tmp_path: Path) -> None:
    f = make(tmp_path, np.ones(100 * MIB // 8))
    f(1)
    took = []
    for _ in range(20):
        start = time.perf_counter()
        f(1)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.001


def test_small_structured_and_object_arrays_travel_in_their_entry(tmp_path: Path) -> None:
    for number, array in enumerate(
        [np.arange(5), np.zeros(MIB, dtype=[("x", "i4")]), np.array(["a", None], dtype=object)]
    ):
        f = make(tmp_path / str(number), array)
        assert np.array_equal(f(1), array)
        got = f(1)
        assert got.tolist() == array.tolist()
        got[0] = got[1]
        assert f(1).tolist() == array.tolist()
        assert not list(Path(f.info().directory).glob("*.npy"))
    f = make(tmp_path / "off", np.ones(MIB), map_bytes_min=None)
    f(1)
    assert f(1).flags.writeable


@pytest.mark.parametrize("harm", ["gone", "cut", "longer"])
def test_a_damaged_array_file_is_a_miss(tmp_path: Path, harm: str) -> None:
    array = np.ones(MIB)
    f = make(tmp_path, array)
    f(1)
    (saved,) = Path(f.info().directory).glob("*.npy")
    if harm == "gone":
        saved.unlink()
    else:
        os.truncate(saved, saved.stat().st_size + (8 if harm == "longer" else -8))
    if harm == "gone":
        assert np.array_equal(f(1), array)
    else:
        with pytest.warns(MemoWarning, match="damaged"):
            assert np.array_equal(f(1), array)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(f(1), array)
    assert len(calls) == 2


def test_an_array_in_use_outlives_its_file(tmp_path: Path) -> None:
    f = make(tmp_path, np.ones(MIB))
    got = f(1)
    assert f.forget(1)
    assert not list(Path(f.info().directory).iterdir())
    assert f.peek(1) is MISSING
    assert got.sum() == MIB


def test_no_descriptor_stays_open_for_a_mapping(tmp_path: Path) -> None:
    f = make(tmp_path, np.ones(MIB))
    f(1)
    held = [f(1) for _ in range(50)]
    assert len(held) == 50
    del held


def test_an_array_larger_than_the_bound_is_returned_and_not_kept(tmp_path: Path) -> None:
    f = make(tmp_path, np.ones(MIB), size_bytes_max=MIB)
    assert f(1).sum() == MIB
    assert f.info().size_bytes == 0
    assert f(1).sum() == MIB


# ---- hostile entries, and what becomes of replaced arrays ------------------------------------------------------------


HOSTILE_PLACES: dict[str, dict[str, Any]] = {
    "pointers": {"dtype": "|O"},
    "pointers in a field": {"dtype": "i4,O"},
    "subarrays": {"dtype": "(2,)i8"},
    "texts elsewhere": {"dtype": "T"},
    "before the file": {"offset": -8},
    "behind the file": {"offset": 1 << 40},
    "more than a number": {"offset": 1 << 63},
    "too many": {"shape": (1 << 60,)},
    "fewer than none": {"shape": (-1,)},
    "fewer than none, twice": {"shape": (-1, -MIB)},
    "elsewhere": {"name": "../x.npy"},
}


@pytest.mark.parametrize("harm", HOSTILE_PLACES)
def test_an_entry_that_lies_about_its_array_is_a_miss(tmp_path: Path, harm: str) -> None:
    array = np.ones(MIB)
    f = make(tmp_path, array)
    f(1)
    path = Path(f.info().directory) / f"{f.key(1)}.entry"
    entry = decode_entry(path.read_bytes())
    assert entry is not None
    place = msgspec.structs.replace(msgspec.msgpack.decode(entry.payload, type=ArrayPlace), **HOSTILE_PLACES[harm])
    changed = msgspec.structs.replace(entry, payload=msgspec.msgpack.encode(place))
    path.write_bytes(b"".join(encode_entry(changed)))
    with pytest.warns(MemoWarning, match="damaged"):
        assert np.array_equal(make(tmp_path, array)(1), array)


def test_a_replaced_array_is_deleted_and_stays_whole_where_it_is_mapped(tmp_path: Path) -> None:
    clock = ManualClock(datetime(2020, 1, 1))
    f = make(tmp_path, np.ones(MIB), expire_s=1, clock=clock)
    first = f(1)
    for _ in range(3):
        clock.advance(2)
        f(1)
    assert len(calls) == 4
    assert len(list(Path(f.info().directory).glob("*.npy"))) == 1
    assert first.sum() == MIB
    g = make(tmp_path, 7, expire_s=1, clock=clock)
    clock.advance(2)
    assert g(1) == 7, "and now it is no array any more"
    assert not list(Path(f.info().directory).glob("*.npy"))


@pytest.mark.parametrize("mode", ["once", "full"])
@pytest.mark.filterwarnings("ignore::perdure.memo.MemoWarning")
def test_a_replaced_array_is_right_whatever_the_disk_refuses(tmp_path: Path, mode: Any) -> None:
    settings: dict[str, Any] = {"map_bytes_min": 1000, "expire_s": 1}
    for number, fs in enumerate(failing_everywhere(mode, errno.ENOSPC)):
        where, clock = tmp_path / str(number), ManualClock(datetime(2020, 1, 1))
        make(where, np.ones(1000), clock=clock, **settings)(1)
        clock.advance(2)
        assert make(where, np.zeros(1000), fs=fs, clock=clock, **settings)(1).sum() == 0
        assert not fs.open_fds
        found = make(where, None, clock=clock, **settings).peek(1)
        assert found is MISSING or found.sum() == 0
