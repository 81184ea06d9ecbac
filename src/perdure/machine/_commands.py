"""Journal and memory in step: how a command is ordered, written, applied and answered.

The life of a command: its payload was encoded by the caller. Under the *order lock* it gets its place in the journal,
is made durable in the mode promised, and is applied under the *state lock*, in order. Memory is therefore never ahead
of the disk. Queries take the state lock only and never wait for a sync.

With durability "always" commands that arrive during a sync share the next one (group commit, without a delay). Who
finds nobody leading, leads: it writes and syncs its own command and applies it. Who finds a leader queues, and is woken
once: with its answer, or, as the first in the queue, to lead in turn. That one takes all that wait, writes and syncs
them at once and applies them on behalf of their callers, each in its own ``contextvars`` context; and it wakes the next
leader before the others of its batch, so that the next sync runs while they return and come back with more. Nobody
waits for a lock that is held during a sync: with many threads each of them would get its turn at it one by one, and
batches would stay small. The next batch is not written while this one is applied: that is memory work of microseconds,
and so the outcomes of a batch always stand in the journal before the next command.

Locks are only taken by ``with``: between an ``acquire()`` and the ``try`` behind it an interrupt could slip in and
leave the lock held for ever.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from perdure.clock import Moment, running
from perdure.errors import PerdureError, RecordTooLargeError, StorageError, UsageError, WriteError
from perdure.journal import Draft, Durability, Journal
from perdure.machine._answers import StoredAnswer, store_error, store_result
from perdure.machine._keeper import Keeper
from perdure.machine._outcomes import Outcome, Status, outcome_draft, outcomes_in
from perdure.machine._receipts import Receipts
from perdure.machine._refusing import Refusing, lost
from perdure.machine._replay import is_interruption
from perdure.machine._state import Companion, Pending, State, Verdict
from perdure.records import COMMAND, NO_CLIENT, Entry

_log = logging.getLogger("perdure")
_BATCH_COUNT_MAX = 10_000
_WAIT_S = 0.5  # A waiting caller looks for itself this often, whatever became of the leader.
_UNLOCKED: contextlib.AbstractContextManager[None] = contextlib.nullcontext()


Subscriber = Callable[[Entry, Outcome | None], None]


class Commands:
    """The part of a machine that handles commands. Any thread may call ``handle``."""

    _keeper: Keeper

    def __init__(self, state: State, journal: Journal, *, durability: Durability, path: str | None) -> None:
        self.state = state
        self.journal: Journal = journal
        self.durability: Durability = durability
        self.path: str | None = path
        self.companion: Companion | None = None
        self.moment: Moment = Moment(journal.log_id)
        self.lock: Any
        """What a query holds. Once the machine is closed, entering it raises."""
        self.owed: list[Draft] = []
        """Outcomes that are not in the journal yet."""
        self.receipts: Receipts = Receipts()
        """Of requests that may be repeated; under the order lock."""
        self._run = state.run
        self._new_locks()
        self._queue: deque[Pending] = deque()
        self._grouped = durability == "always"
        # Whether somebody leads, or was woken to. Where an interrupt leaves it wrong, it costs a wait and nothing else.
        self._led = False
        self._applied_seq = journal.last_seq
        self._unapplied = False
        self._broken: str | None = None
        self._verdict: Verdict = "keep"
        self._flush_at_once = False
        self._deferred: BaseException | None = None
        self._close_wanted = False
        self._subscribers: list[Subscriber] = []

    def _new_locks(self) -> None:
        self._order = threading.RLock()
        self._state_lock = threading.RLock()
        self.lock = self._state_lock

    def is_inside(self) -> bool:
        """Whether this thread is executing a command of this machine."""
        return running.moment is self.moment

    def is_querying(self) -> bool:
        """Whether this thread is executing a query, or a command, of this machine."""
        return self._state_lock._is_owned()  # type: ignore[attr-defined,no-any-return]

    def _is_committing(self) -> bool:
        """Whether this thread is in the middle of a commit: then a signal handler is asking."""
        return self._order._is_owned()  # type: ignore[attr-defined,no-any-return]

    # ---- one command

    def handle(
        self, payload: bytes, call: Any = None, *, client: bytes = NO_CLIENT, counter: int = 0, exclusive: bool = True
    ) -> Any:
        """Journals a command, runs it, and returns its result or raises its exception.

        ``call``: what ``state.decode(payload)`` would give, if the caller knows. ``exclusive``: whether queries wait.
        ``client`` (16 bytes) and ``counter`` (from 1 on) name a request that may be repeated: the same two again do not
        run it again, they give its answer once more, also after opening again; ``_receipts.py`` says for how long.

        Raises:
            WriteError: outcome "not-written": nothing happened; carry on or retry. Outcome "unknown": the command was
                not applied here, opening again decides about it, and this machine takes no further commands.
            RecordTooLargeError: nothing happened; carry on.
            UsageError: it was called from within a query, or by a signal handler in the middle of a command.
            ClosedError: the machine was closed.
        """
        if call is None:
            call = self.state.decode(payload)
        if self._state_lock._is_owned() or self._order._is_owned():  # type: ignore[attr-defined]
            raise self._misplaced()
        pending = Pending(COMMAND, payload, client, counter, call=call)
        if self._led:
            self._wait_for_leader(pending, exclusive)
        else:
            # Nobody to share a sync with; who comes during this one waits, and shares the next.
            self._led = self._grouped
            try:
                with self._order:
                    repeated = client and self.receipts.has_run(client, counter)
                    if exclusive and not repeated and not self.owed and self.companion is None:
                        self._commit_alone(pending)
                    else:
                        self._commit([pending], pending, exclusive)
            finally:
                if self._grouped:
                    self._hand_over()
        if self._close_wanted:
            self.close()
        error, pending.error = pending.error, None
        if error is not None:
            try:
                raise error
            finally:
                # Its traceback holds this frame: a cycle would keep the whole system alive when nobody holds it.
                del error
        return pending.result

    def close(self, *, snapshot: bool | None = None) -> None:
        raise NotImplementedError

    def _misplaced(self) -> UsageError:
        if self._state_lock._is_owned():  # type: ignore[attr-defined]
            return UsageError(
                "a command was called from within a query",
                hint="a method marked @readonly must not change anything; take the mark away, or call it from outside",
            )
        return UsageError(
            "a command was called from within another one that is being written",
            hint="a signal handler or a subscriber must not call commands: have it set a flag",
        )

    # ---- group commit

    def _wait_for_leader(self, pending: Pending, exclusive: bool) -> None:
        """Has a command committed in somebody's batch, or in one of its own."""
        if len(pending.payload) > self.journal.capabilities.entry_bytes_max:
            # Here, because a batch is written wholly or not at all: the others must not suffer.
            raise RecordTooLargeError(
                f"an entry of {len(pending.payload)} bytes; at most {self.journal.capabilities.entry_bytes_max} go in"
            )
        pending.wake = threading.Lock()
        pending.wake.acquire()
        pending.context = copy_context()
        self._queue.append(pending)
        leads = True
        try:
            # Asked again, behind the append: whoever stops leading first says so and then looks at the queue.
            if self._led:
                leads = False
                pending.wake.acquire(timeout=_WAIT_S)
            while not pending.done:
                batch: list[Pending] = []
                self._led = leads = True
                with self._order:
                    if not pending.done:
                        if pending.taken:
                            # Its leader is gone: an interrupt carried it off.
                            pending.error, pending.done = lost(), True
                        else:
                            self._lead(batch, pending, exclusive)
                self._hand_over()
                leads = False
                self._wake(batch)
        except BaseException:
            # An interrupt while waiting. What no leader has taken yet is withdrawn; the rest runs all the same.
            leads = True
            with contextlib.suppress(ValueError):
                self._queue.remove(pending)
            raise
        finally:
            if leads:
                self._hand_over()

    def _hand_over(self) -> None:
        """Whoever waits first is the next to lead. Before the others are woken: its sync runs while they are."""
        self._led = False
        with contextlib.suppress(IndexError):
            first = self._queue[0]
            self._led = True
            self._wake([first])

    @staticmethod
    def _wake(batch: list[Pending]) -> None:
        for pending in batch:
            if pending.wake is not None:
                with contextlib.suppress(RuntimeError):
                    pending.wake.release()

    def _lead(self, batch: list[Pending], own: Pending, exclusive: bool) -> None:
        """Commits everything that waits, in ``batch``. The caller holds the order lock, and wakes them afterwards."""
        queue = self._queue
        try:
            while queue and len(batch) < _BATCH_COUNT_MAX:
                pending = queue.popleft()
                pending.taken = True
                batch.append(pending)
            self._commit(batch, own, exclusive)
        finally:
            for pending in batch:
                if not pending.done:
                    pending.error, pending.done = lost(), True
        deferred, self._deferred = self._deferred, None
        if deferred is not None:
            raise deferred

    # ---- the commit

    def _commit(
        self,
        batch: list[Pending],
        own: Pending | None,
        exclusive: bool,
        apply: Callable[[list[Pending]], None] | None = None,
    ) -> None:
        """Writes, syncs and applies commands. The caller holds the order lock. What fails is noted in each of them.

        ``_unapplied`` is set before the first byte and cleared behind the last command: should anything leave in
        between, the journal is ahead of memory, and no further command may run on it.
        """
        repeated: list[tuple[Pending, Pending | None]] = []
        if any(pending.client for pending in batch):
            batch, repeated = self.receipts.divide(batch)
        if batch and self._write(batch):
            if apply is not None:
                apply(batch)
            else:
                for pending in batch:
                    self._apply(pending, own is pending, exclusive)
            self._applied_seq = self.journal.last_seq
            self._unapplied = False
            if self._flush_at_once:
                self._flush_interrupted()
            if not self._keeper.awake:
                self._keeper.wake()
        for pending, first in repeated:
            self._answer_again(pending, first)

    def _answer_again(self, pending: Pending, first: Pending | None) -> None:
        if first is not None and not self.receipts.has_run(pending.client, pending.counter):
            # It was not written, or interrupted.
            pending.error = copy.copy(first.error)
        elif self._broken or self._unapplied:
            pending.error = self._refusal()
        else:
            pending.result, pending.error = self.receipts.answer(pending.client, pending.counter, self.state.answers)
        pending.done = True

    def _write(self, batch: list[Pending]) -> bool:
        """Whether the commands are in the journal, as durably as promised. If not, each of them knows why."""
        refused: PerdureError | None = None
        if self._unapplied or self._broken:
            refused = self._refusal()
        else:
            self._unapplied = True
            try:
                self.journal.append([*self.owed, *batch] if self.owed else batch)
                self.owed.clear()
                if self._grouped:
                    self.journal.sync()
            except PerdureError as error:
                refused = error
                if not isinstance(error, WriteError):
                    self._unapplied = False
                elif error.outcome == "not-written":
                    self._unapplied = False
                    error.hint = error.hint or _RETRY_HINT
        if refused is not None:
            for pending in batch:
                pending.error, pending.done = copy.copy(refused), True
        return refused is None

    def _commit_alone(self, pending: Pending) -> None:
        """``_commit`` of one command with nothing owed and nobody to accompany it, written out: the usual case."""
        if self._unapplied or self._broken:
            raise self._refusal()
        self._unapplied = True
        try:
            self.journal.append((pending,))
            if self._grouped:
                self.journal.sync()
        except PerdureError as error:
            if not isinstance(error, WriteError) or error.outcome == "not-written":
                self._unapplied = False
                error.hint = error.hint or _RETRY_HINT
            raise
        moment = self.moment
        moment.seq = pending.seq
        moment.at_ns = pending.at_ns
        moment.utc_offset_min = pending.utc_offset_min
        moment.drawn = None
        before = running.moment
        with self._state_lock:
            try:
                running.moment = moment
                pending.result = self._run(pending.call)
            except BaseException as error:  # Noted in the command, and raised to its caller.
                running.moment = before
                self._note_error(pending, error, own=True)
            finally:
                running.moment = before
            if pending.client and not is_interruption(pending.error):
                self._note_request(pending)
        if self._subscribers:
            self._tell(pending)
        self._applied_seq = pending.seq
        self._unapplied = False
        if self._flush_at_once:
            self._flush_interrupted()
        if not self._keeper.awake:
            self._keeper.wake()

    def _apply(self, pending: Pending, own: bool, exclusive: bool) -> None:
        """Runs one command that stands in the journal, and notes what became of it."""
        moment = self.moment
        companion = self.companion
        before = running.moment
        # Alone in its batch an @unlocked command shuts out no query.
        with self._state_lock if exclusive or not own else _UNLOCKED:
            if companion is not None:
                companion.before(pending)
            again = True
            while again:
                moment.set(pending.seq, pending.at_ns, pending.utc_offset_min)
                try:
                    running.moment = moment
                    if own or pending.context is None:
                        pending.result = self._run(pending.call)
                    else:
                        pending.result = pending.context.run(self._run, pending.call)
                    again = False
                except BaseException as error:  # Noted in the command, and raised to its caller.
                    running.moment = before
                    again = not self._note_error(pending, error, own)
                finally:
                    running.moment = before
            if companion is not None:
                self._accompany(companion, pending)
            if pending.client and not is_interruption(pending.error):
                self._note_request(pending)
        pending.done = True
        if self._subscribers:
            self._tell(pending)

    def _accompany(self, companion: Companion, pending: Pending) -> None:
        """Keeps the second copy in step. What it finds wrong is told to the caller; the command has happened."""
        if pending.error is None or self._verdict == "keep":
            before = running.moment
            try:
                running.moment = self.moment
                self.moment.set(pending.seq, pending.at_ns, pending.utc_offset_min)
                companion.after(pending)
            except PerdureError as error:
                pending.error = error
            finally:
                running.moment = before

    def _note_request(self, pending: Pending) -> None:
        answers, error = self.state.answers, pending.error
        answer = store_result(pending.result, answers) if error is None else store_error(error, answers)
        self.receipts.note(pending.client, pending.counter, pending.seq, answer)

    # ---- what a raising command leaves

    def _note_error(self, pending: Pending, error: BaseException, own: bool) -> bool:
        """Deals with what a command raised; ``False`` if the command is to be run again."""
        if not is_interruption(error):
            assert isinstance(error, Exception)
            pending.error = error
            verdict = self._verdict = self.state.verdict(pending.call, error)
            if verdict == "restore":
                self._roll_back(pending.seq)
            if verdict == "keep":
                self._owe(pending.seq, "raised", error)
            else:
                # A replay passes over it, and so could not find its answer again.
                answer = store_error(error, self.state.answers) if pending.client else None
                self._owe(pending.seq, "aborted", error, answer)
            return True
        self._verdict = "restore"
        self._roll_back(pending.seq)
        if isinstance(error, KeyboardInterrupt) and not own:
            # It was meant for this thread, which is only working for another: that one's command is run again.
            self._deferred = error
            return False
        pending.error = error
        self._owe(pending.seq, "interrupted", error)
        self._flush_at_once = True
        return True

    def _roll_back(self, seq: int) -> None:
        """Brings the state back to where it was before the command ``seq``."""
        raise NotImplementedError

    def _owe(self, seq: int, status: Status, error: BaseException, answer: StoredAnswer | None = None) -> None:
        """Outcomes are written in front of the next commands, or when the journal is idle: before anything later."""
        self.owed.append(outcome_draft(seq, status, error, answer))

    def _flush_owed(self) -> None:
        if self.owed:
            self.journal.append(self.owed)
            self.owed.clear()
            self._applied_seq = self.journal.last_seq

    def _flush_interrupted(self) -> None:
        """Makes durable that a command was interrupted, before its caller knows: a replay would run it to its end."""
        self._flush_at_once = False
        try:
            self._flush_owed()
            self.journal.sync()
        except PerdureError as error:
            # All of the batch has happened and is durable; only this is not. So nothing may be built on it.
            self._broken = f"the outcome of an interrupted command could not be written: {error.message}"

    def _break(self, why: str) -> None:
        """Memory is not what the journal says: queries must not be answered from it either."""
        self._broken = why
        self.lock = Refusing(
            StorageError(
                f"the state in memory cannot be trusted: {why}", path=self.path, hint="close it and open again"
            )
        )

    def _refusal(self) -> PerdureError:
        if isinstance(self.lock, Refusing):
            return copy.copy(self.lock.error)
        why = self.journal.failure or self._broken or "a command was interrupted between the journal and memory"
        return WriteError(
            f"no further commands are taken: {why}",
            path=self.path,
            hint="close it and open it again; nothing that was acknowledged is lost",
        )

    # ---- listeners

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Has each command told after it was applied, in order, never at replay. Returns a function that ends it.

        The subscriber runs while the order lock is held: it must be quick and must not call commands.
        """
        self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._subscribers.remove(subscriber)

        return unsubscribe

    def _tell(self, pending: Pending) -> None:
        # What it left was owed a moment ago, and is not written before the next command.
        self._tell_of(pending.entry(), outcomes_in(self.owed).get(pending.seq) if pending.error is not None else None)

    def _tell_of(self, entry: Entry, outcome: Outcome | None) -> None:
        for subscriber in list(self._subscribers):
            try:
                subscriber(entry, outcome)
            except Exception:
                # The command has happened; a listener's mistake must not look like the command's.
                _log.exception("a subscriber raised at seq %d", entry.seq)


_RETRY_HINT = "nothing happened: make room, or mend what the disk says, and call it again"
