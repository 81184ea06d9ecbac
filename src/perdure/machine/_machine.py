"""State + journal + snapshots. It knows nothing of proxies, dicts or networks.

The life of a command: its payload was encoded by the caller. Under the *order lock* it gets its place in the journal,
is made durable in the mode promised, and is applied under the *state lock*, in order. Memory is therefore never ahead
of the disk. Queries take the state lock only and never wait for a sync.

With durability "always" commands that arrive during a sync share the next one (group commit, without a delay): whoever
gets the order lock leads, takes all that are waiting, writes and syncs them at once and applies them on behalf of
their callers, each in its own ``contextvars`` context. Writing the next batch while this one is applied was tried on
paper and left out: applying is memory work of microseconds, and with one lock the outcome of every command stands
behind it before the next.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any, Protocol, TypeVar

from perdure.clock import Moment, running
from perdure.errors import ClosedError, PerdureError, StorageError, UsageError, WriteError
from perdure.fs import close_in_forked_children
from perdure.journal import Draft, Durability, Journal
from perdure.limits import SNAPSHOT_INLINE_BYTES_MAX, SNAPSHOT_JOURNAL_BYTES_MIN, SNAPSHOTS_KEPT
from perdure.machine._forked import BoundedWriter, TooLargeError, can_fork, fork_writer
from perdure.machine._keeper import Keeper
from perdure.machine._outcomes import Outcome, Status, outcome_draft, outcomes_in
from perdure.machine._replay import INTERRUPTING, NeedsRestore, collector_off, replay
from perdure.machine._state import Companion, Pending, State, Verdict
from perdure.records import COMMAND, NO_CLIENT, Entry
from perdure.snapshots import Snapshot, SnapshotHeader, SnapshotStore, Writer

Result = TypeVar("Result")
_log = logging.getLogger("perdure")
_BATCH_COUNT_MAX = 10_000
_WAIT_S = 0.5  # A waiting caller looks for itself this often, whatever became of the leader.
_NOTHING_UNAPPLIED = 0


class Releasable(Protocol):
    """A lock on the place where the machine keeps its files."""

    def release(self) -> None: ...


class Machine:
    """Keeps one state durable. Any thread may call any method unless it says otherwise.

    Open one with ``perdure.machine.open_machine``, which recovers; the constructor takes a state that is up to date.
    """

    def __init__(
        self,
        state: State,
        journal: Journal,
        snapshots: SnapshotStore,
        *,
        durability: Durability = "always",
        newest: Snapshot | None = None,
        place_lock: Releasable | None = None,
        path: str | None = None,
        automatic_snapshots: bool = True,
        snapshot_interval_s: float | None = None,
        keep_history: bool = False,
        forks: bool = True,
    ) -> None:
        self.state = state
        self.journal = journal
        self.snapshots = snapshots
        self.durability: Durability = durability
        self.path = path
        self.companion: Companion | None = None
        self.keep_history = keep_history
        self._run = state.run
        self.moment = Moment(journal.log_id)
        self._order = threading.Lock()
        self._state_lock = threading.RLock()
        self.lock: Any = self._state_lock
        """What a query holds. Once the machine is closed, entering it raises."""
        self._queue: deque[Pending] = deque()
        self._grouped = durability == "always"
        self._unapplied = _NOTHING_UNAPPLIED
        self._broken: str | None = None
        self._verdict: Verdict = "keep"
        self.owed: list[Draft] = []
        self._deferred: BaseException | None = None
        self._subscribers: list[Callable[[Entry, BaseException | None], None]] = []
        self._snapshot_lock = threading.Lock()
        self._newest = newest
        self._automatic_snapshots = automatic_snapshots
        self._snapshot_at_bytes = 0
        self._forks = forks and can_fork() and snapshots.survives_fork
        self._closed = False
        self._plan_next_snapshot()
        self._keeper = Keeper(self, sync_each_second=durability == "everysec", snapshot_interval_s=snapshot_interval_s)
        close_in_forked_children(self)
        # At interpreter exit, and when nobody holds the machine any more: everything handed over is made durable.
        self._finalizer = weakref.finalize(self, _let_go, journal, place_lock, self._order, os.getpid())

    # ---- where it stands

    @property
    def seq(self) -> int:
        return self.journal.last_seq

    @property
    def durable_seq(self) -> int:
        return self.journal.durable_seq

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def newest_snapshot(self) -> Snapshot | None:
        return self._newest

    @property
    def unsaved(self) -> bool:
        """Whether opening again would have something to replay."""
        return self._newest is None or self.journal.last_seq > self._newest.seq

    @property
    def unsynced(self) -> bool:
        return self.journal.durable_seq < self.journal.last_seq and self.journal.failure is None

    def is_inside(self) -> bool:
        """Whether this thread is executing a command of this machine."""
        return running.moment is self.moment

    def is_querying(self) -> bool:
        """Whether this thread is executing a query, or a command, of this machine."""
        return self._state_lock._is_owned()  # type: ignore[attr-defined,no-any-return]

    # ---- commands

    def handle(
        self, payload: bytes, call: Any = None, *, client: bytes = NO_CLIENT, counter: int = 0, exclusive: bool = True
    ) -> Any:
        """Journals a command, runs it, and returns its result or raises its exception.

        ``call``: what ``state.decode(payload)`` would give, if the caller knows. ``exclusive``: whether queries wait.

        Raises:
            WriteError: outcome "not-written": nothing happened; carry on or retry. Outcome "unknown": the command was
            not
                applied here, opening again decides about it, and this machine takes no further commands.
            RecordTooLargeError: nothing happened; carry on.
            UsageError: it was called from within a query.
            ClosedError: the machine was closed.
        """
        if call is None:
            call = self.state.decode(payload)
        if self._state_lock._is_owned():  # type: ignore[attr-defined]
            raise UsageError(
                "a command was called from within a query",
                hint="a method marked @readonly must not change anything; take the mark away, or call it from outside",
            )
        pending = Pending(COMMAND, payload, client, counter, call=call)
        if self._grouped:
            self._submit(pending, exclusive)
        else:
            order = self._order
            order.acquire()
            try:
                if exclusive and not self.owed and self.companion is None:
                    self._commit_alone(pending)
                else:
                    self._commit([pending], pending, exclusive)
            finally:
                order.release()
        if pending.error is not None:
            raise pending.error
        return pending.result

    def _submit(self, pending: Pending, exclusive: bool) -> None:
        """Has a command committed, by leading or by waiting for a leader."""
        order = self._order
        if order.acquire(False):
            self._lead(pending, exclusive)
            return
        pending.wake = threading.Lock()
        pending.wake.acquire()
        pending.context = copy_context()
        self._queue.append(pending)
        try:
            while not pending.done:
                if order.acquire(False):
                    if pending.taken:
                        order.release()
                        if not pending.done:
                            pending.error = _lost()
                            return
                    else:
                        self._lead(None, exclusive)
                else:
                    pending.wake.acquire(timeout=_WAIT_S)
        except BaseException:
            # An interrupt while waiting. What no leader has taken yet is withdrawn; the rest runs all the same.
            with contextlib.suppress(ValueError):
                self._queue.remove(pending)
            raise

    def _lead(self, own: Pending | None, exclusive: bool) -> None:
        """Commits everything that waits. Called with the order lock held; releases it."""
        batch: list[Pending] = []
        error: BaseException | None = None
        try:
            if own is not None:
                batch.append(own)
            queue = self._queue
            while queue and len(batch) < _BATCH_COUNT_MAX:
                batch.append(queue.popleft())
            for pending in batch:
                pending.taken = True
            self._commit(batch, own, exclusive)
        except BaseException as caught:
            error = caught
        finally:
            for pending in batch:
                if not pending.done:
                    pending.error = copy.copy(error) if isinstance(error, PerdureError) else _lost()
                    pending.done = True
                if pending.wake is not None:
                    with contextlib.suppress(RuntimeError):
                        pending.wake.release()
            deferred, self._deferred = self._deferred, None
            self._order.release()
            with contextlib.suppress(IndexError, RuntimeError):
                # Whoever waits first is the next to lead, unless somebody is faster.
                first = self._queue[0].wake
                if first is not None:
                    first.release()
        if error is not None and not isinstance(error, PerdureError):
            raise error
        if deferred is not None:
            raise deferred

    def _commit(self, batch: list[Pending], own: Pending | None, exclusive: bool) -> None:
        """Writes, syncs and applies commands. Called with the order lock held.

        ``_unapplied`` is set before the first byte and cleared behind the last command: should anything leave in
        between, the journal is ahead of memory, and no further command may run on it.
        """
        if self._unapplied or self._broken:
            raise self._refusal()
        journal = self.journal
        owed = self.owed
        self._unapplied = len(batch)
        try:
            journal.append([*owed, *batch] if owed else batch)
            if owed:
                self.owed = []
            if self._grouped:
                journal.sync()
        except PerdureError as error:
            self._refused(error)
            raise
        for pending in batch:
            self._apply(pending, own is pending, exclusive)
        self._unapplied = _NOTHING_UNAPPLIED
        if not self._keeper.awake:
            self._keeper.wake()

    def _refused(self, error: PerdureError) -> None:
        """An append or its sync has failed. What was not written leaves memory and journal at one."""
        if not isinstance(error, WriteError) or error.outcome == "not-written":
            self._unapplied = _NOTHING_UNAPPLIED
            if isinstance(error, WriteError):
                error.hint = error.hint or "nothing happened: make room, or mend what the disk says, and call it again"

    def _commit_alone(self, pending: Pending) -> None:
        """``_commit`` of one command with nothing owed and nobody to accompany it, written out: the usual case."""
        if self._unapplied or self._broken:
            raise self._refusal()
        self._unapplied = 1
        try:
            self.journal.append((pending,))
        except PerdureError as error:
            self._refused(error)
            raise
        moment = self.moment
        moment.seq = pending.seq
        moment.at_ns = pending.at_ns
        moment.utc_offset_min = pending.utc_offset_min
        moment.drawn = None
        before = running.moment
        lock = self._state_lock
        lock.acquire()
        running.moment = moment
        try:
            pending.result = self._run(pending.call)
        except BaseException as error:
            running.moment = before
            self._note_error(pending, error, True)
        finally:
            running.moment = before
            lock.release()
        if self._subscribers:
            self._tell(pending)
        self._unapplied = _NOTHING_UNAPPLIED
        if not self._keeper.awake:
            self._keeper.wake()

    def _apply(self, pending: Pending, own: bool, exclusive: bool) -> None:
        """Runs one command that stands in the journal, and notes what became of it."""
        moment = self.moment
        moment.seq = pending.seq
        moment.at_ns = pending.at_ns
        moment.utc_offset_min = pending.utc_offset_min
        moment.drawn = None
        companion = self.companion
        before = running.moment
        # Alone in its batch an @unlocked command shuts out no query.
        with self._state_lock if exclusive or not own else _UNLOCKED:
            if companion is not None:
                companion.before(pending)
            running.moment = moment
            try:
                if own or pending.context is None:
                    pending.result = self._run(pending.call)
                else:
                    pending.result = pending.context.run(self._run, pending.call)
            except BaseException as error:
                running.moment = before
                again = not self._note_error(pending, error, own)
            else:
                again = False
            finally:
                running.moment = before
            if companion is not None and not again:
                self._accompany(companion, pending)
        if again:
            self._apply(pending, own, exclusive)
            return
        pending.done = True
        if self._subscribers:
            self._tell(pending)

    def _accompany(self, companion: Companion, pending: Pending) -> None:
        """Keeps the second copy in step. What it finds wrong is told to the caller; the command has happened."""
        if pending.error is None or self._verdict == "keep":
            running.moment = self.moment
            self.moment.set(pending.seq, pending.at_ns, pending.utc_offset_min)
            try:
                companion.after(pending)
            except PerdureError as error:
                pending.error = error
            finally:
                running.moment = None

    def _note_error(self, pending: Pending, error: BaseException, own: bool) -> bool:
        """Deals with what a command raised; ``False`` if the command is to be run again."""
        if isinstance(error, Exception) and not isinstance(error, INTERRUPTING):
            pending.error = error
            verdict = self._verdict = self.state.verdict(pending.call, error)
            if verdict == "restore":
                self._roll_back(pending.seq)
            self._owe(pending.seq, "raised" if verdict == "keep" else "aborted", error)
            return True
        self._verdict = "restore"
        self._roll_back(pending.seq)
        if isinstance(error, KeyboardInterrupt) and not own:
            # It was meant for this thread, which is only working for another: that one's command is run again.
            self._deferred = error
            return False
        pending.error = error
        self._owe(pending.seq, "interrupted", error)
        # At once: without it a replay would run the command to its end.
        self._flush_owed()
        self.journal.sync()
        return True

    def _owe(self, seq: int, status: Status, error: BaseException) -> None:
        """Outcomes are written with the next entries, or when the journal is idle: before anything later."""
        self.owed.append(outcome_draft(seq, status, error))

    def _flush_owed(self) -> None:
        if self.owed:
            self.journal.append(self.owed)
            self.owed = []

    def _refusal(self) -> PerdureError:
        if isinstance(self.lock, Refusing):
            return copy.copy(self.lock.error)
        why = self.journal.failure or self._broken or "a command was interrupted between the journal and memory"
        return WriteError(
            f"no further commands are taken: {why}",
            path=self.path,
            hint="close it and open it again; nothing that was acknowledged is lost",
        )

    def _tell(self, pending: Pending) -> None:
        entry = pending.entry()
        for subscriber in list(self._subscribers):
            try:
                subscriber(entry, pending.error)
            except Exception:
                # The command has happened; a listener's mistake must not look like the command's.
                _log.exception("a subscriber raised at seq %d", entry.seq)

    # ---- queries

    def read(self, query: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Calls ``query`` while no command runs. Raises what it raises, and ``ClosedError`` once closed."""
        with self.lock:
            return query(*args, **kwargs)

    def subscribe(self, subscriber: Callable[[Entry, BaseException | None], None]) -> Callable[[], None]:
        """Has each command told after it was applied, in order, never at replay. Returns a function that ends it.

        The subscriber runs while the order lock is held: it must be quick and must not call commands.
        """
        self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            with contextlib.suppress(ValueError):
                self._subscribers.remove(subscriber)

        return unsubscribe

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """No command runs and none is half done while the block runs; queries go on."""
        with self._order:
            if self._closed:
                raise self._refusal()
            yield

    # ---- going back

    def _roll_back(self, seq: int) -> None:
        """Brings the state back to where it was before the command ``seq``."""
        companion = self.companion
        try:
            with self._state_lock:
                if companion is None or not companion.roll_back():
                    self.restore(seq - 1)
                    if companion is not None:
                        companion.rolled_back()
        except BaseException as error:
            self._break(f"the state before seq {seq} could not be brought back ({error})")
            raise

    def _break(self, why: str) -> None:
        """Memory is not what the journal says: queries must not be answered from it either."""
        self._broken = why
        self.lock = Refusing(
            StorageError(
                f"the state in memory cannot be trusted: {why}", path=self.path, hint="close it and open again"
            )
        )

    def restore(self, seq: int) -> None:
        """Makes the state what it was after ``seq``, from snapshot and journal. The caller holds the locks."""
        value, start = load_newest(self.snapshots, self.state, seq)
        self.state.take_over(value)
        entries = list(self.journal.read(start, seq + 1))
        # All of them have run here already: an outcome that is neither written nor owed is that of a command that
        # returned.
        self.replay(entries, outcomes_in(entries), last_ns=1 << 63)

    def replay(self, entries: list[Entry], outcomes: dict[int, Outcome], *, last_ns: int) -> None:
        """Applies entries from the journal. Raises like ``perdure.machine.replay``. The caller holds the locks."""
        start = 0
        while True:
            known = {**outcomes, **outcomes_in(self.owed)} if self.owed else outcomes
            try:
                replay(self.state, self.moment, entries, known, last_ns=last_ns, owe=self._owe, start=start)
                return
            except NeedsRestore as needed:
                self.restore(needed.entry.seq - 1)
                self._owe(needed.entry.seq, "aborted", needed.error)
                start = needed.position + 1

    # ---- snapshots

    def snapshot(self) -> Snapshot:
        """Blocks its caller until a snapshot of the present state is proven and published; stalls nobody else.

        Raises:
            CodecError: the state holds something that cannot be stored. All goes on as before.
            WriteError, StorageError: the disk, or the child process, refused. All goes on as before.
            ClosedError: the machine was closed.
        """
        with self._snapshot_lock:
            return self._take_snapshot()

    def _take_snapshot(self) -> Snapshot:
        newest = self._newest
        small = newest is not None and newest.size_bytes <= SNAPSHOT_INLINE_BYTES_MAX
        with self.paused():
            if self._broken or self._unapplied:
                raise self._refusal()
            header = SnapshotHeader(
                self.journal.last_seq,
                self.journal.last_at_ns,
                self.journal.log_id,
                self.state.description,
            )
            if newest is not None and newest.seq == header.seq and newest.header.description == header.description:
                return newest
            at_bytes = self.journal.bytes_written
            draft = None if self._forks and not small else self._write_inline(header)
            child = None if draft is not None else fork_writer(lambda: self._write_draft(header, None))
        if child is not None:
            draft = child.wait()
        assert draft is not None
        try:
            # What a snapshot contains must be in the journal as durably as in the snapshot: else an older one could not
            # be replayed to the same point.
            self.journal.sync()
        except BaseException:
            self.snapshots.discard(draft)
            raise
        snapshot = self.snapshots.publish(draft, header)
        self._newest = snapshot
        self._snapshot_at_bytes = at_bytes
        self._plan_next_snapshot()
        if not self.keep_history:
            oldest_seq = self.snapshots.prune(SNAPSHOTS_KEPT)
            with self._order:
                self.journal.trim(oldest_seq + 1)
        return snapshot

    def _write_inline(self, header: SnapshotHeader) -> str | None:
        """A draft, written under the locks; ``None`` if the state turns out to be large and a child can write it."""
        with self._state_lock:
            try:
                return self._write_draft(header, SNAPSHOT_INLINE_BYTES_MAX if self._forks else None)
            except TooLargeError:
                return None

    def _write_draft(self, header: SnapshotHeader, bytes_max: int | None) -> str:
        state = self.state

        def dump(file: Writer) -> None:
            state.dump(file if bytes_max is None else BoundedWriter(file, bytes_max))

        with collector_off():
            return self.snapshots.write(header, dump, state.digest, lambda file: state.digest(state.read(file)))

    def _plan_next_snapshot(self) -> None:
        size_bytes = 0 if self._newest is None else self._newest.size_bytes
        self._snapshot_due_bytes = self._snapshot_at_bytes + max(size_bytes, SNAPSHOT_JOURNAL_BYTES_MIN)

    def snapshot_is_due(self) -> bool:
        """Whether the journal has outgrown the last snapshot."""
        return self._automatic_snapshots and self.journal.bytes_written >= self._snapshot_due_bytes

    def set_snapshot_interval(self, seconds: float | None) -> None:
        """Takes one each so many seconds in which something changed; ``None``: no longer."""
        self._keeper.set_snapshot_interval(seconds)
        self._keeper.wake()

    # ---- durability

    def sync(self) -> int:
        """Returns when everything handled before the call is durable, with the seq. Raises like ``Journal.sync``."""
        return self.journal.sync()

    def mark(self) -> None:
        """For the keeper: writes outcomes that are owed and how far the journal is durable."""
        if self._order.acquire(False):
            try:
                if not self._closed and self.journal.failure is None:
                    with contextlib.suppress(WriteError):
                        self._flush_owed()
                        self.journal.mark()
            finally:
                self._order.release()

    # ---- the end

    def close(self, *, snapshot: bool | None = None) -> None:
        """Makes everything durable, takes a snapshot if there is something to replay, and lets go. Idempotent.

        Raises what the snapshot or the last sync raised; everything is let go of all the same.
        """
        if self._closed:
            return
        self._keeper.stop()
        wanted = self._automatic_snapshots if snapshot is None else snapshot
        try:
            if wanted and self.unsaved and self.journal.failure is None and not (self._broken or self._unapplied):
                self.snapshot()
        finally:
            with self._order, self._state_lock:
                self._closed = True
                self.lock = Refusing(ClosedError("it was closed", path=self.path))
                if self.journal.failure is None:
                    with contextlib.suppress(WriteError):
                        self._flush_owed()
            try:
                self._finalizer()
            finally:
                # Whoever still waits for it is told that it was closed.
                with contextlib.suppress(RuntimeError):
                    self._order.release()

    def after_fork_in_child(self) -> None:
        """A forked child lets go without writing anything; what it calls here is refused."""
        self._closed = True
        self._broken = "forked"
        self._finalizer.detach()
        # Threads that held these do not exist here.
        self._order = threading.Lock()
        self._state_lock = threading.RLock()
        self.lock = Refusing(
            UsageError(
                "this process was forked from the one that opened it",
                path=self.path,
                hint="open it after the fork, in one process; or with shared=True in all of them",
            )
        )


