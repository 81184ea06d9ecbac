"""Which names a restricted pickle may look up: an exact table, the own package, and what ``allow`` names.

Only classes, and of those only the ones listed as (module, qualified name); no prefix of the standard library, no list
of forbidden things. The few functions are constructors that value types of the standard library pickle themselves
with; each stands with the reason why calling it with hostile arguments is harmless.
"""

from __future__ import annotations

import builtins
import enum
import importlib
import sys
import zoneinfo
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perdure import errors
from perdure.codecs._pandas import PANDAS
from perdure.errors import CodecError, UsageError
from perdure.homes import home_of

Name = tuple[str, str]

_EXCEPTIONS = " ".join(
    name for name, item in vars(builtins).items() if isinstance(item, type) and issubclass(item, BaseException)
)
_PATHS = "PurePath PurePosixPath PureWindowsPath Path PosixPath WindowsPath"
_VALUE_TYPES: dict[str, str] = {
    # Called, these make a value; as values they are the factories of a defaultdict. Ellipsis and NotImplemented are
    # constants. Not here: type (makes classes), getattr, iter, map and all the rest.
    "builtins": "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple "
    "Ellipsis NotImplemented " + _EXCEPTIONS,
    "array": "array",
    "collections": "ChainMap Counter OrderedDict UserDict UserList UserString defaultdict deque",
    "datetime": "date datetime time timedelta timezone tzinfo",
    "decimal": "Clamped Context ConversionSyntax Decimal DecimalException DecimalTuple DivisionByZero "
    "DivisionImpossible DivisionUndefined FloatOperation Inexact InvalidContext InvalidOperation Overflow Rounded "
    "Subnormal Underflow",
    "fractions": "Fraction",
    "http": "HTTPMethod HTTPStatus",
    "ipaddress": "AddressValueError IPv4Address IPv4Interface IPv4Network IPv6Address IPv6Interface IPv6Network "
    "NetmaskValueError",
    "pathlib": _PATHS,  # Making a path touches no file.
    "pathlib._local": _PATHS,  # Where Python 3.13 says that they live.
    "re": "RegexFlag",
    "statistics": "NormalDist",
    "time": "struct_time",
    "types": "SimpleNamespace",
    "uuid": "SafeUUID UUID",
    "perdure.errors": " ".join(
        name for name, item in vars(errors).items() if isinstance(item, type) and issubclass(item, errors.PerdureError)
    ),
    "zoneinfo": "ZoneInfo",  # Reads a file of the time zone database; the module refuses names that leave it.
}
_CONSTRUCTORS: dict[str, str] = {
    "perdure.errors": "_rebuild",  # Makes one of perdure's errors, and refuses every other class.
    "array": "_array_reconstructor",  # Makes arrays, from a type code and bytes whose length it checks.
    "re": "_compile",  # Makes a pattern from text and flags. (Matching with a hostile pattern may take for ever.)
}
_NUMPY_CONSTRUCTORS: dict[str, str] = {
    "perdure.errors": "_rebuild",  # Makes one of perdure's errors, and refuses every other class.
    # Makes an empty array of a subclass of ndarray; its contents come through the same stream. And a scalar from
    # a dtype and bytes.
    "numpy.core.multiarray": "_reconstruct scalar",
    "numpy._core.multiarray": "_reconstruct scalar",
    # Makes an array upon given bytes; refuses dtypes that hold objects.
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.numeric": "_frombuffer",
}


def _pairs(table: Mapping[str, str]) -> frozenset[Name]:
    return frozenset((module, name) for module, names in table.items() for name in names.split())


_STANDARD = _pairs(_VALUE_TYPES) | _pairs(_CONSTRUCTORS)
_NUMPY = _pairs(_NUMPY_CONSTRUCTORS)
_PANDAS = _pairs(PANDAS)


def member(owner: Any, name: Any, /) -> Any:
    """Stands where a pickle says ``getattr``, and answers only to the two uses of it that values have.

    Members of an enumeration (as Python 3.11.0 to 3.11.3 pickle them: a lookup in a dict), and the constructor that
    zone infos name, which takes the key of a zone.
    """
    if isinstance(owner, enum.EnumType) and type(name) is str:
        members: Mapping[str, object] = vars(owner)["_member_map_"]
        if name in members:
            return members[name]
    elif owner is zoneinfo.ZoneInfo and name == "_unpickle":
        return zoneinfo.ZoneInfo._unpickle  # type: ignore[attr-defined]
    raise CodecError(
        f"getattr of {name!r} is not allowed in stored data", hint="store plain data, not methods; or codec='json'"
    )


