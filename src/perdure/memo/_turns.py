"""One computation at a time within a process, and an error in place of a deadlock.

A plain lock would do if no result ever needed another one. Results do: while thread 1 computes ``x`` and waits for
``y``, thread 2 may compute ``y`` and want ``x``. So each waiting thread is entered in a table, and whoever would close
a circle of waiting threads gets ``PersistableError`` instead. A thread that asks for what it is itself computing is the
smallest such circle.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Hashable, Iterator

from perdure.errors import PersistableError


class _Waits:
    """Who waits for what, in one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.guard = threading.Lock()
        self.turn_of: dict[int, Turn] = {}  # waiting thread → the turn it waits for


_waits = _Waits()


def _waits_here() -> _Waits:
    """The table of this process. A forked child starts an empty one: the threads in its parent's do not exist here."""
    global _waits
    if _waits.pid != os.getpid():
        _waits = _Waits()
    return _waits


class Turn:
    """A lock that one thread holds while it computes. ``with turn:`` waits for it.

    Raises:
        PersistableError: on entering, when waiting would never end; the message calls the computation ``what``.
    """

    __slots__ = ("_holder", "_lock", "_pid", "_what")

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._pid = 0  # of the process in which it was taken last

    def __enter__(self) -> None:
        me = threading.get_ident()
        if not self._lock.acquire(blocking=False):
            self._wait(me)
        self._holder = me
        self._pid = os.getpid()

    def __exit__(self, *_: object) -> None:
        self._holder = None
        self._lock.release()

    def _wait(self, me: int) -> None:
        waits = _waits_here()
        while True:
            with waits.guard:
                lock = self._lock
                if self._pid not in (0, waits.pid):
                    # Taken by a thread of the parent before this process was forked: nobody here will give it back.
                    self._lock, self._pid, self._holder = threading.Lock(), 0, None
                    lock = self._lock
                self._refuse_circle(me, waits)
                waits.turn_of[me] = self
            taken = False
            try:
                taken = lock.acquire()
            finally:
                with waits.guard:
                    del waits.turn_of[me]
                    if taken:
                        # In the same step, so that no walk sees this thread both holding and waiting.
                        self._holder = me
            if lock is self._lock:
                return
            lock.release()

    def _refuse_circle(self, me: int, waits: _Waits) -> None:
        turn: Turn | None = self
        while turn is not None and turn._holder is not None:
            if turn._holder == me:
                raise PersistableError(
                    f"{self._what} needs itself to be computed",
                    hint="the function asks, directly or through others, for the result that it is computing",
                )
            turn = waits.turn_of.get(turn._holder)


class Turns:
    """A turn for each key that is being computed.

    Without a lock of its own, which a forked child or an interrupt could find taken for ever. So, rarely, two threads
    hold different turns of one key: when one gives its turn back just as the other comes. The lease settles that.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._turns: dict[Hashable, Turn] = {}

    @contextlib.contextmanager
    def of(self, key: Hashable) -> Iterator[None]:
        """Wait for the turn of ``key``, hold it for the block. Raises as ``Turn`` does."""
        turn = self._turns.setdefault(key, Turn(self._what))
        with turn:
            try:
                yield
            finally:
                if self._turns.get(key) is turn:
                    self._turns.pop(key, None)
