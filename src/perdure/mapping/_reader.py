"""Reading a dict beside the process that writes it."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from perdure.clock import Moment
from perdure.errors import ClosedError, MissingError, PerdureError, ReadOnlyError, StorageError
from perdure.fs import check_not_open, close_in_forked_children, existing_directory
from perdure.journal import DirectoryFollower
from perdure.limits import FOLLOW_POLL_MS
from perdure.machine import Place, RecoveryReport, load_snapshot, outcomes_in, replay
from perdure.mapping._lines_snapshots import WrongLineError
from perdure.mapping._state import DictState

_log = logging.getLogger("perdure")


class Reader:
    """Stands where a machine stands, for a dict opened with ``mode="r"``: a snapshot, then entries as they settle.

    Writes nothing and takes no lock on disk. A thread looks for new entries every ``FOLLOW_POLL_MS`` milliseconds.
    """

    def __init__(self, state: DictState, place: Place) -> None:
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
        self._lock = threading.Lock()
        self._closed = False
        self._failure: PerdureError | None = None
        self._moment = Moment(bytes(16))
        self.seq = 0
        started = time.monotonic()
        self._follower = self._begin()
        snapshot_seq = self.seq
        self.catch_up()
        self.report = RecoveryReport(
            snapshot_seq=snapshot_seq, replayed=self.seq - snapshot_seq, seconds=time.monotonic() - started
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=_poll, args=(weakref.ref(self), self._stop), name="perdure-reader", daemon=True
        )
        self._thread.start()
        close_in_forked_children(self)

    def _begin(self) -> DirectoryFollower:
        """Loads the newest snapshot. The writer may prune files while they are read: then it is done again."""
        place = self._place
        for attempt in range(10):
            store = place.store()
            try:
                snapshot, _ = load_snapshot(self._state, store, self.path)
                if snapshot is None:
                    raise MissingError("there is no dict here", path=self.path, hint="has it been created?")
                self.seq = snapshot.seq
                return DirectoryFollower(self.path, fs=place.fs, framing=place.framing, after=snapshot.seq)
            except WrongLineError:
                raise  # Published files do not change: reading it once more would find the same.
            except (FileNotFoundError, StorageError):
                if attempt == 9 or not store.seqs():
                    raise
                time.sleep(0.01)
        raise AssertionError("unreachable")

    def catch_up(self) -> int:
        """Applies what has settled since the last time; the seq reached. Raises what stops the reader for good."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                return self.seq
            try:
                entries = self._follower.poll()
            except (MissingError, FileNotFoundError):
                # Trimmed behind our back: the writer has a newer snapshot.
                self._follower = self._begin()
                entries = self._follower.poll()
            if entries:
                outcomes = outcomes_in([*entries, *self._follower.pending])
                replay(self._state, self._moment, entries, outcomes, settled_before=1 << 63)
                self.seq = entries[-1].seq
            return self.seq

    def handle(self, payload: bytes, call: Any = None, *, client: bytes = b"", counter: int = 0) -> NoReturn:
        """Raises ``ReadOnlyError``, or ``ClosedError`` once closed."""
        if self._closed:
            raise ClosedError("it was closed", path=self.path, hint="open it again")
        raise ReadOnlyError(
            'this was opened with mode="r"', path=self.path, hint="whoever writes opens it without mode"
        )

    @contextmanager
    def paused(self) -> Iterator[None]:
        with self._lock:
            yield

    def sync(self) -> int:
        """Catches up with the writer."""
        return self.catch_up()

    def fail(self, error: PerdureError) -> None:
        """Stops following; ``sync`` raises from then on."""
        self._failure = error

    def close(self, *, snapshot: bool | None = None) -> None:
        """Idempotent."""
        if not self._closed:
            self._closed = True
            self._stop.set()
            if self._thread is not threading.current_thread():
                self._thread.join()

    def after_fork_in_child(self) -> None:
        self._closed = True
        self._lock = threading.Lock()

    def __del__(self) -> None:
        # The thread holds no reference to the reader; told to stop, it ends by itself.
        stop = getattr(self, "_stop", None)
        if stop is not None:
            stop.set()


def _poll(reference: weakref.ref[Reader], stop: threading.Event) -> None:
    while not stop.wait(FOLLOW_POLL_MS / 1000):
        reader = reference()
        if reader is None:
            return
        try:
            reader.catch_up()
        except PerdureError as error:
            _log.error("%s", error)
            reader.fail(error)
            return
        except OSError as error:
            _log.error("reading %s: %s", reader.path, error)
        del reader
