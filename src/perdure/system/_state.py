"""A plain object as a machine's state."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from perdure import digest as _digest
from perdure.codecs import Codec, Pickle
from perdure.errors import CodecError, ReplayError, UsageError
from perdure.homes import home_of
from perdure.machine import Verdict
from perdure.snapshots import Source, Writer
from perdure.system import _builtins
from perdure.system._command import PLAIN_WITHOUT_KEYWORDS, Arguments, Keywords, decode_command, decode_plain
from perdure.system._decorators import LIFECYCLE_DUNDERS, marks
from perdure.system._fingerprints import fingerprints
from perdure.system._guards import left_unchanged

Call = tuple[Callable[..., Any], Arguments, Keywords]

_NO_COMMANDS = LIFECYCLE_DUNDERS | {"__class__", "__getattribute__", "__dir__", "__subclasshook__", "__sizeof__"}
_WHOLE_VALUE = (dict, list)  # What the plain codecs store as it is; of other objects they store the attributes.


class ObjectState:
    """The root object, and how its commands are found by name.

    ``root`` is an ordinary instance of its class and stays the same object for good where it has a ``__dict__``.
    """

    def __init__(self, cls: type, codec: Codec, *, renames: Mapping[str, str] | None = None) -> None:
        self.cls = cls
        self.codec = codec
        # The plain codecs have no exceptions, and not every value that a method may return.
        self.answers: Codec = codec if isinstance(codec, Pickle) else Pickle(cls.__module__.partition(".")[0])
        self.root: Any = None
        self._renames = dict(renames or {})
        self._functions = _Functions(cls, self._renames)
        self.description: Mapping[str, Any] = {
            "kind": "system",
            "class": f"{home_of(cls.__module__)}.{cls.__qualname__}",
            "codec": codec.name,
            "methods": fingerprints(cls),
        }

    def sibling(self) -> ObjectState:
        """Another state of the same class and codec, still empty."""
        return ObjectState(self.cls, self.codec, renames=self._renames)

    def check(self, description: Mapping[str, Any], path: str | None) -> None:
        """See ``State.check``."""
        kind, codec, stored = description.get("kind"), description.get("codec"), str(description.get("class"))
        if kind != "system":
            raise UsageError(
                f"this holds a {kind}, not a system",
                path=path,
                hint="give the system a directory of its own"
                + ("; perdure.PersistentDict opens this one" if kind == "dict" else ""),
            )
        if codec != self.codec.name:
            raise UsageError(f"it was written with codec={codec!r}", path=path, hint=f"open it with codec={codec!r}")
        own = str(self.description["class"])
        renamed = self._renames.get(stored, stored)
        if renamed != own and (codec == "pickle" or renamed.rpartition(".")[2] != own.rpartition(".")[2]):
            raise UsageError(
                f"this holds a {stored}, not a {own}",
                path=path,
                hint=f"is it the right directory? If the class has moved: renames={{{stored!r}: {own!r}}}",
            )

    # ---- commands

    def function(self, method: str) -> Callable[..., Any]:
        """What runs for a method's name, with the root as first argument. Raises ``ReplayError`` where it is gone."""
        return self._functions[method]

    def decode(self, payload: bytes) -> Call:
        """See ``State.decode``."""
        method, args, kwargs = decode_command(self.codec, payload)
        return self._functions[method], args, kwargs

    def run(self, call: Call) -> Any:
        """See ``State.run``."""
        function, args, kwargs = call
        return function(self.root, *args, **kwargs)

    def execute(self, payload: bytes) -> Any:
        """See ``State.execute``."""
        if payload and payload[0] == PLAIN_WITHOUT_KEYWORDS:
            # The commonest, written out: a replay consists of little else.
            try:
                method, args = decode_plain(payload)
                function = self._functions[method]
            except (msgspec.DecodeError, TypeError, ValueError, RecursionError) as error:
                raise CodecError(f"an entry does not hold a call: {error}") from error
            return function(self.root, *args)
        method, args, kwargs = decode_command(self.codec, payload)
        return self._functions[method](self.root, *args, **kwargs)

    def verdict(self, call: Call, error: Exception) -> Verdict:
        """See ``State.verdict``."""
        function = call[0]
        if not marks(function).abort_exception:
            return "keep"
        return "unchanged" if left_unchanged(function, error) else "restore"  # type: ignore[arg-type]

    # ---- the whole

    @property
    def value(self) -> Any:
        return self.root

    def dump(self, file: Writer) -> None:
        """See ``State.dump``."""
        self.codec.dump(self._stored(self.root), file)

    def read(self, file: Source) -> Any:
        """See ``State.read``."""
        value = self._restored(self.codec.load(file))
        if not isinstance(value, self.cls):
            raise CodecError(f"a {type(value).__qualname__} was stored where a {self.cls.__qualname__} is expected")
        return value

    def take_over(self, value: Any) -> None:
        """See ``State.take_over``. A root with a ``__dict__`` stays the same object, as proxies share it."""
        root = self.root
        if value is root:
            return
        if root is None or type(value) is not type(root) or not _refill(root, value):
            self.root = value

    def digest(self, value: Any = None) -> bytes:
        """See ``State.digest``."""
        return _digest.digest(self._stored(self.root if value is None else value))

    def _stored(self, root: Any) -> Any:
        if self.codec.name not in ("json", "msgpack") or type(root) in _WHOLE_VALUE:
            return root
        if isinstance(root, (set, deque)):
            raise CodecError(f"codec={self.codec.name!r} does not store a {type(root).__name__}", hint='codec="pickle"')
        return dict(root) if isinstance(root, dict) else {**_slots(root), **getattr(root, "__dict__", {})}

    def _restored(self, value: Any) -> Any:
        if self.codec.name not in ("json", "msgpack") or self.cls in _WHOLE_VALUE:
            return value
        if issubclass(self.cls, dict):
            return self.cls(value)
        root = self.cls.__new__(self.cls)
        for name, attribute in value.items():
            object.__setattr__(root, name, attribute)
        return root


