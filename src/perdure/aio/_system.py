"""What ``open_async`` gives: the object, with methods that are awaited."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Generator, Iterator
from typing import Any

from perdure.aio._committer import Committer
from perdure.aio._control import AsyncControl
from perdure.errors import ReadOnlyError, UsageError
from perdure.system import System, control, encode_command, kind_of, system_of

_OWN = ("_perdure_proxy", "_perdure_system", "_perdure_committer", "_perdure_root")
_NEVER = frozenset(
    "__new__ __init__ __del__ __class__ __dict__ __weakref__ __doc__ __module__ __annotations__ __slots__ __hash__ "
    "__getattribute__ __getattr__ __setattr__ __delattr__ __subclasshook__ __init_subclass__ __class_getitem__ __dir__ "
    "__sizeof__ __reduce__ __reduce_ex__ __getstate__ __setstate__ __copy__ __deepcopy__ __enter__ __exit__ "
    "__aenter__ __aexit__ __await__ __match_args__ __static_attributes__ __firstlineno__".split()
)


class Answered:
    """What a query gives: awaiting it suspends nobody."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __await__(self) -> Generator[None, None, Any]:
        yield from ()
        return self._value


class AsyncSystem:
    """The base of all that ``open_async`` gives. Its attributes are the object's, read live; its methods are awaited.

    Everything but awaiting belongs to the loop's thread.
    """

    __slots__ = (*_OWN, "__weakref__")

    def __getattr__(self, name: str) -> Any:
        # Attributes and properties, and what the class keeps for itself.
        return getattr(self._perdure_proxy, name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise _not_awaited(f"{name} = …")

    def __delattr__(self, name: str) -> None:
        raise _not_awaited(f"del {name}")

    def __dir__(self) -> list[str]:
        return dir(self._perdure_proxy)

    def __repr__(self) -> str:
        return repr(self._perdure_proxy)

    @property
    def _perdure_control(self) -> AsyncControl:
        return AsyncControl(control(self._perdure_proxy), self._perdure_committer)

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._perdure_control.close()


class _Refusing:
    """Stands in for a committer where there is nothing to commit to."""

    def __init__(self, system: System) -> None:
        self._system = system

    def submit(self, payload: bytes, call: Any = None) -> asyncio.Future[Any]:
        raise ReadOnlyError("this was opened for reading", path=self._system.path)

    async def aclose(self) -> None:
        return


def make_async(proxy: Any) -> Any:
    """The awaited face of a proxy, on the running loop. Starts the committer's thread."""
    system = system_of(proxy)
    machine = system.machine
    cls: Any = type(system.state.root)
    made: Any = object.__new__(_class_for(cls))
    committer = _Refusing(system) if machine is None else Committer(machine)
    for name, value in zip(_OWN, (proxy, system, committer, system.state.root), strict=True):
        object.__setattr__(made, name, value)
    return made


@functools.lru_cache(maxsize=256)
def _class_for(cls: type) -> type:
    namespace: dict[str, Any] = {
        "__slots__": (),
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
    }
    for name, raw in _attributes(cls):
        kind = kind_of(cls, name, raw)
        function: Any = getattr(cls, name, None)
        is_dunder = name.startswith("__") and name.endswith("__")
        if kind is None:
            continue
        if is_dunder:
            wrapper = _dunder_query(name) if kind == "query" else _dunder_command(name)
        elif kind == "query":
            wrapper = _query(name)
        else:
            wrapper = _command(name, function)
        namespace[name] = functools.update_wrapper(wrapper, function)
    for name, extra in (("close", _close), ("take_snapshot", _take_snapshot)):
        if not hasattr(cls, name):
            namespace[name] = extra
    return type(cls.__name__, (AsyncSystem,), namespace)


def _attributes(cls: type) -> Iterator[tuple[str, Any]]:
    seen = set(_NEVER)
    for base in cls.__mro__:
        if base is not object:
            for name, raw in base.__dict__.items():
                if name not in seen:
                    seen.add(name)
                    yield name, raw


def _command(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def command(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        # Encoded and ordered here, at the call: awaiting only waits.
        system = self._perdure_system
        payload, args, kwargs = encode_command(system.codec, name, args, kwargs)
        return self._perdure_committer.submit(payload, (system.state.function(name), args, kwargs))

    return command


def _query(name: str) -> Callable[..., Any]:
    def query(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return Answered(getattr(self._perdure_proxy, name)(*args, **kwargs))

    return query


def _dunder_query(name: str) -> Callable[..., Any]:
    def query(self: Any, /, *args: Any) -> Any:
        return getattr(self._perdure_proxy, name)(*args)

    return query


def _dunder_command(name: str) -> Callable[..., Any]:
    def command(self: Any, /, *_: Any) -> Any:
        raise _not_awaited(name)

    return command


async def _close(self: Any) -> None:
    """Waits for what was accepted, makes everything durable, takes a snapshot if there is something to replay."""
    await self._perdure_control.close()


async def _take_snapshot(self: Any) -> int:
    """The seq of a snapshot of the present state, once it is proven to load and published."""
    return int(await self._perdure_control.take_snapshot())


def _not_awaited(what: str) -> UsageError:
    return UsageError(
        f"{what} is a command, and cannot be awaited", hint="give the class a method for it, and await that"
    )
