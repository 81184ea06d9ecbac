"""Which values the restricted pickle gives back."""

from __future__ import annotations

import array
import collections
import copy
import copyreg
import datetime
import decimal
import fractions
import http
import io
import ipaddress
import math
import pathlib
import pickle
import re
import statistics
import textwrap
import time
import types
import uuid
import zoneinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.codecs import Pickle
from perdure.errors import CodecError
from perdure.limits import NESTING_DEPTH_MAX
from tests.unit.codecs import wiki

UTC = datetime.UTC
NOON = datetime.datetime(2024, 2, 29, 12, 0, tzinfo=UTC)

STANDARD_VALUES = [
    None, True, 0, -1, 2**31, -(2**63), 2**64, 10**400, 1.5, -0.0, "", "ä\U0001f600", "\ud800", b"", b"\x93" * 9, 1j,
    ..., NotImplemented, bytearray(b"abc"), range(1, 9, 2), slice(1, None, 2), {1, 2}, frozenset({1, (2, 3)}),
    (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {(1, ("a", 2)): [3]}, "x" * 70_000, b"x" * 70_000, ["y" * 300] * 3,
    NOON, NOON.date(), NOON.time(), NOON.timetz(), datetime.timedelta(1, 2, 3), UTC,
    datetime.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")),
    decimal.Decimal("1.10"), decimal.Decimal("-Infinity"), decimal.Decimal("1.5").as_tuple(), fractions.Fraction(1, 3),
    uuid.UUID(int=5), uuid.uuid1(),
    collections.OrderedDict(a=1), collections.deque([1, 2], 5), collections.Counter("aab"),
    collections.defaultdict(list, a=[1]), collections.defaultdict(int), collections.defaultdict(None, {1: 2}),
    collections.ChainMap({"a": 1}), collections.UserDict(a=1), collections.UserList([1]), collections.UserString("a"),
    pathlib.PurePosixPath("a/b"), pathlib.PureWindowsPath("a/b"), pathlib.Path("/tmp/x"),
    ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("::1"), ipaddress.ip_network("10.0.0.0/8"),
    ipaddress.ip_network("fe80::/64"), ipaddress.ip_interface("10.0.0.1/8"), ipaddress.ip_interface("::1/64"),
    types.SimpleNamespace(a=1), time.gmtime(0), array.array("d", [1.5]), array.array("i", [1, 2]),
    re.compile("a+", re.IGNORECASE), re.compile(b"a"), re.IGNORECASE, statistics.NormalDist(1, 2), http.HTTPStatus.OK,
    int, list, dict, str, object, ValueError, datetime.date,
]  # fmt: skip


@pytest.mark.parametrize("value", STANDARD_VALUES, ids=lambda value: type(value).__name__)
def test_value_type_of_the_standard_library_comes_back(value: object) -> None:
    codec = Pickle()
    for came_back in (codec.decode(codec.encode(value)), _streamed(codec, value)):
        assert type(came_back) is type(value)
        assert came_back == value


def test_nan_and_contexts_come_back() -> None:
    codec = Pickle()
    assert math.isnan(codec.decode(codec.encode(math.nan)))
    context = codec.decode(codec.encode(decimal.Context(prec=7, traps=[decimal.Overflow])))
    assert context.prec == 7
    assert context.traps[decimal.Overflow]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a", 1),
        KeyError("k"),
        FileNotFoundError(2, "gone", "f"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        ImportError("no", name="x"),
        ZeroDivisionError(),
        ExceptionGroup("many", [ValueError(1)]),
        StopIteration(3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_built_in_exception_comes_back(error: Exception) -> None:
    codec = Pickle()
    came_back = codec.decode(codec.encode(error))
    assert type(came_back) is type(error)
    assert str(came_back) == str(error)


def test_exceptions_are_stored_the_same_whatever_else_the_process_has_registered(monkeypatch) -> None:
    # As tblib does, which Dask imports: every exception would need tblib to be loaded again.
    codec, value = Pickle(), [ValueError("a", 1), {"where": KeyError("b")}]
    before = codec.encode(value)
    for kind in (ValueError, KeyError):
        monkeypatch.setitem(copyreg.dispatch_table, kind, lambda error: (textwrap.dedent, ("not ours",)))
    assert codec.encode(value) == before
    file = io.BytesIO()
    codec.dump(value, file)
    file.seek(0)
    assert repr(codec.load(file)) == repr(value)


hashables = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3) | st.lists(inner, max_size=4).map(tuple),
    max_leaves=10,
)
values = st.recursive(
    hashables
    | st.datetimes()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.uuids()
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(inner, inner, inner)
        | st.dictionaries(hashables, inner, max_size=5)
        | st.builds(wiki.Page, st.text(), st.lists(inner, max_size=3))
        | st.builds(wiki.Point, inner, inner)
    ),
    max_leaves=30,
)


