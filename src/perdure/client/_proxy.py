"""The object that stands in for one elsewhere: the public methods of its class, and nothing else."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from perdure.wire import Method, methods_of

_CLIENT = "_perdure_client"
_CONTROL = "_perdure_control"


def make_proxy(cls: type, client: Any, control: Any, *, is_async: bool) -> Any:
    """A proxy whose methods call ``client.call``; the class's constructor is not run."""
    proxy = object.__new__(_proxy_class(cls, is_async))
    object.__setattr__(proxy, _CLIENT, client)
    object.__setattr__(proxy, _CONTROL, control)
    return proxy


@functools.lru_cache(maxsize=256)
def _proxy_class(cls: type, is_async: bool) -> Any:
    methods = methods_of(cls)
    namespace: dict[str, Any] = {
        "__slots__": (_CLIENT, _CONTROL, "__weakref__"),
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        # No subclass, whose inherited attributes would silently be those of an empty object; but `isinstance` holds.
        "__class__": property(lambda self: cls),
        "__getattr__": _missing(cls, is_async),
        "__setattr__": _refuse_setting,
        "__reduce_ex__": _refuse_pickling,
        "__dir__": lambda self: sorted(methods),
        "__repr__": lambda self: f"<{cls.__name__} at {object.__getattribute__(self, _CLIENT).target.url}>",
    }
    if is_async:
        namespace |= {"__aenter__": _enter_async, "__aexit__": _leave_async}
    else:
        namespace |= {"__enter__": _enter, "__exit__": _leave}
    for name, method in methods.items():
        namespace[name] = functools.update_wrapper(_remote(method), method.function)
    return type(cls.__name__, (), namespace)


def _remote(method: Method) -> Callable[..., Any]:
    # Blocking or awaited: the client's `call` decides.
    def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return object.__getattribute__(self, _CLIENT).call(self, method, args, kwargs)

    return call


def _missing(cls: type, is_async: bool) -> Callable[[Any, str], Any]:
    look = "await perdure.control(proxy).snapshot()" if is_async else "perdure.control(proxy).snapshot()"

    def missing(self: Any, name: str) -> Any:
        raise AttributeError(
            f"{cls.__name__} is elsewhere and has no public method {name!r}; attributes are read from a copy: {look}"
        )

    return missing


def _refuse_setting(self: Any, name: str, value: Any) -> None:
    raise AttributeError(f"{name!r} cannot be set from here: call a method that does")


def _refuse_pickling(self: Any, protocol: Any) -> Any:
    raise TypeError("a connection cannot be pickled: connect anew where it is needed")


def _enter(self: Any) -> Any:
    return self


def _leave(self: Any, *_: object) -> None:
    object.__getattribute__(self, _CLIENT).close()


async def _enter_async(self: Any) -> Any:
    return self


async def _leave_async(self: Any, *_: object) -> None:
    await object.__getattribute__(self, _CLIENT).aclose()
