"""Applying entries from the journal."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from perdure.clock import Moment, running
from perdure.errors import CorruptError, DivergedError, PerdureError, ReplayError
from perdure.journal import Segment, start_of_last_append
from perdure.machine._answers import StoredAnswer, name_of, store_error, store_result
from perdure.machine._outcomes import Outcome, Status, outcomes_in
from perdure.machine._receipts import Receipts
from perdure.machine._state import State
from perdure.records import COMMAND, OUTCOME, SNAPSHOT, TERM, Entry

_UNDERSTOOD = frozenset({COMMAND, OUTCOME, TERM, SNAPSHOT})
INTERRUPTING = (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, RecursionError)
"""What ends a command from outside. Never its outcome: the command is treated as if it had not been called."""


def is_interruption(error: BaseException | None) -> bool:
    """Whether this ends a command from outside, and is not what became of it."""
    return error is not None and (isinstance(error, INTERRUPTING) or not isinstance(error, Exception))


_UNREADABLE_HINT = "open it with the code that wrote it; or, if a class has moved: renames={old: new}, or allow=[…]"

Owe = Callable[[int, Status, BaseException, StoredAnswer | None], None]


def owe_nothing(seq: int, status: Status, error: BaseException, answer: StoredAnswer | None) -> None:
    """The ``Owe`` of those who only read a journal."""


class NeedsRestore(BaseException):
    """Replaying met a command that must be undone; the machine does that and goes on behind it."""

    def __init__(self, position: int, entry: Entry, error: BaseException, status: Status) -> None:
        super().__init__()
        self.position = position
        self.entry = entry
        self.error = error
        self.status: Status = status


def replay(
    state: State,
    moment: Moment,
    entries: Sequence[Entry],
    outcomes: Mapping[int, Outcome],
    *,
    settled_before: int,
    owe: Owe = owe_nothing,
    start: int = 0,
    receipts: Receipts | None = None,
) -> None:
    """Applies entries in order, from position ``start`` on.

    ``outcomes``: all that are known, by the seq of their command. ``settled_before``: a command before this seq has no
    outcome because it returned; of a later one the crash may have kept it from being written.
    ``owe``: told of a command whose outcome the crash kept from being written. ``receipts``: where requests are noted;
    a request that stands there already is passed over.

    Raises:
        DivergedError: a command came out differently from what was recorded.
        ReplayError, CodecError: an entry cannot be applied with today's code.
        NeedsRestore: a command with ``@abort_exception`` raised, and no outcome of it was written before the crash.
    """
    execute = state.execute
    before = running.moment
    running.moment = moment
    try:
        for position in range(start, len(entries)):
            entry = entries[position]
            if entry.kind != COMMAND:
                if entry.kind not in _UNDERSTOOD:
                    raise CorruptError(f"an entry of unknown kind {entry.kind}", seq=entry.seq)
                continue
            seq = entry.seq
            noting = receipts if entry.client else None
            if noting is not None and noting.has_run(entry.client, entry.counter):
                continue
            if outcomes:
                outcome = outcomes.get(seq)
                if outcome is not None:
                    if outcome.status == "raised":
                        moment.set(seq, entry.at_ns, entry.utc_offset_min)
                        error = _replay_raising(state, entry, outcome)
                        if noting is not None:
                            noting.note(entry.client, entry.counter, seq, store_error(error, state.answers))
                    elif noting is not None and outcome.status == "aborted":
                        noting.note(entry.client, entry.counter, seq, outcome.answer)
                    continue
            moment.seq = seq
            moment.at_ns = entry.at_ns
            moment.utc_offset_min = entry.utc_offset_min
            moment.drawn = None
            try:
                result = execute(entry.payload)
            except ReplayError as error:
                error.seq = error.seq or seq
                raise
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # Whatever the method raises is its outcome, or ended it.
                answer = _judge(state, entry, position, error, settled_before, owe)
                if noting is not None:
                    noting.note(entry.client, entry.counter, seq, answer)
            else:
                if noting is not None:
                    noting.note(entry.client, entry.counter, seq, store_result(result, state.answers))
    finally:
        running.moment = before


def _replay_raising(state: State, entry: Entry, outcome: Outcome) -> Exception:
    call = _decoded(state, entry)
    try:
        state.run(call)
    except INTERRUPTING:
        raise
    except Exception as error:  # Whatever the method raises is its outcome.
        if name_of(error) != outcome.error:
            raise _diverged(entry, f"it raised {outcome.error} and now raises {name_of(error)}: {error}") from error
        # Its traceback leads to the caller's frame, which holds it: a cycle, and the state would outlive its proxy.
        return error.with_traceback(None)
    raise _diverged(entry, f"it raised {outcome.error} and now returns")


def _decoded(state: State, entry: Entry) -> Any:
    try:
        return state.decode(entry.payload)
    except PerdureError as error:
        error.seq = entry.seq
        error.hint = error.hint or _UNREADABLE_HINT
        raise


def _judge(
    state: State, entry: Entry, position: int, error: BaseException, settled_before: int, owe: Owe
) -> StoredAnswer | None:
    """A command raised and no outcome is recorded: either the crash came first, or it had not raised."""
    call = _decoded(state, entry)  # Also the place where an undecodable payload raises for good.
    if entry.seq < settled_before:
        raise _diverged(entry, f"it returned and now raises {name_of(error)}: {error}") from error
    if is_interruption(error):
        raise NeedsRestore(position, entry, error, "interrupted")
    assert isinstance(error, Exception)
    verdict = state.verdict(call, error)
    if verdict == "restore":
        raise NeedsRestore(position, entry, error, "aborted")
    answer = store_error(error, state.answers) if entry.client else None
    owe(entry.seq, "raised" if verdict == "keep" else "aborted", error, answer)
    return answer


def with_outcomes(
    batches: Iterator[tuple[Segment, list[Entry]]],
) -> Iterator[tuple[Segment, list[Entry], dict[int, Outcome], int]]:
    """Each batch with the outcomes of its commands, and the seq before which all of them are known.

    An outcome stands in the segment of its command, or, if a crash came in between, at the start of the next one.
    """
    held: tuple[Segment, list[Entry]] | None = None
    for segment, entries in batches:
        if not entries:
            continue
        if held is not None:
            both = [*held[1], *entries]
            yield *held, outcomes_in(both), start_of_last_append(both)
        held = segment, entries
    if held is not None:
        yield *held, outcomes_in(held[1]), start_of_last_append(held[1])


def _diverged(entry: Entry, what: str) -> DivergedError:
    return DivergedError(
        f"a command came out differently when it was replayed: {what}",
        seq=entry.seq,
        hint="has the code changed, or does the method look at something outside its object? perdure verify tells more",
    )


@contextmanager
def collector_off() -> Iterator[None]:
    """Loading a large state makes millions of objects and no garbage: the cyclic collector would only walk them
    again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
