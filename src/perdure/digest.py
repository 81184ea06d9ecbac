"""A digest of a state: equal for equal states, in any process, on any day.

The object graph is walked by the C pickler, whose ``persistent_id`` hook gives every value the same form everywhere:
text, numbers and other immutable values count by content, whether or not two places share one object; sets count as
sorted; lists, dicts and instances count with their order and with their sharing, because a later change would show it.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import hashlib
import ipaddress
import pathlib
import pickle
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

from perdure.errors import CodecError

DIGEST_BYTES = 32

_BY_REPR = (
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    datetime.timezone,
    zoneinfo.ZoneInfo,
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
    complex,
    range,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
)


class _Hash:
    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self.write = self._hash.update
        self.digest = self._hash.digest


def _number(tag: bytes, content: bytes) -> int:
    # An int, because the pickler writes ints by value and remembers every other object by identity.
    return int.from_bytes(tag + content, "big")


class _Walker(pickle.Pickler):
    """Writes a canonical form of a value. Only ever used for hashing: nothing unpickles it."""

    def __init__(self, sink: _Hash, open_sets: set[int]) -> None:
        super().__init__(sink, 5)
        self._open_sets = open_sets
        forms: dict[type, Callable[[Any], object]] = {
            str: lambda value: _number(b"s", value.encode("utf-8", "surrogatepass")),
            bytes: lambda value: _number(b"b", value),
            tuple: lambda value: ["tuple", *value],
            set: self._set,
            frozenset: self._set,
            **dict.fromkeys(_BY_REPR, self._by_repr),
        }
        self._form = forms.get

    def persistent_id(self, value: Any) -> Any:
        form = self._form(type(value))
        return None if form is None else form(value)

    @staticmethod
    def _by_repr(value: object) -> int:
        return _number(b"r", f"{type(value).__name__}:{value!r}".encode("utf-8", "surrogatepass"))

    def _set(self, value: set[object] | frozenset[object]) -> int:
        if id(value) in self._open_sets:
            # A set that contains, by way of an object, itself.
            return _number(b"o", b"")
        self._open_sets.add(id(value))
        try:
            members = sorted(_walk(member, self._open_sets) for member in value)
        finally:
            self._open_sets.discard(id(value))
        return _number(b"S" if type(value) is set else b"F", b"".join(members))


def _walk(value: object, open_sets: set[int]) -> bytes:
    sink = _Hash()
    _Walker(sink, open_sets).dump(value)
    return sink.digest()


def digest(value: object) -> bytes:
    """32 bytes. Takes time in proportion to the state, and memory for one reference per container.

    Raises:
        CodecError: the value holds something that no process could load again.
    """
    try:
        return _walk(value, set())
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
        raise CodecError(f"the state holds something that cannot be stored: {error}") from error
