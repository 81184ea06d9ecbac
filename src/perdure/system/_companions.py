"""Second copies of a state: one to fall back to at once, one to find out what does not replay."""

from __future__ import annotations

import io
from typing import Any

from perdure.errors import CodecError, NotDeterministicError
from perdure.machine import INTERRUPTING, Pending
from perdure.system._state import ObjectState


def copy_of(state: ObjectState) -> ObjectState:
    """A second state, as one that is loaded from a snapshot would be."""
    buffer = io.BytesIO()
    state.dump(buffer)
    buffer.seek(0)
    other = state.sibling()
    other.take_over(other.read(buffer))
    return other


def _execute_quietly(state: ObjectState, payload: bytes) -> BaseException | None:
    try:
        state.execute(payload)
    except INTERRUPTING:
        raise
    except Exception as error:  # The command's own: it raised on the first copy, too.
        return error
    return None


class Shadow:
    """``rollback="shadow"``: takes the place of the state when a command has to be undone; then a new one is made.

    Costs the memory of the state once more, and each command runs twice.
    """

    def __init__(self, state: ObjectState) -> None:
        self._state = state
        self._copy: ObjectState | None = None

    def before(self, pending: Pending) -> None:
        if self._copy is None:
            self._copy = copy_of(self._state)

    def after(self, pending: Pending) -> None:
        if self._copy is not None:
            _execute_quietly(self._copy, pending.payload)

    def rolled_back(self) -> None:
        return

    def replaced(self) -> None:
        self._copy = None

    def roll_back(self) -> bool:
        copy, self._copy = self._copy, None
        if copy is None:
            return False
        self._state.take_over(copy.root)
        return True


class Checker:
    """``check=True``: runs every command a second time, from the journal's bytes on a second copy, and compares.

    For tests and CI: each call costs two digests of the whole state.
    """

    def __init__(self, state: ObjectState) -> None:
        self._state = state
        self._copy = copy_of(state)
        self._last = state.digest()
        self._found: NotDeterministicError | None = None

    def before(self, pending: Pending) -> None:
        self._found = None
        if self._state.digest() != self._last:
            self._found = NotDeterministicError(
                f"the state was changed outside of any command, before {_name(self._state, pending)}() was called",
                seq=pending.seq,
                hint="change it through a method of the system: what a caller holds of it must not be changed directly",
            )
            self._start_again()

    def after(self, pending: Pending) -> None:
        name = _name(self._state, pending)
        error = _execute_quietly(self._copy, pending.payload)
        self._last = self._state.digest()
        if self._found is not None:
            found, self._found = self._found, None
            raise found
        if _kind(error) is not _kind(pending.error):
            what = f"it {_told(pending.error)}, and when it was run again it {_told(error)}"
        elif self._copy.digest() != self._last:
            what = "run again on a second copy, it left another state"
        else:
            return
        self._start_again()
        raise NotDeterministicError(
            f"{name}() would not replay: {what}",
            seq=pending.seq,
            hint="does it ask the clock, chance, the environment, id() or a set's order? see perdure.clock and rng",
        )

    def rolled_back(self) -> None:
        self._last = self._state.digest()

    def replaced(self) -> None:
        self._start_again()

    def roll_back(self) -> bool:
        return False

    def query(self, name: str, before: bytes) -> None:
        """After a query. Raises ``NotDeterministicError`` where the state is no longer what it was ``before``."""
        if self._state.digest() == before:
            return
        self._start_again()
        raise NotDeterministicError(
            f"{name}() is a query and changed the state",
            hint="take the @readonly away, so that it is journaled; or do not change anything in it",
        )

    def digest(self) -> bytes:
        return self._state.digest()

    def _start_again(self) -> None:
        self._copy = copy_of(self._state)
        self._last = self._state.digest()


def _kind(error: BaseException | None) -> type | None:
    return None if error is None else type(error)


def _told(error: BaseException | None) -> str:
    return "returned" if error is None else f"raised {type(error).__name__}"


def _name(state: ObjectState, pending: Pending) -> str:
    try:
        function: Any = state.decode(pending.payload)[0]
    except CodecError:
        return "the command"
    return getattr(function, "__qualname__", str(function))
