"""The bytes of an item."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import CorruptError
from perdure.stash import _items


@given(st.binary(max_size=300), st.none() | st.text(st.characters(), min_size=1))
def test_an_item_is_read_as_it_was_packed(value: bytes, name: str | None) -> None:
    data = b"".join(_items.pack(value, name))
    item = _items.unpack(data, "path")
    assert (bytes(item.value), item.name, item.verified) == (value, name, True)
    needed, found = _items.name_in_tail(data)
    assert found == name
    if name is not None:
        assert _items.name_in_tail(data[-needed:]) == (needed, name)


@given(st.binary(max_size=100), st.data())
def test_damage_is_noticed(value: bytes, data: st.DataObject) -> None:
    packed = bytearray(b"".join(_items.pack(value, "name")))
    position = data.draw(st.integers(0, len(packed) - 9))
    packed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptError):
        _items.unpack(bytes(packed), "path")


def test_the_layout_is_that_of_the_format() -> None:
    assert b"".join(_items.pack(b"\x80\x05K\x01.")).hex(" ") == (
        "80 05 4b 01 2e 00 00 00 00 c6 79 1d 3b 50 45 52 44 49 54 4d 31"
    )
    assert b"".join(_items.pack(b"\x80\x05K\x01.", "n\u00e9")).hex(" ") == (
        "80 05 4b 01 2e 6e c3 a9 03 00 00 00 16 94 ef d4 50 45 52 44 49 54 4d 31"
    )
