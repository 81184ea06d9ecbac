"""What callers have handed to the writer of their node, until it is taken as one entry."""

from __future__ import annotations

import copy
import queue
import threading
from collections.abc import Callable

from perdure.clock import Clock, utc_offset_min
from perdure.cluster._entries import BARRIER, HEAD_BYTES, Head, Request, encode_entry, encode_group
from perdure.cluster._waiting import Batch, Waiting, wake
from perdure.errors import PerdureError
from perdure.records import COMMAND, GROUP

REQUEST_BYTES = 48
"""What a command costs in an entry beside its payload, at most."""
_BATCH_COUNT_MAX = 10_000
_BATCH_BYTES_MAX = 512 * 1024


class Outbox:
    """Any thread may ``put`` and ``withdraw``; one takes batches."""

    def __init__(self, session: bytes, code: int, clock: Clock, entry_bytes_max: int) -> None:
        self._session = session
        self._code = code
        self._clock = clock
        self._bytes_max = min(_BATCH_BYTES_MAX, entry_bytes_max - HEAD_BYTES)
        self._counter = 0
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._held: Waiting | None = None
        self._handing = threading.Lock()

    def put(self, waiting: Waiting) -> None:
        """Hands something over. It is taken, or withdrawn, or refused."""
        self._queue.put(waiting)

    def withdraw(self, waiting: Waiting) -> bool:
        """Takes something back; ``False`` where the writer has it, or has answered it."""
        with self._handing:
            if waiting.done or waiting.taken:
                return False
            waiting.done = True
            return True

    def wake(self) -> None:
        """Has whoever waits for a batch look whether it is time to stop."""
        self._queue.put(None)

    def next_batch(self, stopped: Callable[[], bool]) -> Batch | None:
        """Everything that waits, as one entry; ``None`` when ``stopped``. Blocks while nothing waits."""
        group: list[Waiting] = []
        barriers: list[Waiting] = []
        size = 0
        while not stopped():
            waiting, self._held = self._held, None
            if waiting is None:
                try:
                    waiting = self._queue.get(block=not (group or barriers))
                except queue.Empty:
                    break
                if waiting is None:
                    continue
            if waiting.kind == COMMAND:
                size += len(waiting.payload) + REQUEST_BYTES
                if group and size > self._bytes_max:
                    self._held = waiting
                    break
            elif waiting.kind != BARRIER and (group or barriers):
                self._held = waiting  # It travels alone.
                break
            with self._handing:
                if waiting.done:
                    continue  # Withdrawn.
                waiting.taken = True
            (barriers if waiting.kind == BARRIER else group).append(waiting)
            if waiting.kind not in (COMMAND, BARRIER) or len(group) >= _BATCH_COUNT_MAX:
                break
        return self._batch_of(group, barriers) if group or barriers else None

    def _batch_of(self, group: list[Waiting], barriers: list[Waiting]) -> Batch:
        if group and group[0].kind != COMMAND:
            kind, body = group[0].kind, group[0].payload
        elif group:
            kind = GROUP
            body = encode_group([Request(each.payload, each.client, each.counter) for each in group])
        else:
            kind, body = BARRIER, b""
        at_ns = self._clock.time_ns()
        self._counter += 1
        id = self._session + self._counter.to_bytes(8, "big")
        data = encode_entry(Head(kind, utc_offset_min(at_ns), at_ns, self._code), body)
        # Whoever only wants to know when the entry comes back rides along behind the commands.
        return Batch(id, data, group + barriers)

    def refuse(self, error: PerdureError) -> None:
        """Tells everybody who is still in it."""
        while True:
            try:
                waiting = self._held or self._queue.get_nowait()
            except queue.Empty:
                return
            self._held = None
            if waiting is not None and self.withdraw(waiting):
                waiting.error = copy.copy(error)
                wake(waiting)
