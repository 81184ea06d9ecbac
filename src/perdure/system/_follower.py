"""Reading a system beside the process that writes it."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from typing import Any

from perdure.clock import Moment
from perdure.errors import ClosedError, MissingError, PerdureError, StorageError
from perdure.fs import check_not_open, close_in_forked_children, existing_directory
from perdure.journal import DirectoryFollower, entries_of, needed_segments
from perdure.limits import FOLLOW_POLL_MS
from perdure.machine import Outcome, Place, RecoveryReport, Refusing, load_snapshot, outcomes_in, replay
from perdure.records import Entry
from perdure.system._state import ObjectState

_log = logging.getLogger("perdure")


class Follower:
    """The engine of a system opened with ``mode="r"``: a snapshot, then the writer's entries as they settle.

    Writes nothing and takes no lock on disk. A thread looks for new entries every ``FOLLOW_POLL_MS`` milliseconds;
    between a command's answer and its appearance here lies that time and, in a quiet moment, ``IDLE_MARK_MS`` more.
    """

    def __init__(self, state: ObjectState, place: Place) -> None:
        """Loads what is there.

        Raises:
            MissingError: there is nothing to read.
            StorageError: others may write in the directory.
            CorruptError, CodecError, ReplayError: it cannot be loaded. Nothing was changed.
        """
        assert place.directory is not None
        self.path = existing_directory(place.directory)
        check_not_open(self.path)
        self._state = state
        self._place = place
        self._lock = threading.RLock()
        self.lock: Any = self._lock
        self.closed = False
        self.failure: PerdureError | None = None
        self.moment = Moment(bytes(16))
        self.snapshots = place.store()
        self.seq = 0
        self._owed: dict[int, Outcome] = {}
        started = time.monotonic()
        self._follower = self._begin()
        snapshot_seq = self.seq
        self.catch_up()
        self.report = RecoveryReport(
            snapshot_seq=snapshot_seq, replayed=self.seq - snapshot_seq, seconds=time.monotonic() - started
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=_poll, args=(weakref.ref(self), self._stop), name="perdure-follower", daemon=True
        )
        self._thread.start()
        close_in_forked_children(self)

    def _begin(self) -> DirectoryFollower:
        """Loads the newest snapshot. The writer may prune files while they are read: then it is done again."""
        place = self._place
        for attempt in range(10):
            try:
                snapshot, _ = load_snapshot(self._state, self.snapshots, self.path)
                if snapshot is None:
                    raise MissingError(
                        "there is no snapshot to begin with", path=self.path, hint="has it been created?"
                    )
                self.moment.log_id = snapshot.header.log_id
                self.seq = snapshot.seq
                return DirectoryFollower(
                    self.path, fs=place.fs, framing=place.framing, after=snapshot.seq, chain=place.chain()
                )
            except (FileNotFoundError, MissingError, StorageError):
                if attempt == 9 or not self.snapshots.seqs():
                    raise
                time.sleep(0.01)
        raise AssertionError("unreachable")

    def catch_up(self) -> int:
        """Applies what has settled since the last time; the seq reached. Raises what stops the follower for good."""
        with self._lock:
            if self.failure is not None or self.closed:
                return self.seq
            try:
                entries = self._follower.poll()
            except (MissingError, FileNotFoundError):
                # Trimmed behind our back: the writer has a newer snapshot.
                self._follower = self._begin()
                entries = self._follower.poll()
            if entries:
                outcomes = outcomes_in([*entries, *self._follower.pending])
                replay(self._state, self.moment, entries, outcomes, settled_before=1 << 63)
                self.seq = entries[-1].seq
                # Of the last commands they stand behind that, in front of what has not settled.
                self._owed = outcomes_in(self._follower.pending)
            return self.seq

    def known_outcomes(self) -> tuple[int, dict[int, Outcome]]:
        """The last seq applied, and the outcomes that stand behind it."""
        with self._lock:
            return self.seq, self._owed

    @property
    def durable_seq(self) -> int:
        return self.seq

    @property
    def journal(self) -> _DirectoryReader:
        return _DirectoryReader(self._place, self.path, self.moment.log_id, self.seq)

    def fail(self, error: PerdureError) -> None:
        """Stops following; queries raise from then on."""
        self.failure = error
        self.lock = Refusing(error)

    def close(self) -> None:
        """Idempotent."""
        if not self.closed:
            self.closed = True
            self._stop.set()
            if self._thread is not threading.current_thread():
                self._thread.join()
            self.lock = Refusing(ClosedError("it was closed", path=self.path))

    def after_fork_in_child(self) -> None:
        self.closed = True
        self.lock = Refusing(ClosedError("it was opened by the process that this one was forked from", path=self.path))

    def __del__(self) -> None:
        # The thread holds no reference to the follower; told to stop, it ends by itself.
        stop = getattr(self, "_stop", None)
        if stop is not None:
            stop.set()


def _poll(reference: weakref.ref[Follower], stop: threading.Event) -> None:
    while not stop.wait(FOLLOW_POLL_MS / 1000):
        follower = reference()
        if follower is None:
            return
        try:
            follower.catch_up()
        except PerdureError as error:
            _log.error("%s", error)
            follower.fail(error)
            return
        except OSError as error:
            _log.error("following %s: %s", follower.path, error)
        del follower


class _DirectoryReader:
    """What ``history`` and ``at`` need of a journal, read from the files."""

    def __init__(self, place: Place, path: str, log_id: bytes, last_seq: int) -> None:
        self._place = place
        self._path = path
        self.log_id = log_id
        self.last_seq = last_seq

    def read(self, after: int = 0, before: int | None = None) -> Any:
        place = self._place
        last_seq = self.last_seq if before is None else min(self.last_seq, before - 1)
        if last_seq <= after:
            return
        segments = needed_segments(place.fs, place.framing, self._path, after, place.chain())
        entries: list[Entry]
        for _, entries in entries_of(place.fs, place.framing, segments, after, last_seq):
            yield from entries
