"""The half of a node that follows its log: applies what comes, and looks whether it is still the same log."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import Any, NoReturn

from perdure.cluster._entries import Head
from perdure.cluster._keeper import Keeper
from perdure.cluster._replica import OvertakenError, Replica
from perdure.cluster._snapshots import BlobSnapshots, Place
from perdure.cluster._waiting import Batch
from perdure.engines import Log, LogEntry
from perdure.errors import (
    ClosedError,
    CorruptError,
    DivergedError,
    MissingError,
    OutcomeUnknownError,
    PerdureError,
    StorageError,
    UnreachableError,
    WriteError,
)
from perdure.machine import Refusing, State
from perdure.snapshots import Snapshot

_log = logging.getLogger("perdure")
RETRY_S = 0.1
_IDLE_S = 0.5
_STALE_S = 15.0  # How long an engine's old answers are borne before the log counts as having gone back.
_REBUILD = "close it and open it again: it is then rebuilt from what the log has"


class Following(Replica):
    """A replica with a thread that follows the log. ``failure``: why it has stopped for good."""

    keeper: Keeper

    def __init__(self, log: Log, state: State, snapshots: BlobSnapshots) -> None:
        super().__init__(log, state, snapshots)
        self.path: str = log.url
        self.lock: Any = self.state_lock
        """What a query holds. Once the node has stopped, entering it raises."""
        self.failure: PerdureError | None = None
        self.reachable: bool = True
        self.moved: threading.Condition = threading.Condition()
        """Told whenever something was applied, and at the end."""
        self.stopped: threading.Event = threading.Event()
        self.batches: dict[bytes, Batch] = {}
        """What this node has appended, or is about to, and has not answered. Under ``order``."""

    def follow(self) -> None:
        """Until it is stopped."""
        while not self.stopped.is_set():
            try:
                self._check_log()
                self.reachable = True
                self._follow_once()
            except (UnreachableError, OutcomeUnknownError, WriteError) as error:
                if self.reachable and not self.stopped.is_set():
                    _log.info("%s: %s", self.path, error.message)
                self.reachable = False
                self.stopped.wait(RETRY_S)
            except MissingError as error:
                self._catch_up(error)
            except ClosedError:
                break
            except PerdureError as error:
                if not self.stopped.is_set():
                    self.fail(error)
            except Exception as error:
                # A mistake of ours, or a driver's: the state may not be what the log says.
                if not self.stopped.is_set():
                    _log.exception("the follower failed")
                    self.fail(StorageError(f"following failed: {type(error).__name__}: {error}", path=self.path))

    def _follow_once(self) -> None:
        following = self.log.follow(self.position, idle_s=_IDLE_S)
        try:
            for entries in following:
                self.apply_all(entries)
                if self.stopped.is_set():
                    return
        finally:
            following.close()  # type: ignore[attr-defined]

    def apply_all(self, entries: list[LogEntry]) -> None:
        """Applies entries, but those that are applied already. Raises like ``apply``."""
        for entry in entries:
            with self.order:
                if entry.position == self.position + 1 and self.failure is None:
                    self.apply_one(entry)

    def apply_one(self, entry: LogEntry) -> None:
        """The caller holds ``order``."""
        batch = self.batches.get(entry.id)
        try:
            self.apply(entry, batch)
        except OvertakenError:
            return
        except PerdureError as error:
            error.path = error.path or self.path
            if not self.stopped.is_set():
                self.fail(error)
            raise
        self.keeper.count(len(entry.data))
        if batch is not None:
            self.settle(batch)
        with self.moved:
            self.moved.notify_all()

    def _check_log(self) -> None:
        """Whether what this node has applied is still what the log begins with. Raises ``DivergedError`` if not."""
        until = time.monotonic() + _STALE_S
        while not self.stopped.is_set():
            self.log.check()
            with self.order:
                position, last_id = self.position, self.last_id
            bounds = self.log.bounds()
            if bounds.first > position and bounds.last >= position:
                return  # Trimmed up to here; what was trimmed had been in a snapshot.
            if bounds.last >= position:
                found = self.log.read(position - 1, 1)
                if found and found[0].id == last_id:
                    return
                if found:
                    raise DivergedError("the log has another entry there", path=self.path, seq=position, hint=_REBUILD)
            if time.monotonic() > until:
                raise DivergedError(
                    f"the log ends at {bounds.last}, and {position} was applied here", path=self.path, hint=_REBUILD
                )
            # An engine that has just chosen another leader may give old answers for a moment.
            self.stopped.wait(RETRY_S)

    def _catch_up(self, trimmed: MissingError) -> None:
        """The log was trimmed past this node: a newer snapshot has what is missing."""
        try:
            if self.log.bounds().first <= self.position + 1:
                return  # Only the following had fallen behind: this node's writer has applied what is missing there.
            snapshot = self._newer_snapshot(trimmed)
            with self.order, self.state_lock:
                self._go_on_from(snapshot)
        except UnreachableError:
            self.stopped.wait(RETRY_S)
        except PerdureError as error:
            if not self.stopped.is_set():
                self.fail(error)

    def no_way_back(self, error: MissingError) -> NoReturn:
        """See ``Replica.no_way_back``. The caller holds the locks: nobody sees what the command has left."""
        self._go_on_from(self._newer_snapshot(error))
        raise OvertakenError

    def _go_on_from(self, snapshot: Snapshot) -> None:
        self.take_over(snapshot)
        _log.warning("%s: this node had fallen behind and went on from a snapshot of seq %d", self.path, self.seq)
        for batch in list(self.batches.values()):
            self.settle(batch)
        with self.moved:
            self.moved.notify_all()

    def _newer_snapshot(self, trimmed: MissingError) -> Snapshot:
        """One from behind ``position``, from which the log goes on. Raises ``trimmed`` where there is none."""
        until = time.monotonic() + _STALE_S
        while True:
            try:
                first = max(self.log.bounds().first, self.position + 2)
                for name in self.snapshots.names():
                    with contextlib.suppress(CorruptError, MissingError):
                        snapshot = self.snapshots.fetched(name, anew=True)
                        if Place.found_in(snapshot.header, name).position + 1 >= first:
                            return snapshot
                if time.monotonic() > until:
                    raise trimmed
            except UnreachableError:
                until = time.monotonic() + _STALE_S
            # An engine that has just chosen another leader may give old answers for a moment.
            self.check_going_on()
            self.stopped.wait(RETRY_S)

    def fail(self, error: PerdureError) -> None:
        """Stops for good: what is in memory is not, or no longer, what the log says."""
        error.path = error.path or self.path
        self.failure = error
        self.lock = Refusing(error)
        _log.error("%s", error)
        self.stopped.set()
        self.wake_writer()
        with self.order:
            for batch in list(self.batches.values()):
                unknown = OutcomeUnknownError(f"this node stopped: {error.message}", path=self.path)
                batch.fail(unknown)
            self.batches.clear()
        with self.moved:
            self.moved.notify_all()

    def settle(self, batch: Batch) -> None:
        """Answers a batch that is both acknowledged and applied. The caller holds ``order``."""
        if batch.acknowledged and batch.applied:
            self.batches.pop(batch.id, None)
            batch.answer()
        elif batch.acknowledged and batch.at <= self.position:
            self.batches.pop(batch.id, None)
            self.tell_unknown(batch.waiting)
            batch.answer()

    def wake_writer(self) -> None:
        """Has the writer see that it is time to stop."""

    def apply_other(self, entry: LogEntry, head: Head, batch: Batch | None) -> None:
        """See ``Replica.apply_other``."""
        self.keeper.meet(entry, head, batch)

    def check_going_on(self) -> None:
        """See ``Replica.check_going_on``."""
        if self.stopped.is_set():
            raise ClosedError("it was closed", path=self.path)
