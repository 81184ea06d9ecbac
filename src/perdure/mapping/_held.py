"""Changes that are in memory and not yet in the journal: those of a transaction, and those of ``hold()``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from perdure.mapping._changes import Function, Step, inverse_of
from perdure.mapping._place import Limbo
from perdure.mapping._state import ALL, DictState


class HeldChange(NamedTuple):
    """One change that was made in memory. ``payload``: for the journal; ``None`` for one to a container that an
    earlier change took out, which only has to be undone with the rest.
    """

    key: Any
    payload: bytes | None
    function: Function
    owner: Any
    args: Sequence[Any]
    inverse: list[Step]


class Held:
    """A run of changes, in order, each with what undoes it. The caller sees to locks."""

    def __init__(self, state: DictState, opened: Any) -> None:
        self._state = state
        self.limbo = Limbo(opened)
        self._ordered: set[int] = set()
        self._changes: list[HeldChange] = []

    def __len__(self) -> int:
        return len(self._changes)

    def make(self, payload: bytes | None, function: Function, owner: Any, args: Sequence[Any], key: Any) -> None:
        """Makes a change in memory."""
        inverse = inverse_of(function, owner, args, self._ordered)
        # Noted before it is made: should an interrupt come in between, undoing finds nothing to do.
        self._changes.append(HeldChange(key, payload, function, owner, args, inverse))
        try:
            self._state.perform(function, owner, args, key, self.limbo)
        except BaseException:
            self._state.undo(self._changes.pop().inverse, key)
            raise

    def note(self, change: HeldChange) -> None:
        """Adds a change that somebody else has made."""
        self._changes.append(change)

    def mark(self) -> int:
        """A place to undo to."""
        self._ordered.clear()
        return len(self._changes)

    def undo(self, mark: int = 0) -> list[HeldChange]:
        """Takes back everything since ``mark``, and returns it, in the order in which it was made."""
        undone = []
        while len(self._changes) > mark:
            change = self._changes[-1]
            self._state.undo(change.inverse, change.key)
            undone.append(self._changes.pop())
        self._ordered.clear()
        undone.reverse()
        return undone

    def redo(self, changes: list[HeldChange]) -> None:
        """Makes changes again that were undone."""
        for change in changes:
            self.make(change.payload, change.function, change.owner, change.args, change.key)

    def payload(self) -> bytes | None:
        """One entry for all of it; ``None`` where there is nothing to journal."""
        return payload_of(self._changes)

    def settle(self) -> None:
        """The journal has it all: from here on there is nothing to undo."""
        self._changes.clear()
        self._ordered.clear()
        self.limbo.opened = None

    @property
    def concerns_several(self) -> bool:
        """Whether there is a change of several keys, which cannot be journaled for one of them alone."""
        return any(change.key is ALL and change.payload is not None for change in self._changes)

    def changed_keys(self) -> set[Any]:
        """Of the dict, under which something was changed; ``ALL`` is in it where a change concerned several."""
        found: set[Any] = set()
        for change in self._changes:
            if change.payload is not None:
                if change.key is ALL and change.args:
                    found.update(pair[0] for pair in change.args[0])
                else:
                    found.add(change.key)
        return found

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Everything is taken back within the block, and made again behind it."""
        changes = self.undo()
        try:
            yield
        finally:
            self.redo(changes)


def payload_of(changes: Sequence[HeldChange]) -> bytes | None:
    """The entry that makes all these changes."""
    payloads = [change.payload for change in changes if change.payload is not None]
    if len(payloads) < 2:
        return payloads[0] if payloads else None
    return b'{"do":"all","args":[%b]}' % b",".join(payloads)