@given(values)
def test_any_nesting_of_values_comes_back(value: Any) -> None:
    codec = Pickle(package="tests")
    assert codec.decode(codec.encode(value)) == value
    assert _streamed(codec, value) == value


@given(st.lists(values, min_size=1, max_size=4))
def test_long_pickles_come_back(value: list[Any]) -> None:
    codec = Pickle(package="tests")
    many = [copy.deepcopy(value) for _ in range(60)] + value * 60
    assert codec.decode(codec.encode(many)) == many
    assert _streamed(codec, many) == many


OWN_VALUES = [
    wiki.Page("Home", [wiki.Page("About")]),
    wiki.Slotted("Home", ["a"]),
    wiki.Frozen("Home"),
    wiki.Color.RED,
    wiki.Rights.READ | wiki.Rights.WRITE,
    wiki.Point(1, [2]),
    wiki.TrackedDict(a=wiki.TrackedList([1])),
    wiki.Page,
    {wiki.Frozen("key"): wiki.Color.RED},
    collections.defaultdict(wiki.TrackedList, a=wiki.TrackedList([1])),
]


@pytest.mark.parametrize("value", OWN_VALUES, ids=lambda value: type(value).__name__)
def test_instances_of_own_classes_come_back(value: object) -> None:
    codec = Pickle(package="tests")
    for came_back in (
        codec.decode(codec.encode(value)),
        _streamed(codec, value),
        codec.decode(codec.encode([value] * 99))[5],
    ):
        assert type(came_back) is type(value)
        assert came_back == value


def test_enum_members_keep_their_identity() -> None:
    codec = Pickle(package="tests")
    assert codec.decode(codec.encode([wiki.Color.RED] * 2))[1] is wiki.Color.RED


def test_slots_without_a_dataclass_come_back() -> None:
    codec = Pickle(package="tests")
    many = [wiki.OldSlots(f"title {number}") for number in range(1_000)]
    assert [page.title for page in codec.decode(codec.encode(many))] == [page.title for page in many]
    assert [page.title for page in _streamed(codec, many)] == [page.title for page in many]


def test_shared_parts_and_rings_keep_their_identity_within_one_value() -> None:
    codec = Pickle(package="tests")
    shared: list[Any] = []
    shared.append(shared)
    first, second = codec.decode(codec.encode([shared, shared]))
    assert first is second
    assert first[0] is first
    home = wiki.Page("Home")
    home.links.append(home)
    came_back = codec.decode(codec.encode(home))
    assert came_back.links[0] is came_back
    ring: Any = ([],)
    ring[0].append(ring)
    assert codec.decode(codec.encode(ring))[0][0][0] is not None
    assert _streamed(codec, ring)[0][0][0] is not None


def test_a_shared_part_is_stored_again_by_the_next_call() -> None:
    codec = Pickle()
    shared = ["x"]
    assert codec.encode([shared]) == codec.encode([shared])


