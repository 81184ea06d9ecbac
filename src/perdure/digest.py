"""A digest of a state: equal for equal states, in any process, on any day.

The object graph is walked by the C pickler, whose ``persistent_id`` hook gives every value the same form everywhere:
text, numbers and other immutable values count by content, whether or not two places share one object; sets count as
sorted; lists, dicts and instances count with their order and with their sharing, because a later change would show it.

A set of objects is put in order by what each of them looks like by itself; those that look alike, by what the objects
look like that they refer to, and so on for a few steps (colour refinement, after Weisfeiler and Leman). Walking each
member to its end instead would walk a graph whose nodes know their neighbours along every path there is.
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
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, FunctionType
from typing import Any

from perdure.errors import CodecError
from perdure.homes import MAIN, MAIN_IN_CHILDREN, home_of

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


def _text(value: str) -> int:
    # The names of modules come through here, too: the script has another one in the children that it spawns. Text that
    # happens to be that name counts as the other, which is a smaller evil than to ask of each text what it is.
    return _number(b"s", (MAIN if value == MAIN_IN_CHILDREN else value).encode("utf-8", "surrogatepass"))


class _Walker(pickle.Pickler):
    """Writes a canonical form of a value. Only ever used for hashing: nothing unpickles it."""

    def __init__(self, sink: _Hash, looks: _Looks) -> None:
        super().__init__(sink, 5)
        self._looks = looks
        forms: dict[type, Callable[[Any], object]] = {
            str: _text,
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

    def _set(self, value: set[object] | frozenset[object]) -> object:
        if all(map(_is_content, value)):
            return _set_number(value, [self._looks.of(member, 0) for member in value])
        groups = self._looks.in_order(value)
        # Those that nobody can tell apart count by their looks; which of them comes first would be chance.
        one_by_one = [each[0] if len(each) == 1 else _look_number(self._looks.last(each)) for each in groups]
        return [type(value).__name__, *one_by_one]


class _LookWalker(_Walker):
    """What an object looks like: itself, with the looks of the objects that it refers to in their places."""

    def __init__(self, sink: _Hash, looks: _Looks, root: object, steps: int) -> None:
        super().__init__(sink, looks)
        self._root = root
        self._steps = steps

    def persistent_id(self, value: Any) -> Any:
        if type(value) in (set, frozenset):
            return _set_number(value, [self._looks.of(member, self._steps - 1) for member in value])
        if value is self._root or type(value) in _WALKED_ON or isinstance(value, _NAMED):
            return None
        form = self._form(type(value))
        if form is not None:
            return form(value)
        return _look_number([self._looks.of(value, self._steps - 1)])


class _Looks:
    """The looks of objects, each worked out once."""

    def __init__(self) -> None:
        # With the object itself: as long as it is here nothing else can have its id.
        self._known: dict[tuple[int, int], tuple[object, bytes]] = {}

    def of(self, value: object, steps: int) -> bytes:
        """``steps``: how far is looked. 0: of an object only its class; of what is content by itself all of it."""
        if _is_content(value):
            sink = _Hash()
            _Walker(sink, self).dump(value)
            return sink.digest()
        if steps <= 0:
            return f"{home_of(type(value).__module__)}.{type(value).__qualname__}".encode()
        known = self._known.get((id(value), steps))
        if known is None:
            sink = _Hash()
            _LookWalker(sink, self, value, steps).dump(value)
            known = self._known[id(value), steps] = value, sink.digest()
        return known[1]

    def in_order(self, members: Iterable[object]) -> list[list[object]]:
        """Groups of those that look alike, in an order that is the same in every process."""
        groups = [list(members)]
        for steps in range(1, _STEPS_MAX + 1):
            if all(len(group) == 1 for group in groups):
                break
            groups = [part for group in groups for part in self._parted(group, steps)]
        return groups

    def _parted(self, group: list[object], steps: int) -> list[list[object]]:
        if len(group) == 1:
            return [group]
        parts: dict[bytes, list[object]] = {}
        for member in group:
            parts.setdefault(self.of(member, steps), []).append(member)
        return [parts[look] for look in sorted(parts)]

    def last(self, group: list[object]) -> list[bytes]:
        return [self.of(member, _STEPS_MAX) for member in group]


_STEPS_MAX = 8
_WALKED_ON = (list, dict, int, float, bool, bytearray, type(None))
_NAMED = (type, FunctionType, BuiltinFunctionType)
_CONTENT = (str, bytes, int, float, bool, type(None), *_BY_REPR)


def _is_content(value: object) -> bool:
    """Whether nothing in it is an object that others may refer to as well."""
    if type(value) in (tuple, frozenset):
        return all(map(_is_content, value))  # type: ignore[call-overload]
    return type(value) in _CONTENT


def _set_number(value: set[object] | frozenset[object], looks: list[bytes]) -> int:
    return _number(b"S" if type(value) is set else b"F", b"".join(sorted(looks)))


def _look_number(looks: list[bytes]) -> int:
    return _number(b"o", b"".join(looks))


def digest(value: object) -> bytes:
    """32 bytes. Takes time in proportion to the state, and memory for one reference per container.

    Raises:
        CodecError: the value holds something that no process could load again.
    """
    try:
        sink = _Hash()
        _Walker(sink, _Looks()).dump(value)
        return sink.digest()
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
        raise CodecError(f"the state holds something that cannot be stored: {error}") from error
