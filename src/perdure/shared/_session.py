"""What one conversation has going with the owner: calls, a lock, a transaction."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from perdure.codecs import Codec
from perdure.errors import UsageError, WriteError
from perdure.shared._frames import BEGIN, COMMIT, LOCK, ROLLBACK, UNLOCK, VALUE, Answer, GoneError

DONE: Answer = (VALUE, None)


class Served(Protocol):
    """What an owner has open and serves. Any thread may call."""

    codec: Codec
    """Of what goes to other processes and comes from them: restricted."""
    lock: Any
    """Held while nobody else may call: reentrant, by a thread."""

    def check(self, description: dict[str, Any]) -> None:
        """Raises ``UsageError`` where another process has opened it as something else."""
        ...

    def call(self, kind: int, client: bytes, counter: int, body: bytes) -> Answer:
        """Makes a call, and raises what it raises. A change that ``client`` has asked for by the same counter before is
        not made again: it is answered as then.
        """
        ...

    def begin(self) -> Any:
        """Opens a transaction of this thread."""
        ...

    def commit(self, transaction: Any, client: bytes, counter: int) -> None:
        """All of it is one entry from here on. Raises what writing it raises: nothing of it has happened then."""
        ...

    def roll_back(self, transaction: Any) -> None:
        """Nothing of it has happened."""
        ...

    def has_run(self, client: bytes, counter: int) -> bool:
        """Whether a request has run."""
        ...

    def close(self, *, snapshot: bool | None = None) -> None:
        """Makes everything durable and lets go. Idempotent."""
        ...


class Gate:
    """Shut for everybody else while somebody's turn, taken under the owner before, is not over."""

    def __init__(self) -> None:
        self.is_open = False
        self._has_ended = False
        self._event = threading.Event()

    def open(self) -> None:
        """For good."""
        self.is_open = True
        self._event.set()

    def end(self) -> None:
        """The owner stops: nobody passes any more."""
        self._has_ended = True
        self._event.set()

    def pass_through(self) -> None:
        """Waits until it is open. Raises ``GoneError`` where the owner stops first."""
        self._event.wait()
        if self._has_ended:
            raise GoneError("the owner is leaving")


class Session:
    """One thread of an owner, on behalf of a thread somewhere."""

    def __init__(self, served: Served, client: bytes, gate: Gate) -> None:
        self._served = served
        self._client = client
        self._gate = gate
        self._lock_count = 0
        self._transactions: list[Any] = []

    @property
    def holds(self) -> bool:
        """Whether others wait for it."""
        return bool(self._lock_count or self._transactions)

    def answer(self, kind: int, counter: int, body: bytes) -> Answer:
        """Does what a request asks for, and raises what that raises."""
        if not self._gate.is_open and not self._lock_count and kind != LOCK:
            self._gate.pass_through()
        if kind == LOCK:
            # Whoever sends this has the turn already.
            self._served.lock.acquire()
            self._lock_count += 1
            self._gate.open()
        elif kind == UNLOCK:
            self._unlock()
        elif kind == BEGIN:
            self._transactions.append(self._served.begin())
        elif kind == COMMIT:
            self._commit(counter)
        elif kind == ROLLBACK:
            if self._transactions:
                self._served.roll_back(self._transactions.pop())
        else:
            return self._served.call(kind, self._client, counter, body)
        return DONE

    def _unlock(self) -> None:
        if not self._lock_count:
            raise UsageError("unlock() without a lock()")
        self._lock_count -= 1
        self._served.lock.release()

    def _commit(self, counter: int) -> None:
        if self._transactions:
            self._served.commit(self._transactions.pop(), self._client, counter)
        elif not self._served.has_run(self._client, counter):
            raise lost_transaction()

    def end(self) -> None:
        """Gives everything back. Idempotent."""
        while self._transactions:
            self._served.roll_back(self._transactions.pop())
        while self._lock_count:
            self._unlock()


def lost_transaction() -> WriteError:
    """What the end of the owner leaves of a transaction that was under way."""
    return WriteError(
        "the process that owned it ended in the middle of the transaction: nothing of that was made",
        outcome="not-written",
        hint="make the transaction again",
    )
