"""The object that stands in for the root: looks like it, journals what changes it.

For an ordinary class the proxy's class is a subclass, made once, in which each method is wrapped. The proxy *shares the
root's* ``__dict__``: reading an attribute costs what it costs on the plain object, and the root stays an ordinary
instance whose own methods call each other directly. For classes with slots and for built-in types there is no
``__dict__`` to share: their proxy is no subclass (a ``dict`` subclass would have an empty dict inside, which C code
reads) but says by ``__class__`` what it stands for, and forwards.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from perdure.errors import UsageError
from perdure.system import _builtins
from perdure.system._decorators import LIFECYCLE_DUNDERS, QUERY_DUNDERS, marks
from perdure.system._extras import extras_for
from perdure.system._kinds import kind_of
from perdure.system._runtime import System
from perdure.system._signatures import query_like

_SYSTEM = "_perdure_system"
_ROOT = "_perdure_root"
_ENGINE = "_perdure_engine"
_OWN = (_SYSTEM, _ROOT, _ENGINE)
_NEVER_WRAPPED = LIFECYCLE_DUNDERS | frozenset(
    "__class__ __dict__ __weakref__ __doc__ __module__ __annotations__ __slots__ __qualname__ __name__ __orig_bases__ "
    "__parameters__ __abstractmethods__ __getattribute__ __getattr__ __subclasshook__ __class_getitem__ __dir__ "
    "__sizeof__ __init_subclass__ __setattr__ __delattr__ __hash__ __match_args__ __dataclass_fields__ "
    "__static_attributes__ __firstlineno__".split()
)


def make_proxy(system: System) -> Any:
    """A proxy for a system's root."""
    root = system.state.root
    cls: Any = type(root)
    proxy: Any
    if shares_attributes(cls):
        proxy_class = _sharing_class(cls, system.checker is not None)
        proxy = object.__new__(proxy_class)
        # A dict of its own making, not one that shares its keys with other instances: the interpreter reads it faster.
        object.__setattr__(root, "__dict__", {**root.__dict__})
        object.__setattr__(proxy, "__dict__", root.__dict__)
    else:
        proxy = object.__new__(forwarding_class(cls))
    return tied(proxy, system)


def make_forwarding_proxy(system: System) -> Any:
    """A proxy that shares nothing with the root: for a system whose root may be in another process."""
    return tied(object.__new__(forwarding_class(system.state.cls)), system)


def tied(proxy: Any, system: System) -> Any:
    """The proxy, standing for that system from now on."""
    object.__setattr__(proxy, _SYSTEM, system)
    object.__setattr__(proxy, _ROOT, system.state.root)
    object.__setattr__(proxy, _ENGINE, system.engine)
    return proxy


def system_of(proxy: object) -> System:
    """Raises ``UsageError`` where the object is no proxy of an opened system."""
    try:
        system = object.__getattribute__(proxy, _SYSTEM)
    except AttributeError:
        system = None
    if not isinstance(system, System):
        raise UsageError(
            f"this {type(proxy).__name__} was not opened by perdure", hint="pass what perdure.open returned"
        )
    return system


def is_proxy(value: object) -> bool:
    """Whether it stands for the root of some system."""
    return isinstance(getattr(type(value), _SYSTEM, None), _SLOT_TYPE)


def shares_attributes(cls: type) -> bool:
    """Whether instances keep everything in a ``__dict__`` that a proxy can share."""
    plain_layout = all(base.__flags__ & _HEAP_TYPE or base is object for base in cls.__mro__)
    has_slots = any(name not in ("__dict__", "__weakref__") for base in cls.__mro__ for name in _slot_names(base))
    return plain_layout and not has_slots and cls.__dictoffset__ != 0


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement.


def _slot_names(cls: type) -> tuple[str, ...]:
    names = cls.__dict__.get("__slots__", ())
    return (names,) if isinstance(names, str) else tuple(names)


# ---- classes whose instances have a __dict__


@functools.lru_cache(maxsize=256)
def _sharing_class(cls: type, checked: bool) -> Any:
    namespace: dict[str, Any] = {
        "__slots__": _OWN,
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        # Pickled it is an object of the class; and an `__eq__` that compares classes sees equal ones.
        "__class__": property(lambda self: cls),
        "__setattr__": _setting_attribute,
        "__delattr__": _deleting_attribute,
        "__reduce_ex__": _reduce_as_root,
        "__copy__": _copy_root,
        "__deepcopy__": _deepcopy_root,
    }
    for name, raw in _attributes(cls):
        wrapped = _wrapped(name, raw, cls, checked)
        if wrapped is not None:
            namespace[name] = wrapped
    namespace.update(extras_for(cls))
    namespace["__hash__"] = _hash_of_root if cls.__hash__ is not None else None
    return _subclass(cls, namespace)


def _subclass(cls: type, namespace: dict[str, Any]) -> type:
    metaclass = type(cls)
    hook = cls.__init_subclass__
    if getattr(hook, "__func__", None) is None:
        return metaclass.__new__(metaclass, cls.__name__, (cls,), namespace)
    # The class wants to know its subclasses; the proxy's is none that it should know of.
    if metaclass is type:
        made = type(cls.__name__, (_Placeholder,), namespace)
        # Refused where a base has empty slots, as typing.Generic has: then it is told of the subclass after all.
        with contextlib.suppress(TypeError):
            made.__bases__ = (cls,)
            return made
    return metaclass.__new__(metaclass, cls.__name__, (cls,), namespace)


class _Placeholder:
    """Has the layout of an ordinary class; gives way to the class that a proxy stands for."""


