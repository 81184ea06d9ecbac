"""Stored calls are shown without importing or calling anything that their bytes name."""

from __future__ import annotations

import datetime
import decimal
import pickle
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.cli._viewer import json_of, read_call, text_of
from perdure.codecs import Pickle
from perdure.system import encode_command

built: list[object] = []


class Loud:
    """Says when it is made."""

    def __init__(self, *args: Any) -> None:
        built.append(self)
        self.args = args

    def __setstate__(self, state: Any) -> None:
        built.append(state)

    def __reduce__(self) -> Any:
        return Loud, (1, "two"), {"x": 3}


class Runs:
    """Runs a program where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


def payload(*args: Any, protocol: int = 5) -> bytes:
    return b"\x00" + pickle.dumps(("method", args, {}), protocol)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ([1, "a", None, 1.5, b"x"], "[1, 'a', None, 1.5, b'x']"),
        ((1,), "(1,)"),
        ({"a": {"b": 1}}, "{'a': {'b': 1}}"),
        ({3, 1, 2}, "{1, 2, 3}"),
        (frozenset({1}), "frozenset({1})"),
        (datetime.datetime(2024, 1, 2, 3, 4), "datetime(2024-01-02T03:04:00)"),
        (datetime.date(2024, 1, 2), "date(2024-01-02)"),
        (datetime.timedelta(1), "timedelta(1, 0, 0)"),
        (decimal.Decimal("1.50"), "Decimal('1.50')"),
        (deque([1, 2]), "deque([1, 2])"),
        (OrderedDict(a=1), "OrderedDict({'a': 1})"),
        (Counter("a"), "Counter({'a': 1})"),
        (defaultdict(list, a=[1]), "defaultdict(list, {'a': [1]})"),
        (dict, "dict"),
    ],
)
def test_values_look_as_one_would_write_them(value: Any, wanted: str) -> None:
    assert read_call("pickle", payload(value)).text(None) == f"method({wanted})"


def test_nothing_is_made_of_the_users_classes() -> None:
    call = read_call("pickle", payload(Loud()))
    built.clear()
    call = read_call("pickle", payload(Loud()))
    assert call.text(None) == "method(Loud(1, 'two', x=3))"
    assert json_of(call.args[0])["$object"].endswith(".Loud")
    built.clear()
    data = payload(Loud())
    built.clear()
    read_call("pickle", data).text(None)
    assert built == []


def test_hostile_bytes_run_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    call = read_call("pickle", payload(Runs(marker)))
    assert "exec(" in call.text(None)
    assert not marker.exists()


def test_modules_that_only_the_bytes_name_are_not_imported() -> None:
    assert "this" not in sys.modules
    data = b"\x80\x04\x8c\x04this\x8c\x01s\x93)R."
    assert "cannot be read" not in text_of(read_call("pickle", b"\x00" + data).args)
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"\x00garbage", b"\xc1", b"\x93", b"\x00\x80\x04", b"\x00" + pickle.dumps(1), b"\x81\x01\x02"],
)
def test_what_cannot_be_read_says_so(data: bytes) -> None:
    call = read_call("pickle", data)
    assert call.opaque is not None
    assert "cannot be read" in call.text(50)


def test_an_unknown_codec_says_so() -> None:
    assert "codec 'mine'" in read_call("mine", b"\x00abc").text(None)
    assert read_call("mine", encode_command(Pickle(), "method", (1,), {})[0]).text(None) == "method(1)"


def test_rings_and_depth_come_to_an_end() -> None:
    ring: list[Any] = []
    ring.append(ring)
    assert read_call("pickle", payload(ring)).text(None) == "method([...])"
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    assert "..." in read_call("pickle", payload(deep)).text(None)
    assert json_of(read_call("pickle", payload(ring)).args)


def test_long_values_are_cut_early() -> None:
    text = read_call("pickle", payload("x" * 10_000_000, list(range(1_000_000)))).text(20)
    assert text == "method('xxxxxxxxxxxxxxxxx…', [0, 1, 2, 3, 4, 5, …)"


@given(st.binary(max_size=200))
def test_any_bytes_can_be_looked_at(data: bytes) -> None:
    for codec in ("pickle", "json", "msgpack"):
        call = read_call(codec, b"\x00" + data)
        assert call.text(60)
        json_of(call.args)


def test_uuid_as_its_state() -> None:
    assert "int=5" in read_call("pickle", payload(UUID(int=5))).text(None)
