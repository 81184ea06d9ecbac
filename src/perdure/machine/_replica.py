"""A machine whose entries are another one's: the same journal, somewhere else, one step behind."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from perdure.errors import PerdureError, ReadOnlyError, UsageError, WriteError
from perdure.fs import DirectoryLock
from perdure.journal import CopyingJournal, Draft, FileJournal, Journal, segment_numbers, start_of_last_append
from perdure.machine._forked import can_fork
from perdure.machine._machine import Machine
from perdure.machine._opening import Place, begin_in_memory, make_ready
from perdure.machine._outcomes import outcomes_in
from perdure.machine._refusing import Refusing
from perdure.machine._role import Role, remove_role, term_payload, write_role
from perdure.machine._state import Pending
from perdure.records import COMMAND, NO_CLIENT, TERM, Entry
from perdure.snapshots import Snapshot, SnapshotHeader, SnapshotStore, Source

_PART_COUNT = 256  # Queries have their turn after so many entries.


class ReplicaMachine(Machine):
    """Takes entries by ``copy`` and refuses commands, until it is promoted. Any thread may call.

    Entries are written only together with the outcomes of their commands, so the journal ends between two appends of
    the primary, except after a crash: then the last append waits in ``held``, written and not applied, until the
    primary has told what became of it, or until it is promoted and finds out by itself, as after any crash.
    """

    # A replica in memory exchanges these when it is promoted into a directory.
    journal: Journal
    snapshots: SnapshotStore
    path: str | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Like ``Machine``, with a journal that can copy."""
        super().__init__(*args, **kwargs)
        self.held: list[Entry] = []
        self.promoted: bool = False

    def hold(self, entries: list[Entry]) -> None:
        """At opening: entries of the journal that are not applied yet."""
        self.held = entries
        if entries:
            self._applied_seq = entries[0].seq - 1

    @property
    def journaled_seq(self) -> int:
        """Of the last entry that need not be sent again."""
        return self.journal.last_seq

    @property
    def unsaved(self) -> bool:
        return not self.held and super().unsaved

    # ---- what only a writer does

    def handle(
        self, payload: bytes, call: Any = None, *, client: bytes = NO_CLIENT, counter: int = 0, exclusive: bool = True
    ) -> Any:
        self._refuse_command()
        return super().handle(payload, call, client=client, counter=counter, exclusive=exclusive)

    def handle_batch(self, batch: list[Pending], elsewhere: Callable[[Iterator[Sequence[Pending]]], None]) -> None:
        self._refuse_command()
        super().handle_batch(batch, elsewhere)

    def _refuse_command(self) -> None:
        if not self.promoted:
            if isinstance(self.lock, Refusing):
                raise copy.copy(self.lock.error)
            raise ReadOnlyError(
                "this is a replica: it takes no commands",
                path=self.path,
                hint="call the primary; or, if that is gone for good: perdure.control(replica).promote()",
            )

    def snapshot(self) -> Snapshot:
        if self.held:
            raise UsageError("the last entries still wait for the primary", hint="take the snapshot when it is there")
        return super().snapshot()

    def mark(self) -> None:
        """A mark says that everything before it has settled."""
        if not self.held:
            super().mark()

    # ---- copying

    def copy(self, entries: Sequence[Entry]) -> None:
        """Journals entries that have settled, as they are, and applies them, with those that were held.

        Raises:
            UsageError: they do not continue the journal. Nothing happened.
            WriteError: as for a command.
            DivergedError, ReplayError, CodecError: one came out differently here, or cannot be applied. What is in
                memory is not to be trusted any more; queries raise the same.
        """
        with self._order:
            if self._unapplied or self._broken or self._closed or self.promoted:
                raise self._refusal()
            self._unapplied = True
            try:
                if entries:
                    cast(CopyingJournal, self.journal).copy(entries)
                    if self._grouped:
                        self.journal.sync()
            except PerdureError as error:
                if not isinstance(error, WriteError) or error.outcome == "not-written":
                    self._unapplied = False
                raise
            self._apply_copied([*self.held, *entries])
            self._unapplied = False
            if not self._keeper.awake:
                self._keeper.wake()

    def _apply_copied(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        outcomes = outcomes_in(entries)
        settled_before = entries[-1].seq + 1
        try:
            for start in range(0, len(entries), _PART_COUNT):
                part = list(entries[start : start + _PART_COUNT])
                with self._state_lock:
                    self.replay(part, outcomes, settled_before=settled_before)
                    self._applied_seq = part[-1].seq
                if self._subscribers:
                    for entry in part:
                        if entry.kind == COMMAND:
                            self._tell_of(entry, outcomes.get(entry.seq))
        except PerdureError as error:
            self.stop(error)
            raise
        self.held = []

    def stop(self, error: PerdureError) -> None:
        """The state is not the primary's, or nobody knows: queries raise ``error`` from now on."""
        self._broken = error.message
        self.lock: Any = Refusing(error)

    def rebase(self, draft: str | None, header: SnapshotHeader, value: Any, place: Place) -> None:
        """Goes on from a newer snapshot of the primary, because the entries up to there are not to be had any more.

        ``draft``: what ``receive`` wrote into this machine's store; ``None`` in memory. ``value``: its content.

        What a crash leaves: before the snapshot has its name, the old state; behind it, the new one, perhaps with old
        files that nobody reads.
        """
        with self._snapshot_lock, self._order, self._state_lock:
            if self._closed or self._broken or self.promoted:
                raise self._refusal()
            self._unapplied = True
            if draft is None:
                self.state.take_over(value)
                journal, newest = begin_in_memory(self.state, self.snapshots, header, place)
                self.journal = journal
            else:
                newest = self.snapshots.publish(draft, header)
                self.journal.close()
                self.journal = place.journal(newest, self.state.description, copied=True)
                self.journal.last_at_ns = max(self.journal.last_at_ns, header.at_ns)
                self.state.take_over(value)
            self.receipts.load(header.receipts)
            self.term = max(self.term, int(header.description.get("term", 0)))
            self.held = []
            self._applied_seq = header.seq
            self._start_from(newest)
            # The entries in between are missing, so no older snapshot leads to here.
            self.journal.trim(self.snapshots.prune(1) + 1)
            self._unapplied = False

    def _start_from(self, newest: Snapshot) -> None:
        self._newest = newest
        self._snapshot_at_bytes = 0
        self._plan_next_snapshot()
        self._finalizer.detach()
        self._hold_place()

    # ---- becoming a writer

    def promote(self, place: Place | None = None) -> int:
        """Makes it the writer of a new term, durably, and returns the term. What was held is applied, as at opening.

        ``place``: a new directory for a replica that lived in memory.

        What a crash leaves: before the entry of the term, the replica as it was; behind it, a replica that knows of
        its own term, and is promoted by asking again. In a new directory: a replica's, which can be deleted.

        Raises:
            UsageError: it is a writer already; or the directory is not empty, or it has one.
            WriteError, StorageError: it is a replica still.
            DivergedError, ReplayError, CodecError: what was held cannot be applied.
        """
        with self._snapshot_lock, self._order:
            if self.promoted:
                raise UsageError("it was promoted before", path=self.path)
            if self._unapplied or self._broken or self._closed:
                raise self._refusal()
            if self.held:
                with self._state_lock:
                    self.replay(self.held, outcomes_in(self.held), settled_before=start_of_last_append(self.held))
                self.held = []
                self._applied_seq = self.journal.last_seq
            if place is not None:
                self._move_into(place)
            term = self.term + 1
            self.journal.append([*self.owed, Draft(TERM, term_payload(term))])
            self.owed.clear()
            self.journal.sync()
            self._applied_seq = self.journal.last_seq
            self.term: int = term
            if isinstance(self.journal, FileJournal) and self.path is not None:
                try:
                    remove_role(self.journal.fs, self.path)
                except OSError as error:
                    raise WriteError(
                        f"it cannot be written down that this is a writer now: {error.strerror}", path=self.path
                    ) from error
            self.promoted = True
            return term

    def _move_into(self, place: Place) -> None:
        """From memory into a directory, at this moment."""
        directory = place.directory
        if self.path is not None or directory is None:
            raise UsageError("it has a place already, and is promoted there", path=self.path)
        make_ready(place.fs, directory)
        lock = DirectoryLock(place.fs, directory)
        try:
            store = place.store()
            if store.seqs() or segment_numbers(place.fs, directory):
                raise UsageError("something is kept there already", path=directory, hint="name an empty directory")
            write_role(place.fs, directory, Role("replica", self.term, "a replica in memory"))
            header = SnapshotHeader(
                self.journal.last_seq,
                self.journal.last_at_ns,
                self.journal.log_id,
                self.description,
                self.receipts.dump(),
            )
            with self._state_lock:
                draft = store.write(header, self.state.dump, self.state.digest, self._proof)
            newest = store.publish(draft, header)
            journal = place.journal(newest, self.state.description, copied=True)
        except BaseException as error:
            lock.release()
            if isinstance(error, OSError):
                raise WriteError(f"the directory cannot be made ready: {error.strerror}", path=directory) from error
            raise
        self.snapshots = store
        self.journal = journal
        self.path = directory
        self._place_lock = lock
        journal.last_at_ns = header.at_ns
        self._forks = can_fork()
        self._start_from(newest)

    def _proof(self, file: Source) -> bytes:
        return self.state.digest(self.state.read(file))
