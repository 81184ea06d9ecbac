"""Built-in types as systems: which of their methods are commands."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

from perdure.digest import digest

_DICT = "__setitem__ __delitem__ __ior__ clear pop popitem setdefault update"
_COMMANDS: dict[type, frozenset[str]] = {
    dict: frozenset(_DICT.split()),
    list: frozenset(
        "__setitem__ __delitem__ __iadd__ __imul__ append clear extend insert pop remove reverse sort".split()
    ),
    set: frozenset(
        "__iand__ __ior__ __isub__ __ixor__ add clear difference_update discard intersection_update pop remove "
        "symmetric_difference_update update".split()
    ),
    deque: frozenset(
        "__setitem__ __delitem__ __iadd__ __imul__ append appendleft clear extend extendleft insert pop popleft remove "
        "reverse rotate".split()
    ),
    Counter: frozenset((_DICT + " __iadd__ __iand__ __isub__ subtract").split()),
}

TYPES = tuple(_COMMANDS)


def commands_of(cls: type) -> frozenset[str]:
    """The names of a built-in type's methods that change it; every other method is a query."""
    return _COMMANDS[cls]


def replaced_methods(cls: type) -> dict[str, Callable[..., Any]]:
    """Functions that stand in for methods which would not do the same in another process, or beside a writer."""
    replaced: dict[str, Callable[..., Any]] = {"__iter__": _iterate}
    if hasattr(cls, "__reversed__"):
        replaced["__reversed__"] = _iterate_backwards
    if cls is set:
        replaced["pop"] = _pop_from_set
    return replaced


def _iterate(root: Any) -> Iterator[Any]:
    """Over what is there now: a command that comes in between does not disturb the loop."""
    return iter(list(root))


def _iterate_backwards(root: Any) -> Iterator[Any]:
    return iter(list(reversed(root)))


def _pop_from_set(root: set[Any]) -> Any:
    """Which element a set gives up differs from process to process; here it is the one with the smallest digest."""
    if not root:
        raise KeyError("pop from an empty set")
    chosen = min(root, key=digest)
    root.remove(chosen)
    return chosen
