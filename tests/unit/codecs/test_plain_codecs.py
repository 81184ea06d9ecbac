"""JSON and MessagePack: plain data in, the same plain data out, and nothing converted on the way."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import io
import math
import pathlib
import sys
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.codecs import Codec, Json, MsgPack
from perdure.errors import CodecError
from perdure.limits import NESTING_DEPTH_MAX
from tests.ids import id_of
from tests.unit.codecs import wiki

BOTH = pytest.mark.parametrize("codec", [Json(), MsgPack()], ids=["json", "msgpack"])


class Level(enum.IntEnum):
    LOW = 1


class Name(str):
    pass


class Struct(msgspec.Struct):
    a: int = 1


@dataclasses.dataclass
class Data:
    a: int = 1


NOT_PLAIN = [
    datetime.datetime(2024, 1, 1), datetime.date(2024, 1, 1), datetime.timedelta(1),
    decimal.Decimal(1), uuid.UUID(int=1),
    pathlib.Path("a"), Level.LOW, Name("a"), Data(), Struct(), wiki.Point(1, 2), {1, 2}, frozenset(), bytearray(b"a"),
    memoryview(b"a"), 1j, range(3), object(), len, Data, ..., msgspec.Raw(b"1"), msgspec.UNSET, (x for x in "a"),
    {(1, 2): 3}, {None: 1}, {True: 1}, {1.5: 1}, {b"a": 1}, {Name("a"): 1}, "\ud800", {"\ud800": 1},
]  # fmt: skip


@BOTH
@pytest.mark.parametrize("value", NOT_PLAIN, ids=id_of)
def test_what_is_not_plain_is_refused_and_not_converted(codec: Codec, value: object) -> None:
    for whole in (value, [value], {"a": value}, [1, [2, {"b": (value,)}]]):
        with pytest.raises(CodecError):
            codec.encode(whole)


@BOTH
def test_the_message_names_type_and_place(codec: Codec) -> None:
    with pytest.raises(CodecError) as caught:
        codec.encode({"pages": [1, {"when": datetime.date(2024, 1, 1)}]})
    assert "datetime.date" in str(caught.value)
    assert "value['pages'][1]['when']" in str(caught.value)
    assert "pickle" in str(caught.value.hint)


@BOTH
def test_tuples_come_back_as_lists_and_tracked_containers_as_plain_ones(codec: Codec) -> None:
    value = {"a": (1, (2,)), "b": wiki.TrackedDict(c=wiki.TrackedList([wiki.TrackedDict()]))}
    came_back = codec.decode(codec.encode(value))
    assert came_back == {"a": [1, [2]], "b": {"c": [{}]}}
    assert type(came_back["b"]) is dict
    assert type(came_back["b"]["c"]) is list


@BOTH
@pytest.mark.parametrize(
    "wrap", [lambda x: [x], lambda x: {"k": x}, lambda x: [1, {"a": 2}, (x,)]], ids=["list", "dict", "mixed"]
)
def test_nesting_is_bounded_in_both_directions(codec: Codec, wrap: Any) -> None:
    value: Any = []
    for _ in range(200):
        value = wrap(value)
    codec.decode(codec.encode(value))
    for _ in range(NESTING_DEPTH_MAX):
        value = wrap(value)
    with pytest.raises(CodecError, match="nested"):
        codec.encode(value)


@pytest.mark.parametrize("depth", [NESTING_DEPTH_MAX + 1, 900, 100_000])
def test_deep_bytes_are_refused(depth: int) -> None:
    for codec, data in ((Json(), b"[" * depth + b"]" * depth), (MsgPack(), b"\x91" * depth + b"\xc0")):
        with pytest.raises(CodecError):
            codec.decode(data)
    with pytest.raises(CodecError):
        Json().decode(b'{"a":' * depth + b"1" + b"}" * depth)


@BOTH
def test_nesting_up_to_the_bound_comes_back(codec: Codec) -> None:
    value: Any = [1.5]
    for _ in range(NESTING_DEPTH_MAX - 1):
        value = [value]
    assert codec.decode(codec.encode(value)) == value
    with pytest.raises(CodecError, match="nested"):
        codec.encode([value])


@BOTH
def test_a_ring_is_refused(codec: Codec) -> None:
    ring: list[Any] = []
    ring.append(ring)
    ring.append(ring)
    with pytest.raises(CodecError, match="nested"):
        codec.encode(ring)


@BOTH
def test_wide_values_are_not_taken_for_deep_ones(codec: Codec) -> None:
    value = [{"id": number, "tags": [[str(number)], {"a": [1.5]}]} for number in range(2_000)]
    assert codec.decode(codec.encode(value)) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_json_refuses_what_is_no_finite_number(value: float) -> None:
    for whole in (value, [1.5, value], {"a": value}):
        with pytest.raises(CodecError, match="finite"):
            Json().encode(whole)


@pytest.mark.parametrize(
    "data", [b"NaN", b"Infinity", b"[1e999]", b"nul", b"'a'", b"[1,]", b"\xff", b'"\\ud800"', b"1 2"]
)
def test_json_refuses_what_is_not_json(data: bytes) -> None:
    with pytest.raises(CodecError):
        Json().decode(data)


@pytest.mark.parametrize("value", [b"a", {1: 2}], ids=repr)
def test_json_refuses_bytes_and_keys_that_are_not_text(value: object) -> None:
    with pytest.raises(CodecError):
        Json().encode(value)


def test_json_takes_integers_of_any_size_that_python_prints() -> None:
    for value in (2**63, -(2**64), 2**64 - 1, 10**400, -(10**4000)):
        assert Json().decode(Json().encode(value)) == value
    with pytest.raises(CodecError):
        Json().encode(10 ** (sys.get_int_max_str_digits() + 1))
    with pytest.raises(CodecError):
        Json().decode(b"9" * (sys.get_int_max_str_digits() + 1))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_json_floats_come_back_exactly(value: float) -> None:
    came_back = Json().decode(Json().encode(value))
    assert came_back == value
    assert type(came_back) is float


def test_json_is_one_readable_line() -> None:
    assert Json().encode({"a": [1, "ä\n"]}) == '{"a":[1,"ä\\n"]}'.encode()


def test_msgpack_takes_bytes_integer_keys_and_every_float() -> None:
    value = {"raw": b"\x00\xff", 1: "one", -5: math.inf}
    assert MsgPack().decode(MsgPack().encode(value)) == value
    assert math.isnan(MsgPack().decode(MsgPack().encode(math.nan)))


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**400])
def test_msgpack_refuses_integers_beyond_64_bits(value: int) -> None:
    with pytest.raises(CodecError, match=r"2\*\*64"):
        MsgPack().encode({"a": [value]})


@pytest.mark.parametrize(
    "data",
    [
        msgspec.msgpack.encode(datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)),
        msgspec.msgpack.encode(msgspec.msgpack.Ext(5, b"x")),
        b"\x81\xc0\x01",  # None as a key
        b"\x81\xcb?\xf8\x00\x00\x00\x00\x00\x00\x01",  # a float as a key
        b"\x81\xc4\x01a\x01",  # bytes as a key
        b"\x81\x91\x01\x01",  # a list as a key
        b"\x81\x80\x01",  # a dict as a key
        b"\xdd\xff\xff\xff\xff",  # four billion items that are not there
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc1",
        b"\xa1\xff",
    ],
    ids=repr,
)
def test_msgpack_refuses_what_is_not_plain_or_not_there(data: bytes) -> None:
    with pytest.raises(CodecError):
        MsgPack().decode(data)
    with pytest.raises(CodecError):
        MsgPack().load(io.BytesIO(data))
