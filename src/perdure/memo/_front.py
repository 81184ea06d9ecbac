"""Results in memory, in front of the directory.

What cannot change is handed out as it is. Anything else is kept as bytes and decoded for each caller, so that no caller
sees what another one did to its copy. A result is believed for a second; then its file is looked at: if another process
has deleted or replaced it, that counts here, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from perdure.memo._store import Stamp
from perdure.missing import MISSING

_monotonic_s = time.monotonic

BELIEVED_S = 1.0
ITEMS_MAX = 2048
ITEM_BYTES_MAX = 64 * 1024

_SCALARS = frozenset({str, int, bool, float, complex, bytes, type(None)})


class Kept:
    """One result in memory: ``value``, or ``MISSING`` and the ``payload`` that is decoded for each caller.

    ``until_s``: believed until then, on the monotonic clock.
    """

    __slots__ = ("made_at_ns", "payload", "raised", "stamp", "until_s", "value")

    def __init__(self, value: Any, payload: bytes, raised: bool, stamp: Stamp, made_at_ns: int) -> None:
        self.value = value
        self.payload = payload
        self.raised = raised
        self.stamp = stamp
        self.made_at_ns = made_at_ns
        self.until_s = 0.0

    def believe(self, expires_in_s: float | None) -> None:
        """Believe it from now on for a while."""
        self.until_s = _monotonic_s() + (BELIEVED_S if expires_in_s is None else min(BELIEVED_S, expires_in_s))


class Front:
    """By key, and by the plain arguments that led to that key. Any thread may call; single steps are atomic.

    ``get_plain`` is the method of a dict, for the fastest way of a hit.
    """

    def __init__(self) -> None:
        self._by_key: dict[bytes, Kept] = {}
        self._by_arguments: dict[Any, Kept] = {}
        self.get: Callable[[bytes], Kept | None] = self._by_key.get
        self.get_plain: Callable[[Any], Kept | None] = self._by_arguments.get

    def keep(self, key: bytes, kept: Kept) -> None:
        """Keep a result under its key, if it is small."""
        if len(kept.payload) <= ITEM_BYTES_MAX:
            items = self._by_key
            if len(items) >= ITEMS_MAX:
                self._make_room(items)
            items[key] = kept

    def keep_plain(self, plain: Any, kept: Kept) -> None:
        """Keep a result that cannot change under the arguments themselves.

        ``plain``: types and values. Zeros are left out: ``0.0`` and ``-0.0`` are equal for a dict, and different keys.
        """
        if kept.raised or kept.value is MISSING:
            return
        types, values = plain
        if float in types and 0.0 in values:
            return
        items = self._by_arguments
        if len(items) >= ITEMS_MAX:
            self._make_room(items)
        items[plain] = kept

    def forget(self, key: bytes) -> None:
        """Forget one result."""
        kept = self._by_key.pop(key, None)
        if kept is not None:
            kept.until_s = 0.0  # It may be kept by its arguments, too.

    def clear(self) -> None:
        """Forget all."""
        for key in list(self._by_key):
            self.forget(key)
        self._by_arguments.clear()

    @staticmethod
    def _make_room(items: dict[Any, Kept]) -> None:
        while len(items) >= ITEMS_MAX:
            try:
                del items[next(iter(items))]
            except (KeyError, StopIteration, RuntimeError):
                continue  # Another thread did.


def is_immutable(value: object) -> bool:
    """Whether no caller can change ``value``: scalars, and tuples and frozensets of them."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is not tuple and kind is not frozenset:
        return False
    members: Iterable[object] = value  # type: ignore[assignment]
    return _SCALARS.issuperset(map(type, members)) or all(map(is_immutable, members))
