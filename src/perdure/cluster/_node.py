"""A node: a replica that follows a log, and appends its callers' commands to it.

Two threads. The *writer* takes what callers have handed over, appends it as one entry, and does not begin with the next
before it knows what became of this one; what arrives meanwhile travels together. The *follower* applies what others
have appended; what this node has appended the writer applies itself, if nothing came in between.

A caller is answered when the engine has acknowledged its entry **and** this node has applied it: then the command has
its place in the order of all, and whoever asks here sees it.

What a break leaves, step by step. Before the append: the command waits; when its deadline comes it is withdrawn, and
has not run (``UnreachableError``). After it, without an answer: the entry is appended again, with the same id, until
the engine answers; every node passes over the second one. A caller whose deadline comes in between is told that its
command may still run, once (``OutcomeUnknownError``). After the acknowledgement: the entry is in the log, and every
node runs it. When this node dies at any of these steps, nothing else happens to the entry.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any, TypeVar

from perdure.clock import Clock, WallClock, running
from perdure.cluster._entries import (
    BARRIER,
    HEAD_BYTES,
    Term,
    encode_body,
)
from perdure.cluster._following import RETRY_S, Following
from perdure.cluster._keeper import Keeper
from perdure.cluster._outbox import REQUEST_BYTES, Outbox
from perdure.cluster._replica import Commands, outcomes_until
from perdure.cluster._snapshots import BlobSnapshots
from perdure.cluster._waiting import Batch, Waiting
from perdure.engines import ConflictError, Log, LogEntry
from perdure.errors import (
    ClosedError,
    OutcomeUnknownError,
    PerdureError,
    ReadOnlyError,
    RecordTooLargeError,
    StorageError,
    UnreachableError,
    UsageError,
)
from perdure.fs import close_in_forked_children
from perdure.machine import Outcome, Refusing, State
from perdure.records import COMMAND, NO_CLIENT, TERM
from perdure.snapshots import Snapshot

_log = logging.getLogger("perdure")
Result = TypeVar("Result")

TIMEOUT_S = 30.0


class Node(Following):
    """See above. Any thread may call ``handle``, ``read``, ``barrier``, ``wait_for``, ``close``."""

    def __init__(
        self,
        log: Log,
        state: State,
        snapshots: BlobSnapshots,
        *,
        writes: bool = True,
        timeout_s: float = TIMEOUT_S,
        clock: Clock | None = None,
        snapshot: str | float = "auto",
        keep_history: bool = False,
    ) -> None:
        """The replica's state is up to date when ``start`` is called."""
        super().__init__(log, state, snapshots)
        self.keeper: Keeper = Keeper(self, snapshot=snapshot if writes else "manual", keep_history=keep_history)
        self.timeout_s = timeout_s
        self.session: bytes = os.urandom(16)
        self.leads: bool = False
        self.journal: Commands = Commands(self)
        self.writes = writes
        self._outbox = Outbox(self.session, self.code, clock or WallClock(), log.capabilities.entry_bytes_max)
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._pid = os.getpid()

    def start(self) -> None:
        """Begins to follow and to write."""
        close_in_forked_children(self)
        targets = [("perdure-follower", self.follow)] + ([("perdure-writer", self._write)] if self.writes else [])
        for name, target in targets:
            thread = threading.Thread(target=target, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self.keeper.start()

    def snapshot(self) -> Snapshot:
        """See ``Keeper.snapshot``."""
        self._check_writing()
        return self.keeper.snapshot()

    def set_snapshot_interval(self, seconds: float | None) -> None:
        """See ``Machine.set_snapshot_interval``."""
        self.keeper.set_interval(seconds)

    # ---- where it stands

    @property
    def durable_seq(self) -> int:
        """What is applied is in the log."""
        return self.seq

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def fencing_token(self) -> int | None:
        """The position of the term that this node leads in; ``None`` where it does not lead."""
        return self.term_position if self.leads and self.term == self.session else None

    def is_inside(self) -> bool:
        """See ``Machine.is_inside``."""
        return running.moment is self.moment

    def is_querying(self) -> bool:
        """See ``Machine.is_querying``."""
        return self.state_lock._is_owned()  # type: ignore[no-any-return]

    def known_outcomes(self) -> tuple[int, dict[int, Outcome]]:
        """The last seq applied, and what is remembered of commands that did not simply return."""
        if self.is_inside() or self.is_querying():
            return self.seq, outcomes_until(self.outcomes, self.seq)
        with self.order:
            return self.seq, outcomes_until(self.outcomes, self.seq)

    # ---- one command

    def handle(
        self, payload: bytes, call: Any = None, *, client: bytes = NO_CLIENT, counter: int = 0, exclusive: bool = True
    ) -> Any:
        """Has a command run on every node, and returns its result here or raises its exception.

        ``client`` and ``counter``: see ``Machine.handle``; on whichever node the same two come again. ``exclusive`` has
        no meaning here: queries wait while a command runs.

        Raises:
            UnreachableError: the engine did not answer in time; the command did not and will not run.
            OutcomeUnknownError: no answer came in time; it may still run, once.
            LockedError: another node leads; nothing happened.
            RecordTooLargeError: nothing happened.
            WriteError: the engine has no room; nothing happened.
            DivergedError, StorageError, ClosedError: this node has stopped; nothing happened.
        """
        if self.is_inside() or self.is_querying():
            raise UsageError(
                "a command was called from within a query",
                hint="a method marked @readonly must not change anything; take the mark away, or call it from outside",
            )
        if call is None:
            call = self.state.decode(payload)
        largest = self.log.capabilities.entry_bytes_max - HEAD_BYTES - REQUEST_BYTES
        if len(payload) > largest:
            raise RecordTooLargeError(
                f"a command of {len(payload)} bytes; at most {largest} go into an entry of this engine", path=self.path
            )
        waiting = Waiting(COMMAND, payload, client, counter, call=call, context=copy_context())
        return self.submit(waiting)

    def submit(self, waiting: Waiting, timeout_s: float | None = None) -> Any:
        """Hands something to the writer and waits for its answer. Raises like ``handle``."""
        self._check_writing()
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        waiting.wake = threading.Lock()
        waiting.wake.acquire()
        waiting.deadline_s = time.monotonic() + timeout_s
        self._outbox.put(waiting)
        try:
            # Stopping answers those who are in the queue by then; who comes later looks by himself.
            while not waiting.wake.acquire(timeout=min(1.0, max(0.0, waiting.deadline_s - time.monotonic()))):
                if self.stopped.is_set() or time.monotonic() >= waiting.deadline_s:
                    self._give_up(waiting, timeout_s)
        except BaseException:
            self._outbox.withdraw(waiting)
            raise
        if waiting.error is not None:
            raise waiting.error
        return waiting.result

    def _give_up(self, waiting: Waiting, timeout_s: float) -> None:
        withdrawn = self._outbox.withdraw(waiting)
        if waiting.done and not withdrawn:
            return
        if withdrawn and self.stopped.is_set():
            raise copy.copy(self.failure) if self.failure else ClosedError("it was closed", path=self.path)
        said = f"within {timeout_s:g} s"
        if withdrawn:
            raise UnreachableError(
                f"the command could not be handed to the engine {said}; it did not run", path=self.path
            )
        raise OutcomeUnknownError(
            f"the engine did not answer {said}", path=self.path, hint="the command may still run, once"
        )

    def _check_writing(self) -> None:
        if self.failure is not None:
            raise copy.copy(self.failure)
        if self._closed:
            raise ClosedError("it was closed", path=self.path)
        if not self.writes:
            raise ReadOnlyError("this was opened for reading", path=self.path, hint='open it with mode="rw"')

    # ---- reading

    def read(self, query: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Calls ``query`` while no command runs, on what this node has."""
        with self.lock:
            return query(*args, **kwargs)

    def wait_for(self, seq: int, timeout_s: float | None = None) -> int:
        """Returns when this node has applied ``seq``, with what it has applied. Raises ``UnreachableError`` if late."""
        until = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        with self.moved:
            while self.seq < seq:
                if self.failure is not None:
                    raise copy.copy(self.failure)
                if self._closed:
                    raise ClosedError("it was closed", path=self.path)
                if not self.moved.wait(min(1.0, max(0.0, until - time.monotonic()))) and time.monotonic() >= until:
                    raise UnreachableError(f"this node has only come to seq {self.seq}", path=self.path, seq=seq)
        return self.seq

    def barrier(self, timeout_s: float | None = None) -> int:
        """Returns when this node has applied everything that anybody was answered before the call; the seq there.

        By an entry that says nothing. Everybody who asks at the same time shares one. Raises like ``handle``.
        """
        self.submit(Waiting(BARRIER, b""), timeout_s)
        return self.seq

    sync = barrier

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is applied while the block runs; queries go on."""
        with self.order:
            if self.failure is not None:
                raise copy.copy(self.failure)
            yield

    # ---- writing

    def _write(self) -> None:
        while (batch := self._outbox.next_batch(self.stopped.is_set)) is not None:
            try:
                self._commit(batch)
            except PerdureError as error:
                with self.order:
                    self.batches.pop(batch.id, None)
                    batch.fail(error)
            except BaseException as error:  # A mistake of ours must not leave callers waiting for ever.
                _log.exception("the writer failed")
                self.fail(StorageError(f"the writer failed: {type(error).__name__}: {error}", path=self.path))
        self._outbox.refuse(self.failure or ClosedError("it was closed", path=self.path))

    def _commit(self, batch: Batch) -> None:
        """Appends a batch, again and again until it is known what became of it. Raises where it is not in the log."""
        with self.order:
            expected = self._next_expected(batch) if self.leads or _is_term(batch) else None
            self.batches[batch.id] = batch
        unknown = False
        while not self.stopped.is_set():
            try:
                position = self.log.append(batch.data, batch.id, expected=expected)
            except ConflictError:
                if self._found_after_conflict(batch, expected or 0):
                    return
                unknown = False
                expected = self._next_expected(batch)
            except (UnreachableError, OutcomeUnknownError) as error:
                unknown = unknown or isinstance(error, OutcomeUnknownError)
                if self._found_meanwhile(batch):
                    return
                if not unknown and self._all_late(batch):
                    raise
            except ClosedError as error:
                raise self._stopped_error(unknown=True) from error
            else:
                self._acknowledged(batch, position)
                return
        raise self._stopped_error(unknown=unknown)

    def _stopped_error(self, *, unknown: bool) -> PerdureError:
        if unknown:
            return OutcomeUnknownError("it was closed before the engine answered", path=self.path)
        return copy.copy(self.failure) if self.failure else ClosedError("it was closed", path=self.path)

    def _all_late(self, batch: Batch) -> bool:
        """Whether nobody waits any more for an entry that was never sent."""
        now = time.monotonic()
        return all(each.deadline_s <= now for each in batch.waiting)

    def _acknowledged(self, batch: Batch, position: int) -> None:
        with self.order:
            batch.acknowledged, batch.at = True, batch.at or position
            if position == self.position + 1 and self.failure is None:
                self.apply_one(LogEntry(position, batch.id, batch.data))
            self.settle(batch)

    def _found_meanwhile(self, batch: Batch) -> bool:
        """After an unknown outcome: whether the follower has met the entry, and the engine confirms it."""
        with self.moved:
            if not batch.applied:
                self.moved.wait(RETRY_S)
        if not batch.applied:
            return False
        try:
            self.log.confirm(batch.at)
        except (UnreachableError, OutcomeUnknownError):
            return False
        with self.order:
            batch.acknowledged = True
            self.settle(batch)
        return True

    def _found_after_conflict(self, batch: Batch, expected: int) -> bool:
        """Waits until the follower has passed ``expected``: then the entry behind it is this one, or somebody else's.

        That it is not readable yet says nothing but that the engine's answer was an old one.
        """
        while not self.stopped.is_set():
            with self.moved:
                if self.position <= expected and not batch.applied:
                    self.moved.wait(RETRY_S)
                    if self.position <= expected:
                        continue
            return batch.applied and self._found_until_confirmed(batch)
        return False

    def _found_until_confirmed(self, batch: Batch) -> bool:
        while not self._found_meanwhile(batch):
            if self.stopped.is_set():
                return False
        return True

    def _next_expected(self, batch: Batch) -> int:
        """Where the log must end. Raises ``LockedError`` where somebody else's entry has ended this node's term."""
        with self.order:
            if self.leads and self.term != self.session:
                self.leads = False
                raise self.not_leading()
            return self.position

    # ---- leading

    def take_lead(self, timeout_s: float | None = None) -> int:
        """Becomes the only node that may write, and returns the fencing token. Raises like ``handle``."""
        body = encode_body(Term(self.session))
        self.submit(Waiting(TERM, body), timeout_s)
        with self.order:
            if self.term != self.session:
                raise self.not_leading()
            self.leads = True
            return self.term_position

    def resign(self) -> None:
        """Lets everybody write again. Does nothing where this node does not lead, or cannot say it."""
        if self.leads and self.term == self.session and self.failure is None:
            with contextlib.suppress(PerdureError):
                self.submit(Waiting(TERM, encode_body(Term(b""))), min(2.0, self.timeout_s))
        self.leads = False

    # ---- the end

    def close(self, *, snapshot: bool | None = None) -> None:
        """Lets go. Idempotent. Commands on their way are told that nobody waits for them any more."""
        if self._closed or os.getpid() != self._pid:
            return
        if self.is_inside() or self.is_querying():
            raise UsageError("closing was asked for from within a command or a query", path=self.path)
        self.resign()
        self._closed = True
        self.stopped.set()
        self.wake_writer()
        with self.moved:
            self.moved.notify_all()
        self.keeper.stop()
        self.log.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(10)
        self._outbox.refuse(self.failure or ClosedError("it was closed", path=self.path))
        if self.failure is None:
            self.lock: Any = Refusing(ClosedError("it was closed", path=self.path))
        if self.snapshots.blobs is not self.log.blobs:
            self.snapshots.blobs.close()
        self.snapshots.close()

    def wake_writer(self) -> None:
        """See ``Following.wake_writer``."""
        self._outbox.wake()

    def after_fork_in_child(self) -> None:
        """A forked child has none of the threads; what it calls here is refused."""
        self._closed = True
        self.stopped.set()
        self.lock = Refusing(
            UsageError("this process was forked from the one that opened it", path=self.path, hint="open it again here")
        )


def _is_term(batch: Batch) -> bool:
    return bool(batch.waiting) and batch.waiting[0].kind == TERM
