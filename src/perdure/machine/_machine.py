"""State + journal + snapshots. It knows nothing of proxies, dicts or networks.

``_commands.py`` beside this file says how a command is handled; here are recovery's other half (going back),
snapshots, and the end.
"""

from __future__ import annotations

import contextlib
import copy
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from perdure.errors import ClosedError, PerdureError, StorageError, UsageError, WriteError
from perdure.fs import close_in_forked_children
from perdure.journal import Draft, Durability, FileJournal, Journal
from perdure.limits import SNAPSHOT_INLINE_BYTES_MAX, SNAPSHOT_JOURNAL_BYTES_MIN, SNAPSHOTS_KEPT
from perdure.machine._answers import store_error
from perdure.machine._batches import Batches
from perdure.machine._forked import BoundedWriter, TooLargeError, can_fork, fork_writer
from perdure.machine._keeper import Keeper
from perdure.machine._outcomes import Outcome, outcomes_in
from perdure.machine._refusing import Refusing
from perdure.machine._replay import NeedsRestore, collector_off, replay
from perdure.machine._role import Role, fenced, term_of, write_role
from perdure.machine._state import State
from perdure.records import TERM, Entry
from perdure.snapshots import Snapshot, SnapshotHeader, SnapshotStore, Writer

Result = TypeVar("Result")


class Releasable(Protocol):
    """A lock on the place where the machine keeps its files."""

    def release(self) -> None: ...


