"""What a caller hands to the writer of its node, and waits for."""

from __future__ import annotations

import threading
from typing import Any

import msgspec

from perdure.errors import PerdureError
from perdure.machine import Pending


class Waiting(Pending, eq=False):
    """A command, or with another ``kind`` something else, on its way. ``deadline_s``: by the monotonic clock.

    ``position``: of its entry, once it is applied.
    """

    deadline_s: float = 0.0
    position: int = 0


class Batch(msgspec.Struct, eq=False):
    """Commands that travel as one entry. Its fields are written under the node's order lock.

    ``acknowledged``: by the engine. ``applied``: by this node; its callers are answered once both are so. ``at``: the
    position where this node met it first, or where the engine says that it is.
    """

    id: bytes
    data: bytes
    waiting: list[Waiting]
    acknowledged: bool = False
    applied: bool = False
    at: int = 0
    refused: PerdureError | None = None

    def answer(self) -> None:
        """Wakes everybody who waits."""
        for each in self.waiting:
            if not each.done:
                each.done = True
                wake(each)

    def fail(self, error: PerdureError) -> None:
        """Tells everybody who waits that it did not come to be."""
        for each in self.waiting:
            if not each.done:
                each.error = error
        self.answer()


def wake(waiting: Any) -> None:
    """Wakes the caller of something that is done."""
    lock: threading.Lock | None = waiting.wake
    if lock is not None and lock.locked():
        lock.release()
