"""The background thread of a machine: syncs each second, marks idle moments, takes snapshots when they are due."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING

from perdure.errors import PerdureError
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
        self._thread: threading.Thread | None = None
        self.awake = False

    def wake(self) -> None:
        """Something was written. Cheap to skip: callers ask ``awake`` first."""
        self.awake = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="perdure-keeper", daemon=True)
            self._thread.start()
        self._wake.set()

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
        last_sync = last_snapshot = time.monotonic()
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            last_seq = -1
            while not self._stop.wait(IDLE_MARK_MS / 1000):
                machine = self._machine()
                if machine is None:
                    return
                now = time.monotonic()
                interval_s = self._snapshot_interval_s
                try:
                    if self._sync_each_second and now - last_sync >= SYNC_INTERVAL_MS / 1000:
                        last_sync = now
                        machine.sync()
                    if machine.snapshot_is_due() or (interval_s is not None and now - last_snapshot >= interval_s):
                        last_snapshot = now
                        machine.snapshot()
                    idle = last_seq == machine.seq
                    if idle:
                        machine.mark()
                except PerdureError as error:
                    # Whoever calls next is told by the machine itself; here there is nobody to tell.
                    _log.error("%s", error)
                    idle = True
                waiting_for_snapshot = interval_s is not None and machine.unsaved
                if idle and not waiting_for_snapshot and not (self._sync_each_second and machine.unsynced):
                    self.awake = False
                    if last_seq == machine.seq:
                        break
                    self.awake = True
                last_seq = machine.seq
                del machine