def _attributes(cls: type) -> Iterator[tuple[str, Any]]:
    """Everything that a class and its bases define, each name once, without what every object has."""
    seen: set[str] = set()
    for base in cls.__mro__:
        if base is object:
            continue
        for name, raw in base.__dict__.items():
            if name not in seen and name not in _NEVER_WRAPPED:
                seen.add(name)
                yield name, raw


def _wrapped(name: str, raw: Any, cls: type, checked: bool) -> Any:
    """What stands in the proxy's class for an attribute of the root's; ``None``: nothing, the inherited one will do."""
    if isinstance(raw, property):
        return property(_getter(name), doc=raw.__doc__) if raw.fget is not None else None
    if isinstance(raw, functools.cached_property):
        return property(_getter(name), doc=raw.__doc__)
    if isinstance(raw, classmethod):
        # Bound to the class that it belongs to: what it makes with `cls()` is an ordinary object.
        return staticmethod(getattr(cls, name))
    kind = kind_of(cls, name, raw)
    if kind is None:
        return None
    function = getattr(cls, name)
    unlocked = marks(raw).unlocked
    if kind == "query":
        wrapper = _query(name, function, checked, unlocked)
    else:
        wrapper = _command(name, function, not unlocked)
    return functools.update_wrapper(wrapper, function)


def _command(name: str, function: Callable[..., Any], exclusive: bool) -> Callable[..., Any]:
    if name == "__exit__":

        def leave(self: Any, kind: Any, error: Any, trace: Any) -> Any:
            # A traceback cannot be journaled, and a replay has no use for it.
            return self._perdure_system.command("__exit__", function, (kind, error, None), {})

        return leave

    def command(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        system = self._perdure_system
        result = system.command(name, function, args, kwargs, exclusive)
        return self if result is system.state.root else result

    return command


def _query(name: str, function: Callable[..., Any], checked: bool, unlocked: bool) -> Callable[..., Any]:
    if checked or inspect.isgeneratorfunction(function):

        def query(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            return self._perdure_system.query(name, function, args, kwargs)

    elif unlocked:

        def query(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            return function(self._perdure_root, *args, **kwargs)

    else:
        query = query_like(function)
    return query


def _getter(name: str) -> Callable[[Any], Any]:
    def get(self: Any) -> Any:
        return self._perdure_system.query(name, getattr, (name,), {})

    return get


def _setting_attribute(self: Any, name: str, value: Any) -> None:
    cls = type(self._perdure_root)
    self._perdure_system.command("__setattr__", cls.__setattr__, (name, value), {})


def _deleting_attribute(self: Any, name: str) -> None:
    cls = type(self._perdure_root)
    self._perdure_system.command("__delattr__", cls.__delattr__, (name,), {})


def _hash_of_root(self: Any) -> int:
    return hash(self._perdure_root)


def _reduce_as_root(self: Any, protocol: Any) -> Any:
    """Pickled or copied, a proxy gives a plain object."""
    return self._perdure_system.state.root.__reduce_ex__(protocol)


def _copy_root(self: Any) -> Any:
    return copy.copy(self._perdure_system.state.root)


def _deepcopy_root(self: Any, memo: dict[int, Any]) -> Any:
    return copy.deepcopy(self._perdure_system.state.root, memo)


# ---- classes with slots, and built-in types


@functools.lru_cache(maxsize=256)
def forwarding_class(cls: type) -> Any:
    """The class of proxies that forward everything."""
    namespace: dict[str, Any] = {
        "__slots__": (*_OWN, "__weakref__"),
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__class__": property(lambda self: cls),
        "__hash__": None,
    }
    replaced: dict[str, Callable[..., Any]] = {}
    commands: frozenset[str] | None = None
    if cls in _builtins.TYPES:
        commands = _builtins.commands_of(cls)
        replaced = _builtins.replaced_methods(cls)
    for name, raw in _attributes(cls):
        function = replaced.get(name) or getattr(cls, name, None)
        if isinstance(raw, (staticmethod, classmethod, type)) or not callable(function):
            continue
        namespace[name] = functools.update_wrapper(_forwarded(name, raw, function, commands), function)
    if dataclasses.is_dataclass(cls):
        # By this the functions of that module know a dataclass.
        namespace["__dataclass_fields__"] = cls.__dataclass_fields__
    namespace.update(extras_for(cls))
    return type(cls.__name__, (_Forwarding,), namespace)


def _forwarded(
    name: str, raw: Any, function: Callable[..., Any], commands: frozenset[str] | None
) -> Callable[..., Any]:
    marked = marks(raw)
    is_query = name not in commands if commands is not None else marked.readonly or name in QUERY_DUNDERS
    if not is_query:
        return _command(name, function, not marked.unlocked)

    def query(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        args = tuple(value._perdure_system.state.root if is_proxy(value) else value for value in args)
        return self._perdure_system.query(name, function, args, kwargs)

    return query


class _Forwarding:
    """The base of proxies that share no ``__dict__``."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        return self._perdure_system.query(name, getattr, (name,), {})

    __setattr__ = _setting_attribute
    __delattr__ = _deleting_attribute
    __copy__ = _copy_root
    __deepcopy__ = _deepcopy_root

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _reduce_as_root(self, protocol)

    def __repr__(self) -> str:
        return str(self._perdure_system.query("__repr__", repr, (), {}))

    def __dir__(self) -> list[str]:
        return list(self._perdure_system.query("__dir__", dir, (), {}))


class _SlotProbe:
    __slots__ = ("probe",)


_SLOT_TYPE = type(_SlotProbe.probe)  # type: ignore[attr-defined]