class _Functions(dict[str, Callable[..., Any]]):
    """A class's methods by name, looked up once each."""

    def __init__(self, cls: type, renames: Mapping[str, str]) -> None:
        super().__init__()
        self._cls = cls
        self._renames = renames
        if cls in _builtins.TYPES:
            self.update(_builtins.replaced_methods(cls))

    def __missing__(self, method: str) -> Callable[..., Any]:
        cls = self._cls
        name = method
        for base in cls.__mro__:
            renamed = self._renames.get(f"{base.__qualname__}.{method}")
            if renamed is not None:
                name = renamed.rpartition(".")[2]
                break
        function = getattr(cls, name, None) if _is_method(cls, name) else None
        if not callable(function):
            raise ReplayError(
                f"the journal calls {cls.__qualname__}.{method}, which no longer exists",
                hint=f'if it was renamed: renames={{"{cls.__qualname__}.{method}": "{cls.__qualname__}.new_name"}}; '
                "or open it once with the old code and take a snapshot",
            )
        self[method] = function
        return function  # type: ignore[no-any-return]


def _is_method(cls: type, name: str) -> bool:
    """Whether a command may be called so: what a metaclass has, other classes and what makes an object are none."""
    for base in cls.__mro__:
        if name in base.__dict__:
            raw = base.__dict__[name]
            return name not in _NO_COMMANDS and not isinstance(raw, (staticmethod, classmethod, type))
    return False


def _slots(root: Any) -> dict[str, Any]:
    return {name: getattr(root, name) for name in _slot_names(type(root)) if hasattr(root, name)}


def _slot_names(cls: type) -> list[str]:
    found = []
    for base in cls.__mro__:
        names = base.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__"):
                hidden = name.startswith("__") and not name.endswith("__")
                found.append(f"_{base.__name__.lstrip('_')}{name}" if hidden else name)
    return found


def _refill(root: Any, value: Any) -> bool:
    """Gives ``root`` the content of another instance of its class; ``False`` where that cannot be done in place."""
    if isinstance(root, dict):
        dict.clear(root)
        dict.update(root, value)
    elif isinstance(root, list):
        list.__setitem__(root, slice(None), value)
    elif isinstance(root, set):
        set.clear(root)
        set.update(root, value)
    elif isinstance(root, deque):
        deque.clear(root)
        deque.extend(root, value)
    elif not all(base.__flags__ & _HEAP_TYPE or base is object for base in type(root).__mro__):
        return False
    for name in _slot_names(type(root)):
        if hasattr(value, name):
            object.__setattr__(root, name, getattr(value, name))
        elif hasattr(root, name):
            object.__delattr__(root, name)
    attributes = getattr(root, "__dict__", None)
    if attributes is not None:
        attributes.clear()
        attributes.update(value.__dict__)
    return True


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement.