class Refusing:
    """A lock that cannot be had: entering it raises."""

    def __init__(self, error: PerdureError) -> None:
        self.error = error

    def __enter__(self) -> None:
        raise copy.copy(self.error)

    def __exit__(self, *_: object) -> None:
        return

    acquire = __enter__

    def release(self) -> None:
        return


_UNLOCKED: contextlib.AbstractContextManager[None] = contextlib.nullcontext()


def _lost() -> WriteError:
    return WriteError(
        "the thread that committed this command was interrupted",
        outcome="unknown",
        hint="close it and open it again: recovery decides whether the command is there",
    )


def _let_go(journal: Journal, place_lock: Releasable | None, order: threading.Lock, pid: int) -> None:
    if os.getpid() != pid:
        return
    # A daemon thread may be in the middle of an append while the interpreter exits. The lock is not given back: whoever
    # waits for it then waits until the process ends.
    order.acquire(timeout=5.0)
    try:
        journal.close()
    finally:
        if place_lock is not None:
            place_lock.release()


def load_newest(snapshots: SnapshotStore, state: State, seq: int) -> tuple[Any, int]:
    """The newest snapshot up to ``seq`` that can be loaded: its value and its seq."""
    damaged: PerdureError | None = None
    for snapshot in snapshots.newest_first():
        if snapshot.seq <= seq:
            try:
                with collector_off():
                    value, _ = snapshots.load(snapshot, state.read)
            except StorageError as error:
                damaged = damaged or error
                continue
            return value, snapshot.seq
    raise damaged or StorageError(f"no snapshot at or before seq {seq}", seq=seq)
