"""The background thread of a machine: syncs each second, marks idle moments, takes snapshots when they are due."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING

from perdure.limits import IDLE_MARK_MS, SYNC_INTERVAL_MS

if TYPE_CHECKING:
    from perdure.machine._machine import Machine

_log = logging.getLogger("perdure")


class Keeper:
    """Sleeps until something is written, and then looks after it. Holds its machine weakly: it keeps nothing alive."""

    def __init__(self, machine: Machine, *, sync_each_second: bool, snapshot_interval_s: float | None) -> None:
        self._machine = weakref.ref(machine)
        self._sync_each_second = sync_each_second
        self._snapshot_interval_s = snapshot_interval_s
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._last_sync = self._last_snapshot = time.monotonic()
        self.awake = False

    def wake(self) -> None:
        """Something was written. Cheap to skip: callers ask ``awake`` first."""
        with self._starting:
            if self._thread is None and not self._stop.is_set():
                thread = threading.Thread(target=self._run, name="perdure-keeper", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    # No more threads, or the interpreter is leaving. The next command tries again.
                    _log.error("nobody looks after the journal: %s", error)
                    return
                self._thread = thread
        self._wake.set()
        self.awake = True

    def stop(self) -> None:
        """Returns when the thread has ended. Idempotent."""
        self._stop.set()
        self._wake.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._thread = None

    def set_snapshot_interval(self, seconds: float | None) -> None:
        self._snapshot_interval_s = seconds

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            seen_seq: int | None = -1
            while seen_seq is not None and not self._stop.wait(IDLE_MARK_MS / 1000):
                seen_seq = self._look_after(seen_seq)

    def _look_after(self, seen_seq: int) -> int | None:
        """Does what is due; the machine's seq, or ``None`` once there is nothing to watch until it wakes again."""
        machine = self._machine()
        if machine is None:
            self._stop.set()
            return None
        now = time.monotonic()
        timed = False
        try:
            if self._sync_each_second and now - self._last_sync >= SYNC_INTERVAL_MS / 1000:
                self._last_sync = now
                machine.sync()
            interval_s = self._snapshot_interval_s
            timed = interval_s is not None and machine.unsaved
            if machine.snapshot_is_due() or (timed and now - self._last_snapshot >= (interval_s or 0.0)):
                self._last_snapshot = now
                machine.postpone_snapshot()  # Should it fail, it is not tried again at once.
                machine.snapshot()
            if seen_seq == machine.seq:
                machine.mark()
        except Exception as error:
            # Whoever calls next is told by the machine itself; here there is nobody to tell, and the next sync must
            # come.
            _log.error("%s: %s", type(error).__name__, error)
        seq = machine.seq
        if seq != seen_seq or timed or (self._sync_each_second and machine.unsynced):
            return seq
        # Sleep. A writer that still saw `awake` has moved the seq before this looks again.
        self.awake = False
        if machine.seq == seq:
            return None
        self.awake = True
        return machine.seq
