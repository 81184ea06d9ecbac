"""What a class says of its own methods: ``@readonly``, ``@unlocked``, ``@abort_exception``.

The decorators mark a function and hand back the very same one, so nothing is slower, no signature changes and a plain
``Wiki()`` behaves as if they were not there. They may be stacked in any order, stand above or below ``@property``,
``@staticmethod`` and ``@classmethod``, and on ``async def`` and generator methods. The proxy asks ``marks``.

A dunder method needs no mark where Python's own data model says that it only asks: ``QUERY_DUNDERS``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

_F = TypeVar("_F")


def _dunders(words: str) -> frozenset[str]:
    return frozenset(f"__{word}__" for word in words.split())


QUERY_DUNDERS = _dunders(
    "len length_hint repr str format bytes bool hash eq ne lt le gt ge iter reversed contains getitem aiter "
    "getattr getattribute dir sizeof int float complex index round trunc floor ceil fspath "
    "neg pos abs invert add sub mul matmul truediv floordiv mod divmod pow lshift rshift and or xor "
    "radd rsub rmul rmatmul rtruediv rfloordiv rmod rdivmod rpow rlshift rrshift rand ror rxor "
    "instancecheck subclasscheck subclasshook class_getitem"
)
"""Dunder methods that ask and do not change. ``__next__``, ``__enter__``, ``__call__``, ``__iadd__`` are commands."""

LIFECYCLE_DUNDERS = _dunders(
    "new init post_init del init_subclass set_name prepare "
    "copy deepcopy replace reduce reduce_ex getstate setstate getnewargs getnewargs_ex"
)
"""Dunder methods by which Python makes, copies, stores and drops an object: neither commands nor queries."""

_READONLY = "__perdure_readonly__"
_UNLOCKED = "__perdure_unlocked__"
_ABORT_EXCEPTION = "__perdure_abort_exception__"


@dataclass(frozen=True, slots=True)
class Marks:
    """Which of the three decorators a method carries."""

    readonly: bool = False
    unlocked: bool = False
    abort_exception: bool = False


def readonly(method: _F) -> _F:
    """Say that calling ``method`` changes nothing: it is a query and is not journaled.

    Nothing enforces it while it runs; ``open(..., check=True)`` finds the ones that lie. On a property it means the
    getter, which is a query anyhow.

    Raises:
        TypeError: ``method`` is nothing that can be called.
    """
    return _mark(method, _READONLY)


def unlocked(method: _F) -> _F:
    """Say that ``method`` does not take the system's lock.

    A query then runs beside commands and may see one half done; a command keeps its place in the order of commands
    but does not shut out queries.

    Raises:
        TypeError: ``method`` is nothing that can be called.
    """
    return _mark(method, _UNLOCKED)


def abort_exception(method: _F) -> _F:
    """Say that a raising ``method`` leaves nothing behind: the state is as before the call, now and after replay.

    Checks that raise at the top of the method, before anything is changed, cost nothing; an exception that comes
    later costs what ``open(..., rollback=)`` says.

    Raises:
        TypeError: ``method`` is nothing that can be called.
    """
    return _mark(method, _ABORT_EXCEPTION)


def marks(method: object) -> Marks:
    """Return the marks of ``method``, wherever in a chain of wrappers they were made.

    Looks through ``functools.wraps`` and ``partialmethod``, bound, static and class methods, and properties (whose
    setter is asked by itself: ``marks(prop.fset)``).
    """
    chain = tuple(_layers(method))
    return Marks(
        readonly=any(_carries(layer, _READONLY) for layer in chain),
        unlocked=any(_carries(layer, _UNLOCKED) for layer in chain),
        abort_exception=any(_carries(layer, _ABORT_EXCEPTION) for layer in chain),
    )


def _mark(method: _F, name: str) -> _F:
    target = _markable(method)
    try:
        if not callable(target):
            raise TypeError
        setattr(target, name, True)
    except (AttributeError, TypeError):
        raise TypeError(f"a method was expected to mark, not {method!r}") from None
    return method


def _markable(method: object) -> Any:
    """The function inside a descriptor: a property itself takes no attributes, and a getter outlives its property."""
    while (inner := _inside(method)) is not None:
        method = inner
    return method


def _inside(method: object) -> object | None:
    if isinstance(method, property):
        return method.fget
    if isinstance(method, (functools.cached_property, functools.partialmethod, functools.partial)):
        func: object = method.func
        return func
    # Static, class and bound methods. Looked up on the type, because a mock answers to every name.
    return getattr(method, "__func__", None) if hasattr(type(method), "__func__") else None


def _carries(layer: object, name: str) -> bool:
    return getattr(layer, "__dict__", {}).get(name) is True


def _layers(method: object) -> Iterator[object]:
    seen: set[int] = set()
    layer: object | None = method
    while layer is not None and id(layer) not in seen:
        seen.add(id(layer))
        yield layer
        layer = _inside(layer) or getattr(layer, "__dict__", {}).get("__wrapped__")
