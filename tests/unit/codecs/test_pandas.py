"""``allow=["pandas"]``: frames and what they are made of, and nothing else of that package."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from perdure.codecs import Pickle
from perdure.errors import CodecError

pandas = pytest.importorskip("pandas")

NULLABLE = "Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float32 Float64 boolean string".split()
DAYS = pandas.date_range("2020-01-01", periods=3)
VALUES: dict[str, Any] = {
    "frame": pandas.DataFrame({"a": [1, 2], "b": ["x", None], "c": [1.5, 2.5]}, index=["p", "q"]),
    "empty": pandas.DataFrame(),
    "frame of moments": pandas.DataFrame({"at": DAYS, "n": range(3)}, index=DAYS),
    "objects": pandas.Series([1, "a", None], dtype=object),
    "categories": pandas.Series(pandas.Categorical(["a", "b", "a"], ordered=True), name="kind"),
    "zones": pandas.Series(DAYS.tz_localize("Europe/Paris")),
    "utc": DAYS.tz_localize("UTC"),
    "spans": pandas.Series(pandas.timedelta_range("1D", periods=2)),
    "periods": pandas.Series(pandas.period_range("2020-01", periods=2, freq="M")),
    "intervals": pandas.Series(pandas.interval_range(0, 3)),
    "sparse": pandas.Series(pandas.arrays.SparseArray([0, 0, 1])),
    "index of ranges": pandas.RangeIndex(2, 9, 3),
    "index of intervals": pandas.interval_range(0, 3),
    "index of categories": pandas.CategoricalIndex(["a", "b"]),
    "index of periods": pandas.period_range("2020-01", periods=2, freq="M"),
    "index of spans": pandas.timedelta_range("1D", periods=2),
    "levels": pandas.Series([1, 2], index=pandas.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["n", "s"])),
    **{f"every {freq}": pandas.date_range("2020-01-01", periods=3, freq=freq) for freq in ("MS", "B", "W", "h", "YS")},
    **{kind: pandas.Series([1, None], dtype=kind) for kind in NULLABLE},
}
SCALARS = [
    pandas.Timestamp("2020-01-01"), pandas.Timestamp("2020-01-01", tz="Europe/Paris"), pandas.Timedelta(5),
    pandas.Period("2020-01"), pandas.Interval(0, 1),
]  # fmt: skip


def codec() -> Pickle:
    return Pickle(allow=["pandas"])


@pytest.mark.parametrize("name", VALUES)
def test_frames_series_and_indexes_are_values(name: str) -> None:
    value = VALUES[name]
    loaded = codec().decode(codec().encode(value))
    assert type(loaded) is type(value)
    if isinstance(value, pandas.DataFrame):
        pandas.testing.assert_frame_equal(loaded, value)
    elif isinstance(value, pandas.Series):
        pandas.testing.assert_series_equal(loaded, value)
    else:
        pandas.testing.assert_index_equal(loaded, value)
        assert getattr(loaded, "freq", None) == getattr(value, "freq", None)


@pytest.mark.parametrize("value", SCALARS, ids=[type(value).__name__ + str(n) for n, value in enumerate(SCALARS)])
def test_moments_spans_and_intervals_are_values(value: object) -> None:
    assert codec().decode(codec().encode(value)) == value


def test_what_is_missing_stays_what_it_is() -> None:
    assert codec().decode(codec().encode([pandas.NaT, pandas.NA])) == [pandas.NaT, pandas.NA]


def test_they_are_refused_unless_asked_for() -> None:
    with pytest.raises(CodecError, match="cannot be stored"):
        Pickle(allow=["numpy"]).encode(VALUES["frame"])
    data = codec().encode(VALUES["frame"])
    with pytest.raises(CodecError, match="not allowed"):
        Pickle(allow=["numpy"]).decode(data)


class Opens:
    """What a stranger would write: a class of pandas whose constructor opens a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return pandas.ExcelFile, (self.path,)


@pytest.mark.parametrize("name", ["HDFStore", "ExcelFile", "ExcelWriter", "read_pickle", "eval"])
def test_the_rest_of_the_package_is_refused(name: str) -> None:
    item = getattr(pandas, name)
    data = b"\x80\x04c" + item.__module__.encode() + b"\n" + item.__qualname__.encode() + b"\n."
    with pytest.raises(CodecError, match="not allowed"):
        codec().decode(data)


def test_a_hostile_pickle_is_refused() -> None:
    with pytest.raises(CodecError, match="not allowed"):
        codec().decode(pickle.dumps(Opens("planted.xlsx")))