def test_a_pickle_inside_bytes_stays_bytes() -> None:
    inner = pickle.dumps(print)
    codec = Pickle()
    assert codec.decode(codec.encode({"inner": inner})) == {"inner": inner}


@pytest.mark.parametrize("count", [100, 600, 15_000])
def test_wide_values_are_not_taken_for_deep_ones(count: int) -> None:
    codec = Pickle()
    name = "shared"
    value = [{"id": number, "pair": (name, [number], number), "tags": [name, [name]]} for number in range(count)]
    assert codec.decode(codec.encode(value)) == value
    assert _streamed(codec, value) == value


@pytest.mark.parametrize(
    "wrap",
    [lambda x: [x], lambda x: (x,), lambda x: {"k": x}, lambda x: (1, x, "a")],
    ids=["list", "pair", "dict", "tuple"],
)
def test_nesting_is_bounded_on_writing(wrap: Any) -> None:
    codec = Pickle()
    assert codec.decode(codec.encode(_nested(wrap, 300))) == _nested(wrap, 300)
    for depth in (NESTING_DEPTH_MAX + 1, 900, 3_000):
        with pytest.raises(CodecError, match="nested"):
            codec.encode(_nested(wrap, depth))


def test_tuples_nested_up_to_the_bound_come_back() -> None:
    # Of other containers Python 3.11 itself pickles fewer, depending on how deeply the caller is nested.
    codec = Pickle()
    largest = _nested(lambda x: (x,), NESTING_DEPTH_MAX)
    assert codec.decode(codec.encode(largest)) == largest
    with pytest.raises(CodecError, match="nested"):
        codec.encode((largest,))


def test_a_long_chain_of_objects_is_refused_with_a_hint() -> None:
    codec = Pickle(package="tests")
    chain = wiki.Page("end")
    for number in range(100_000):
        chain = wiki.Page(str(number), [chain])
    with pytest.raises(CodecError, match="nested too deeply") as caught:
        codec.encode(chain)
    assert "list or dict" in str(caught.value.hint)
    with pytest.raises(CodecError, match="nested too deeply"):
        codec.dump(chain, io.BytesIO())


class Unseekable(io.RawIOBase):
    """Gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[:1000]
        return self._file.readinto(view)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, 1000))


@pytest.mark.parametrize(
    "value",
    [OWN_VALUES, STANDARD_VALUES, [("a", [1], "a")] * 2_000, b"x" * 300_000],
    ids=["own", "standard", "tuples", "bytes"],
)
def test_a_stream_that_cannot_seek_and_gives_few_bytes_is_loaded(value: Any) -> None:
    codec = Pickle(package="tests")
    file = io.BytesIO()
    codec.dump(value, file)
    assert codec.load(Unseekable(file.getvalue())) == value


def test_load_reads_one_value_and_leaves_the_next() -> None:
    codec = Pickle()
    file = io.BytesIO()
    stored = [[1, 2], ["x" * 200_000], [("a", [1])] * 2_000]
    for value in stored:
        codec.dump(value, file)
    file.seek(0)
    assert [codec.load(file) for _ in stored] == stored


def test_streams_are_loaded_without_a_second_copy() -> None:
    file = CountingFile()
    codec = Pickle()
    codec.dump([{"id": number, "text": f"text {number:050}"} for number in range(20_000)], file)
    assert len(file.getvalue()) > 1_000_000
    file.seek(0)
    codec.load(file)
    assert file.largest < 200_000


class CountingFile(io.BytesIO):
    largest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.largest = max(self.largest, len(data))
        return data


def _nested(wrap: Any, depth: int) -> Any:
    value: Any = wrap(0)
    for _ in range(depth - 1):
        value = wrap(value)
    return value


def _streamed(codec: Pickle, value: object) -> Any:
    file = io.BytesIO()
    codec.dump(value, file)
    end = file.tell()
    file.write(b"what follows")
    file.seek(0)
    came_back = codec.load(file)
    assert file.tell() == end
    return came_back
