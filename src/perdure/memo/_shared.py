"""Results that all instances of a class share: the second of the three levels."""

from __future__ import annotations

import threading
import weakref

from perdure.memo._turns import Turn
from perdure.missing import MISSING, Missing

_guard = threading.Lock()
_results: weakref.WeakKeyDictionary[type, dict[str, SharedResult]] = weakref.WeakKeyDictionary()


class SharedResult:
    """One result of one class. Subclasses have their own. ``turn`` is held while it is computed or replaced."""

    __slots__ = ("turn", "value")

    def __init__(self, what: str) -> None:
        self.turn = Turn(what)
        self.value: object | Missing = MISSING


def shared_result(owner_class: type, name: str) -> SharedResult:
    """The result ``name`` of a class; made, and empty, at the first asking. Any thread may call."""
    try:
        # Without the lock, which a thread of a forked process's parent may have held: this is nearly every call.
        return _results[owner_class][name]
    except KeyError:
        with _guard:
            found = _results.setdefault(owner_class, {})
            return found.setdefault(name, SharedResult(f"{owner_class.__qualname__}.{name}"))