class Allowed:
    """The names that one codec may look up. Constant but for a cache of standard names; any thread may use it."""

    def __init__(
        self,
        package: str | None = None,
        allow: Sequence[str | type] = (),
        renames: Mapping[str, str] | None = None,
    ) -> None:
        if isinstance(allow, str):  # Which is a sequence of strings, too.
            raise UsageError(f"allow={allow!r} is one string", hint=f"allow=[{allow!r}]")
        self._package = None if package is None else home_of(package)
        self._classes: dict[Name, type] = {}
        self._named: set[str] = set()
        self._numpy = self._pandas = False
        for item in allow:
            if isinstance(item, type):
                _refuse_nested(item)
                self._classes[home_of(item.__module__), item.__qualname__] = item
            elif not all(part.isidentifier() for part in str(item).split(".")):
                raise UsageError(f"allow= has {item!r}", hint='a package or module, "package.module.Class", or a class')
            elif item.split(".")[0] == "numpy":
                # The package as a whole will not do: numpy.memmap is a class that writes files.
                self._numpy = True
            elif item == "pandas":
                # As a whole it will not do either: pandas.HDFStore is a class that opens files. Frames hold arrays.
                self._pandas = self._numpy = True
            elif item == "builtins":
                raise UsageError("allow= names builtins, of which the harmless classes are allowed anyway")
            else:
                self._named.add(home_of(item))
        self._renames = {_split(old): _split(new) for old, new in (renames or {}).items()}
        self._known: dict[Name, object] = {("builtins", "getattr"): member, **self._classes}
        for old in self._renames:
            self._known.pop(old, None)

    def find(self, module: str, name: str) -> Any:
        """The class of that name, or a ``CodecError`` with what to do. Imports nothing that only the bytes name."""
        known = self._known.get((module, name))
        return known if known is not None else self._find(module, name)

    def _find(self, module: str, name: str) -> Any:
        asked = (module, name)
        module = home_of(module)
        renamed = self._renames.get((module, name))
        if renamed is not None:
            module, name = renamed
        if (module, name) in self._classes:
            return self._classes[module, name]
        if (
            (module, name) in _STANDARD
            or (self._numpy and (module, name) in _NUMPY)
            or (self._pandas and (module, name) in _PANDAS)
        ):
            found = _standard(module, name)
            self._known[asked] = found
            return found
        full = f"{module}.{name}"
        if "." in name:
            raise CodecError(
                f"{full} cannot be stored: only classes at the top of a module can",
                hint="move the class to the top level of its module; functions and lambdas cannot be stored at all",
            )
        numpy_name = self._numpy and module.split(".")[0] == "numpy"
        if not (numpy_name or self._covers(module, full)):
            raise CodecError(
                f"{full} is not allowed in stored data",
                hint=f'allow=["{module}"] if you trust it, or codec="json" for plain data',
            )
        loaded = sys.modules.get(module)
        if loaded is None and (renamed is not None or module in self._named or full in self._named):
            try:
                loaded = importlib.import_module(module)  # Named by the caller, not only by the bytes.
            except ImportError as error:
                raise CodecError(f"{full}: the module cannot be imported: {error}", hint=_RENAME % full) from error
        if loaded is None:
            raise CodecError(
                f"{full}: the module {module} is not imported",
                hint=f'import {module} before opening, or allow=["{module}"]; if it is gone, {_RENAME % full}',
            )
        # Straight from the dict: a module's __getattr__ is code that the bytes could call.
        found = vars(loaded).get(name)
        if found is None:
            raise CodecError(f"{full} does not exist any more", hint=_RENAME % full)
        if not isinstance(found, type):
            raise CodecError(f"{full} is not a class", hint="functions, modules and other objects cannot be stored")
        if (home_of(found.__module__), found.__qualname__) != (module, name):
            raise CodecError(
                f"{full} is only another name of {found.__module__}.{found.__qualname__}",
                hint=f'allow=["{found.__module__}"] if you trust it',
            )
        if numpy_name and not _is_numpy_value(found):
            raise CodecError(f"{full} is not allowed in stored data: not an array, scalar or dtype")
        return found

    def _covers(self, module: str, full: str) -> bool:
        package = self._package
        if package is not None and (module == package or module.startswith(package + ".")):
            return True
        return full in self._named or any(module == item or module.startswith(item + ".") for item in self._named)


_RENAME = 'renames={"%s": "new.module.Class"}'


def _standard(module: str, name: str) -> object:
    home = "pathlib" if module == "pathlib._local" else module
    try:
        return getattr(importlib.import_module(home), name)  # From the fixed tables above.
    except (ImportError, AttributeError) as error:
        raise CodecError(f"{module}.{name} does not exist in Python {sys.version.split()[0]}") from error


def _is_numpy_value(kind: type) -> bool:
    numpy: Any = sys.modules["numpy"]
    memmap: Callable[..., Any] = numpy.memmap
    return issubclass(kind, (numpy.generic, numpy.ndarray, numpy.dtype)) and kind is not memmap


def _split(full: str) -> Name:
    module, dot, name = full.rpartition(".")
    if not dot or not all(part.isidentifier() for part in full.split(".")):
        raise UsageError(f"renames= has {full!r}", hint='renames={"old.module.Class": "new.module.Class"}')
    return module, name


def _refuse_nested(kind: type) -> None:
    if "." in kind.__qualname__:
        raise UsageError(
            f"{kind.__module__}.{kind.__qualname__} is defined inside a function or another class, "
            "so stored data cannot name it",
            hint="move the class to the top level of its module",
        )