class Machine(Batches):
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
        super().__init__(state, journal, durability=durability, path=path)
        self.snapshots: SnapshotStore = snapshots
        self.keep_history = keep_history
        self._snapshot_lock = threading.Lock()
        self._newest = newest
        self.term: int = 0
        """Which writer of this journal it is, or follows: see ``_role.py``."""
        self._fenced: PerdureError | None = None
        if newest is not None:
            self.receipts.load(newest.header.receipts)
            self.term = int(newest.header.description.get("term", 0))
        self._automatic_snapshots = automatic_snapshots
        self._snapshot_at_bytes = 0
        self._forks = forks and can_fork() and snapshots.survives_fork
        self._closed = self._closing = False
        self._plan_next_snapshot()
        self._keeper = Keeper(self, sync_each_second=durability == "everysec", snapshot_interval_s=snapshot_interval_s)
        close_in_forked_children(self)
        self._place_lock = place_lock
        self._hold_place()

    def _hold_place(self) -> None:
        """At interpreter exit, and when nobody holds the machine any more, everything handed over is made durable."""
        self._finalizer: weakref.finalize[..., Machine] = weakref.finalize(
            self, _let_go_at_the_end, self.journal, self.owed, self._place_lock, self._order, os.getpid()
        )

    # ---- where it stands

    @property
    def seq(self) -> int:
        """Of the last entry that is applied here: what is journaled and not applied does not count."""
        return self._applied_seq

    @property
    def durable_seq(self) -> int:
        return min(self.journal.durable_seq, self._applied_seq)

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def newest_snapshot(self) -> Snapshot | None:
        return self._newest

    @property
    def settled_seq(self) -> int:
        """Up to here every entry is durable in the mode promised, and the outcome of every command is in the journal.

        Waits for the batch that is being committed.
        """
        with self._order:
            seq = self._applied_seq
            if self.owed:
                # All of them belong to the last append, and stand in front of the next one.
                seq = min(outcomes_in(self.owed)) - 1
        # Where syncs come later, a power cut may still take entries back. Without any it may take all.
        return min(seq, self.journal.durable_seq) if self.durability == "everysec" else seq

    @property
    def description(self) -> Mapping[str, Any]:
        """What its snapshots say of themselves."""
        return {**self.state.description, "term": self.term} if self.term else self.state.description

    @property
    def unsaved(self) -> bool:
        """Whether opening again would have something to replay, or would find the names of yesterday's code."""
        newest = self._newest
        return (
            newest is None
            or self._applied_seq > newest.seq
            or dict(newest.header.description) != dict(self.description)
        )

    @property
    def unsynced(self) -> bool:
        return self.journal.durable_seq < self.journal.last_seq and self.journal.failure is None

    # ---- queries

    def read(self, query: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
        """Calls ``query`` while no command runs. Raises what it raises, and ``ClosedError`` once closed."""
        with self.lock:
            return query(*args, **kwargs)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """No command runs and none is half done while the block runs; queries go on."""
        self._check_place("this")
        with self._order:
            if self._closed:
                raise self._refusal()
            yield

    def _check_place(self, what: str) -> None:
        """Refuses what would wait for this very thread."""
        if self.is_inside() or self.is_querying() or self._is_committing():
            raise UsageError(
                f"{what} was asked for from within a command or a query", hint="ask for it after the call has returned"
            )

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

    def restore(self, seq: int) -> None:
        """Makes the state what it was after ``seq``, from snapshot and journal. The caller holds the locks."""
        value, header = load_newest(self.snapshots, self.state, seq)
        self.state.take_over(value)
        self.receipts.load(header.receipts)
        # Outcomes may stand behind entries that come later than ``seq``.
        entries = list(self.journal.read(header.seq))
        outcomes = outcomes_in(entries)
        # All of them have run here already: an outcome that is neither written nor owed is that of a command that
        # returned.
        self.replay([entry for entry in entries if entry.seq <= seq], outcomes, settled_before=seq + 1)

    def replay(self, entries: list[Entry], outcomes: dict[int, Outcome], *, settled_before: int) -> None:
        """Applies entries from the journal. Raises like ``perdure.machine.replay``. The caller holds the locks."""
        start = 0
        while True:
            known = {**outcomes, **outcomes_in(self.owed)} if self.owed else outcomes
            try:
                replay(
                    self.state,
                    self.moment,
                    entries,
                    known,
                    settled_before=settled_before,
                    owe=self._owe,
                    start=start,
                    receipts=self.receipts,
                )
                break
            except NeedsRestore as needed:
                entry = needed.entry
                self.restore(entry.seq - 1)
                answer = store_error(needed.error, self.state.answers) if entry.client else None
                self._owe(entry.seq, needed.status, needed.error, answer)
                if answer is not None and needed.status == "aborted":
                    self.receipts.note(entry.client, entry.counter, entry.seq, answer)
                start = needed.position + 1
        self.term = max([self.term, *(term_of(entry) for entry in entries if entry.kind == TERM)])

    # ---- snapshots

    def snapshot(self) -> Snapshot:
        """Blocks its caller until a snapshot of the present state is proven and published; stalls nobody else.

        Raises:
            CodecError: the state holds something that cannot be stored. All goes on as before.
            WriteError, StorageError: the disk, or the child process, refused. All goes on as before.
            ClosedError: the machine was closed.
        """
        self._check_place("a snapshot")
        with self._snapshot_lock:
            return self._take_snapshot()

    def _take_snapshot(self) -> Snapshot:
        newest = self._newest
        small = newest is not None and newest.size_bytes <= SNAPSHOT_INLINE_BYTES_MAX
        with self.paused():
            if self._broken or self._unapplied:
                raise self._refusal()
            # Nobody replays what a snapshot covers: an outcome that is lost behind it would never be found out again.
            self._flush_owed()
            header = SnapshotHeader(
                self.journal.last_seq,
                self.journal.last_at_ns,
                self.journal.log_id,
                self.description,
                self.receipts.dump(),
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

    def begin_digest(self, announce: Callable[[int], None] | None = None) -> tuple[int, Callable[[], bytes]]:
        """The seq of this moment, and a function that waits for the digest of the state at it. Stalls nobody.

        ``announce`` is called with the seq before another command can run. Call the function, once: a large state is
        digested in a forked child. It raises what ``Child.wait`` raises.
        """
        newest = self._newest
        small = newest is not None and newest.size_bytes <= SNAPSHOT_INLINE_BYTES_MAX
        with self.paused():
            if self._broken or self._unapplied:
                raise self._refusal()
            self._flush_owed()
            seq = self._applied_seq
            if announce is not None:
                announce(seq)
            if small or not self._forks:
                with self._state_lock:
                    digest = self.state.digest()
                return seq, lambda: digest
            child = fork_writer(lambda: self.state.digest().hex())
        return seq, lambda: bytes.fromhex(child.wait())

    def _plan_next_snapshot(self) -> None:
        size_bytes = 0 if self._newest is None else self._newest.size_bytes
        self._snapshot_due_bytes = self._snapshot_at_bytes + max(size_bytes, SNAPSHOT_JOURNAL_BYTES_MIN)

    def snapshot_is_due(self) -> bool:
        """Whether the journal has outgrown the last snapshot."""
        return self._automatic_snapshots and self.journal.bytes_written >= self._snapshot_due_bytes

    def postpone_snapshot(self) -> None:
        """After one has failed: not again before the journal has grown by as much once more."""
        size_bytes = 0 if self._newest is None else self._newest.size_bytes
        self._snapshot_due_bytes = self.journal.bytes_written + max(size_bytes, SNAPSHOT_JOURNAL_BYTES_MIN)

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
        with self._order:
            if not self._closed and not self._unapplied and self.journal.failure is None:
                with contextlib.suppress(WriteError):
                    self._flush_owed()
                    self.journal.mark()

    def fence(self, term: int) -> None:
        """Takes no further commands, now and after opening again: the writer of ``term`` has replaced this one.

        Queries go on. Raises ``WriteError`` where that cannot be written down; it is refused here all the same.
        """
        with self.paused():
            self._fenced = fenced(self.path, term, self.term)
            self._broken = self._fenced.message
        if self.path is not None and isinstance(self.journal, FileJournal):
            try:
                write_role(self.journal.fs, self.path, Role("fenced", term))
            except OSError as error:
                raise WriteError(f"it cannot be written down: {error.strerror}", path=self.path) from error

    def _refusal(self) -> PerdureError:
        if self._fenced is not None and not self._closed:
            return copy.copy(self._fenced)
        return super()._refusal()

    # ---- the end

    def close(self, *, snapshot: bool | None = None) -> None:
        """Makes everything durable, takes a snapshot if there is something to replay, and lets go. Idempotent.

        Raises what the snapshot or the last sync raised; everything is let go of all the same.
        """
        if self._closing or (self._closed and not self._finalizer.alive):
            return
        if self._is_committing() or self.is_inside():
            # A signal handler, in the middle of a command of this very thread: it is done when that one has ended.
            self._close_wanted = True
            return
        self._check_place("closing")
        self._close_wanted = False
        self._closing = True  # A signal handler may ask again, in the middle of this.
        wanted = self._automatic_snapshots if snapshot is None else snapshot
        try:
            self._keeper.stop()
            # Closed already, and not let go of: an interrupt came in between.
            sound = not (self._closed or self._broken or self._unapplied) and self.journal.failure is None
            if wanted and sound and self.unsaved:
                self.snapshot()
        finally:
            try:
                with self._order:
                    with self._state_lock:
                        self._closed = True
                        self.lock = Refusing(ClosedError("it was closed", path=self.path, hint="open it again"))
                    _let_go(self.journal, self.owed, self._place_lock)
                # Only now: should an interrupt have come before, it lets go when nobody holds the machine any more.
                self._finalizer.detach()
            finally:
                self._closing = False

    def after_fork_in_child(self) -> None:
        """A forked child lets go without writing anything; what it calls here is refused."""
        self._closed = True
        self._broken = "forked"
        self._finalizer.detach()
        # Threads that held these do not exist here.
        self._new_locks()
        self._snapshot_lock = threading.Lock()
        self.lock: Any = Refusing(
            UsageError(
                "this process was forked from the one that opened it",
                path=self.path,
                hint="open it after the fork, in one process only",
            )
        )


def _let_go(journal: Journal, owed: list[Draft], place_lock: Releasable | None) -> None:
    """Idempotent, and to be called again after an interrupt. The caller holds the order lock."""
    try:
        if owed and journal.failure is None:
            with contextlib.suppress(PerdureError):
                journal.append(owed)
                owed.clear()
        journal.close()
    finally:
        if place_lock is not None:
            place_lock.release()


def _let_go_at_the_end(
    journal: Journal, owed: list[Draft], place_lock: Releasable | None, order: threading.RLock, pid: int
) -> None:
    if os.getpid() != pid:
        return
    # A daemon thread may be in the middle of an append while the interpreter exits. The lock is not given back: whoever
    # waits for it then waits until the process ends.
    order.acquire(timeout=5.0)
    _let_go(journal, owed, place_lock)


def load_newest(snapshots: SnapshotStore, state: State, seq: int) -> tuple[Any, SnapshotHeader]:
    """The newest snapshot up to ``seq`` that can be loaded: its value and its header."""
    damaged: PerdureError | None = None
    for snapshot in snapshots.newest_first():
        if snapshot.seq <= seq:
            try:
                with collector_off():
                    value, _ = snapshots.load(snapshot, state.read)
            except StorageError as error:
                damaged = damaged or error
                continue
            return value, snapshot.header
    raise damaged or StorageError(f"no snapshot at or before seq {seq}", seq=seq)
