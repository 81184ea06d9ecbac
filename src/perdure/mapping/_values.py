"""What values a dict takes, how they live in memory, and how they stand in a line."""

from __future__ import annotations

import base64
from collections.abc import Callable
from math import isfinite
from typing import Any, Protocol

import msgspec

from perdure.codecs import Codec, Json
from perdure.errors import CodecError
from perdure.limits import NESTING_DEPTH_MAX
from perdure.mapping._place import enter_dict, enter_list
from perdure.mapping._tracked_dict import TrackedDict
from perdure.mapping._tracked_list import TrackedList

SCALARS = frozenset({str, int, bool, type(None)})
"""Types whose values are stored as they are, by exact type. A float must be finite besides."""

encode_json: Callable[[Any], bytes] = msgspec.json.Encoder().encode
decode_json: Callable[[bytes | str], Any] = msgspec.json.Decoder().decode


class Values(Protocol):
    """How one codec's values are kept."""

    codec: Codec
    tracked: bool
    """Whether lists and dicts inside values tell of their changes."""

    def take(self, value: Any) -> tuple[Any, bytes]:
        """What is kept of a caller's value, and the JSON text for a line. Raises ``CodecError``; nothing happened."""
        ...

    def text(self, stored: Any) -> bytes:
        """The JSON text of a kept value. Raises ``CodecError``."""
        ...

    def adopt(self, found: Any) -> Any:
        """What is kept of something that a line holds. Raises ``CodecError``."""
        ...


class PlainValues:
    """``codec="json"``: plain data, with lists and dicts as tracked containers."""

    tracked = True

    def __init__(self, codec: Codec) -> None:
        self.codec = codec

    def take(self, value: Any) -> tuple[Any, bytes]:
        """See ``Values.take``."""
        stored = track(value)
        return stored, self.text(stored)

    def text(self, stored: Any) -> bytes:
        """See ``Values.text``."""
        try:
            return encode_json(stored)
        except (UnicodeEncodeError, RecursionError, ValueError, TypeError) as error:
            raise CodecError(f"cannot be stored as JSON: {error}") from error

    def adopt(self, found: Any) -> Any:
        """See ``Values.adopt``."""
        return adopt(found)


class PackedValues:
    """Any other codec: values as they are, in a line as base64 of what the codec makes of them."""

    tracked = False

    def __init__(self, codec: Codec, *, clone: bool) -> None:
        self.codec = codec
        self._clone = clone

    def take(self, value: Any) -> tuple[Any, bytes]:
        """See ``Values.take``."""
        data = self.codec.encode(value)
        return self.codec.decode(data) if self._clone else value, self._quoted(data)

    def text(self, stored: Any) -> bytes:
        """See ``Values.text``."""
        return self._quoted(self.codec.encode(stored))

    def adopt(self, found: Any) -> Any:
        """See ``Values.adopt``."""
        if not isinstance(found, str):
            raise CodecError(f"a value of codec={self.codec.name!r} is base64 in a line, not {found!r}")
        try:
            data = base64.b64decode(found, validate=True)
        except ValueError as error:
            raise CodecError(f"the value is not base64: {error}") from error
        return self.codec.decode(data)

    @staticmethod
    def _quoted(data: bytes) -> bytes:
        return b'"%b"' % base64.b64encode(data)


def values_for(codec: Codec, *, clone: bool) -> Values:
    """The values of a codec: tracked ones for ``Json`` itself, packed ones for everything else."""
    return PlainValues(codec) if type(codec) is Json else PackedValues(codec, clone=clone)


class _NotPlainError(Exception):
    """A part of a value is not plain data."""


def track(value: Any) -> Any:
    """A copy of plain data with lists and dicts as tracked containers that belong to nobody yet.

    Raises:
        CodecError: a part is not plain data; nothing happened.
    """
    if type(value) in SCALARS:
        return value
    try:
        return _track(value, 0)
    except _NotPlainError:
        # The codec finds the part, and says where in the value it lies.
        Json().encode(value)
        raise CodecError(f"{type(value).__qualname__} cannot be stored as JSON") from None


def _track(value: Any, depth: int) -> Any:
    kind = type(value)
    if depth > NESTING_DEPTH_MAX:
        raise CodecError(f"containers within containers, more than {NESTING_DEPTH_MAX} deep")
    if isinstance(value, dict):
        if _TEXT.issuperset(map(type, value)) and SCALARS.issuperset(map(type, value.values())):
            return TrackedDict(value)
        made = TrackedDict()
        for key, inner in value.items():
            if type(key) is not str:
                raise _NotPlainError
            if type(inner) not in SCALARS:
                inner = _track(inner, depth + 1)
                enter_dict(made, key, inner)
            dict.__setitem__(made, key, inner)
        return made
    if isinstance(value, list) or kind is tuple:
        if SCALARS.issuperset(map(type, value)):
            return TrackedList(value)
        found = TrackedList()
        for position, inner in enumerate(value):
            if type(inner) not in SCALARS:
                inner = _track(inner, depth + 1)
                enter_list(found, inner, position)
            list.append(found, inner)
        return found
    if kind is float and isfinite(value):
        return value
    raise _NotPlainError


def adopt(found: Any, depth: int = 0) -> Any:
    """Like ``track``, for what a JSON decoder has returned: it is plain already, and is changed in place."""
    kind = type(found)
    if kind is dict:
        made = TrackedDict(found)
        if not _FLAT.issuperset(map(type, found.values())):
            _check_depth(depth)
            for key, inner in found.items():
                if type(inner) not in _FLAT:
                    inner = adopt(inner, depth + 1)
                    enter_dict(made, key, inner)
                    dict.__setitem__(made, key, inner)
        return made
    if kind is list:
        values = TrackedList(found)
        if not _FLAT.issuperset(map(type, found)):
            _check_depth(depth)
            for position, inner in enumerate(found):
                if type(inner) not in _FLAT:
                    inner = adopt(inner, depth + 1)
                    enter_list(values, inner, position)
                    list.__setitem__(values, position, inner)
        return values
    return found


def _check_depth(depth: int) -> None:
    if depth > NESTING_DEPTH_MAX:
        raise CodecError(f"containers within containers, more than {NESTING_DEPTH_MAX} deep")


_FLAT = SCALARS | {float}
_TEXT = frozenset({str})
