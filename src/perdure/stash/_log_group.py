"""Threads that wait for the disk at the same moment share one sync."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

FOLLOW_S = 1.0
"""A thread that another one syncs for looks after itself when that takes longer."""
PATIENCE_S_MAX = 0.02


class Batch:
    """The changes that one sync covers. ``count``: of the threads that wait for it."""

    __slots__ = ("count", "done", "full")

    def __init__(self) -> None:
        self.count = 0
        self.full = threading.Event()
        self.done = threading.Event()


class GroupSync:
    """Group commit: the first thread of a batch syncs for all of it, the next batch gathers meanwhile.

    When a sync is done its threads come back one by one with their next changes. Were the first of them to sync at
    once, the others would miss it, and most syncs would carry one change. So it waits until as many have come as the
    last time, but never longer than a sync takes: that much the others would lose otherwise. A thread that is alone
    never waits.

    A leader may be interrupted at any line: followers do not depend on it for longer than ``FOLLOW_S``.

    ``sync``: makes everything durable and returns up to which seq; ``durable_seq``: tells that without a sync.
    """

    def __init__(self, sync: Callable[[], int], durable_seq: Callable[[], int]) -> None:
        self._sync = sync
        self._durable_seq = durable_seq
        self._turn = threading.Lock()
        self._batch = Batch()
        self._expected = 1
        self._sync_s = 0.0

    def join(self) -> tuple[Batch, bool]:
        """The batch that covers what the caller has just appended, and whether the caller leads it.

        The caller holds the lock under which it appended.
        """
        batch = self._batch
        batch.count += 1
        if batch.count >= self._expected:
            batch.full.set()
        return batch, batch.count == 1

    def wait(self, batch: Batch, leads: bool, seq: int) -> int:
        """Returns when ``seq`` is durable, with the seq up to which everything is. The caller holds no lock.

        Raises what ``sync`` raises.
        """
        if not leads:
            batch.done.wait(FOLLOW_S)
            if (durable_seq := self._durable_seq()) >= seq:
                return durable_seq
        try:
            with self._turn:
                if (durable_seq := self._durable_seq()) >= seq:
                    return durable_seq
                if leads and batch.count < self._expected:
                    batch.full.wait(min(self._sync_s, PATIENCE_S_MAX))
                return self._sync_now()
        finally:
            batch.done.set()

    def sync_all(self) -> int:
        """Make everything durable now; up to which seq that is. The caller may hold the lock of the log.

        Raises what ``sync`` raises.
        """
        with self._turn:
            return self._sync_now()

    def _sync_now(self) -> int:
        # Whoever joins this batch has appended before it does so, and the sync begins after this: it is covered.
        batch, self._batch = self._batch, Batch()
        begun_s = time.monotonic()
        try:
            return self._sync()
        finally:
            self._sync_s = time.monotonic() - begun_s
            self._expected = max(batch.count, 1)
            batch.done.set()
