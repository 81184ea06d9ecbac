"""A key for values: 20 bytes, equal for equal content in any process, different for anything else.

The graph of the values is walked by the C pickler, whose ``persistent_id`` hook gives values one form: text, numbers,
lists, dicts and arrays count by type and content, not by which of them are the same object; sets count as sorted; dicts
count with their order, which a function can see. ``1``, ``1.0`` and ``True`` differ, and so do ``0.0`` and ``-0.0``.
Instances count by class and state, as they are pickled; classes and functions by name.
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
from collections.abc import Callable
from typing import Any

from perdure.errors import CodecError
from perdure.homes import MAIN, home_of

KEY_BYTES = 20
SCALARS = frozenset({str, int, bool, float, bytes, type(None)})
"""Types whose ``repr`` tells type and value."""

_BY_REPR = (
    datetime.datetime, datetime.date, datetime.time, datetime.timedelta, datetime.timezone, decimal.Decimal,
    fractions.Fraction, uuid.UUID, complex, range, slice, pathlib.PosixPath, pathlib.PurePosixPath,
    pathlib.PureWindowsPath, ipaddress.IPv4Address, ipaddress.IPv6Address,
)  # fmt: skip

_Form = Callable[[Any], object]


def key_of(prefix: bytes, values: tuple[Any, ...]) -> bytes:
    """The key of ``values`` among those of ``prefix``.

    Raises:
        CodecError: a value has no content that another process could see: a lambda, a lock, an open file.
    """
    if SCALARS.issuperset(map(type, values)):
        return key_of_scalars(prefix, values)
    return hashlib.blake2b(prefix + b"w" + _content_of(values), digest_size=KEY_BYTES).digest()


def key_of_scalars(prefix: bytes, values: tuple[Any, ...]) -> bytes:
    """``key_of`` for ``values`` that are all ``SCALARS``: nearly every call."""
    try:
        content = b"r" + repr(values).encode("utf-8", "surrogatepass")
    except ValueError:
        content = b"w" + _content_of(values)  # An int too long for repr() takes the other way, always.
    return hashlib.blake2b(prefix + content, digest_size=KEY_BYTES).digest()


def _content_of(values: object) -> bytes:
    try:
        return _walk(values, set())
    except RecursionError as error:
        raise CodecError(
            "the arguments cannot be a key: they contain themselves, or are nested too deeply", hint=_HINT
        ) from error
    except Exception as error:
        # What a class's own __reduce__ or __getstate__ raises may be anything.
        raise CodecError(f"the arguments cannot be a key: {error}", hint=_HINT) from error


_HINT = "key=lambda ...: the part of the arguments that decides the result"


class _Hash:
    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=32)
        self.write = self._hash.update
        self.digest = self._hash.digest


class _Walker(pickle.Pickler):
    """Writes a canonical form of values. Only ever used for hashing: nothing unpickles it."""

    def __init__(self, sink: _Hash, open_sets: set[int]) -> None:
        super().__init__(sink, 5)
        self._open_sets = open_sets

    def persistent_id(self, value: Any) -> Any:
        kind = type(value)
        form = _FORMS.get(kind)
        if form is None:
            if kind in (set, frozenset):
                return self._set(value)
            form = _form_of_library(kind)
            if form is None:
                return self._class_of_script(value) if issubclass(kind, type) else None
        return form(value)

    @staticmethod
    def _class_of_script(value: type) -> list[object] | None:
        # Its children know the script by another name. A class inside a function has no name that others know.
        if home_of(value.__module__) != MAIN or "<locals>" in value.__qualname__:
            return None
        return ["class", MAIN, value.__qualname__]

    def _set(self, value: set[object] | frozenset[object]) -> list[object]:
        if id(value) in self._open_sets:
            raise RecursionError  # A set that contains, by way of an object, itself.
        self._open_sets.add(id(value))
        try:
            return [type(value).__name__, *sorted(_walk(member, self._open_sets) for member in value)]
        finally:
            self._open_sets.discard(id(value))


def _walk(value: object, open_sets: set[int]) -> bytes:
    sink = _Hash()
    _Walker(sink, open_sets).dump(value)
    return sink.digest()


def _number(tag: bytes, content: bytes) -> int:
    # An int, because the pickler writes ints by value and remembers every other object by identity.
    return int.from_bytes(tag + content, "big")


def _by_repr(value: object) -> int:
    return _number(b"R", f"{type(value).__name__}:{value!r}".encode("utf-8", "surrogatepass"))


_FORMS: dict[type, _Form] = {
    str: lambda value: _number(b"s", value.encode("utf-8", "surrogatepass")),
    bytes: lambda value: _number(b"b", value),
    # A list as a persistent id is written with its members; being new, it is never taken for one written before.
    tuple: lambda value: ["tuple", *value],
    list: lambda value: ["list", *value],
    dict: lambda value: ["dict", *(part for pair in value.items() for part in pair)],
    **dict.fromkeys(_BY_REPR, _by_repr),
}


# ---- numpy and pandas: known by the module of the type, so that neither is imported here


def _form_of_library(kind: type) -> _Form | None:
    library = kind.__module__.partition(".")[0]
    if library == "numpy":
        bases = {base.__name__ for base in kind.__mro__ if base.__module__ == "numpy"}
        if kind.__name__ in ("ndarray", "memmap"):
            return _array
        if "generic" in bases:
            return _numpy_scalar
        if "dtype" in bases:
            return lambda value: ["dtype", repr(value)]
    elif library == "pandas":
        return _PANDAS_FORMS.get(kind.__name__)
    return None


def _array(value: Any) -> list[object]:
    if value.dtype.hasobject:
        return ["ndarray", repr(value.dtype), value.shape, value.tolist()]
    # In C order, whatever the layout in memory: equal arrays have equal keys.
    flat = value if value.flags.c_contiguous else value.copy(order="C")
    content = hashlib.blake2b(digest_size=32)
    if flat.nbytes:
        content.update(flat.reshape(-1).view("u1"))
    return ["ndarray", repr(value.dtype), value.shape, content.digest()]


def _numpy_scalar(value: Any) -> list[object]:
    return ["scalar", type(value).__name__, repr(value.dtype), value.tobytes()]


def _pandas_array(value: Any) -> list[object]:
    dtype = value.dtype
    if type(dtype).__module__.partition(".")[0] == "numpy":
        return ["values", value.to_numpy()]
    categories = getattr(dtype, "categories", None)
    shown = None if categories is None else (list(categories), dtype.ordered)
    return ["values", repr(dtype) if categories is None else "category", shown, value.tolist()]


def _index(value: Any) -> list[object]:
    return [type(value).__name__, list(value.names), getattr(value, "freqstr", None), *_pandas_array(value)]


def _multi_index(value: Any) -> list[object]:
    levels = [value.get_level_values(number) for number in range(value.nlevels)]
    return ["MultiIndex", list(value.names), levels]


def _series(value: Any) -> list[object]:
    return ["Series", value.name, value.index, value.attrs, *_pandas_array(value.array)]


def _frame(value: Any) -> list[object]:
    columns = [_pandas_array(value.iloc[:, number].array) for number in range(value.shape[1])]
    return ["DataFrame", value.columns, value.index, value.attrs, columns]


_INDEXES = "Index RangeIndex DatetimeIndex TimedeltaIndex PeriodIndex CategoricalIndex IntervalIndex"
_PANDAS_FORMS: dict[str, _Form] = {
    "DataFrame": _frame,
    "Series": _series,
    "MultiIndex": _multi_index,
    **dict.fromkeys(_INDEXES.split(), _index),
}
