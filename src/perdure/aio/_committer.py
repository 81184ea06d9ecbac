"""Commands of an event loop's tasks: collected on its thread, synced beside it, applied on it.

The life of a batch, with the thread that each step is taken by:

1. loop: tasks submit commands. When all tasks that were ready have run, what they submitted is a batch.
2. helper: takes the machine's order lock, writes the batch and syncs it. The loop goes on meanwhile, and collects.
3. loop: applies the batch, in slices of at most ``SLICE_S``, so that other callbacks come in between.
4. helper: gives the order lock back. loop: the next batch.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextvars import copy_context
from typing import Any

from perdure.errors import ClosedError, RecordTooLargeError
from perdure.machine import Machine, Pending
from perdure.records import COMMAND, NO_CLIENT

SLICE_S = 0.005
"""For so long commands are applied before the loop has its turn: well below the 50 ms that it may be late."""
BATCH_COUNT_MAX = 10_000
_LOOK_S = 0.5  # The helper looks this often whether the loop still exists.


class Submitted(Pending, eq=False):
    """A command, and the future that its task waits for."""

    future: Any = None


class Committer:
    """Handles commands for the tasks of one event loop. Made on the loop's thread; all its methods belong there.

    Other threads may call ``machine.handle`` at the same time: all commands have one order.
    """

    def __init__(self, machine: Machine) -> None:
        """Starts one thread. The running loop is the one that it serves."""
        self._machine = machine
        self._loop = asyncio.get_running_loop()
        self._new_future = self._loop.create_future
        self._waiting: list[Submitted] = []
        self._is_planned = False  # Whether a flush is on its way, or follows what the helper does now.
        self._is_closed = False
        self._entry_bytes_max = machine.journal.capabilities.entry_bytes_max
        self._drained: asyncio.Future[None] | None = None
        self._inbox: queue.SimpleQueue[list[Submitted] | None] = queue.SimpleQueue()
        self._steps: Iterator[Sequence[Pending]] = iter(())
        self._stepped = threading.Event()
        self._thread = threading.Thread(target=self._help, name="perdure-committer", daemon=True)
        self._thread.start()

    def submit(
        self, payload: bytes, call: Any = None, *, client: bytes = NO_CLIENT, counter: int = 0
    ) -> asyncio.Future[Any]:
        """Accepts a command; the future gets its result or its exception. Arguments as for ``Machine.handle``.

        What was accepted runs: cancelling the future takes nothing back.

        Raises:
            RecordTooLargeError, ClosedError, CodecError: nothing happened; the future's errors are those of ``handle``.
        """
        if self._is_closed:
            raise ClosedError("it was closed", path=self._machine.path)
        if len(payload) > self._entry_bytes_max:
            # Here, because a batch is written wholly or not at all: the others must not suffer.
            raise RecordTooLargeError(
                f"an entry of {len(payload)} bytes; at most {self._entry_bytes_max} go in", path=self._machine.path
            )
        if call is None:
            call = self._machine.state.decode(payload)
        future = self._new_future()
        self._waiting.append(
            Submitted(COMMAND, payload, client, counter, call=call, context=copy_context(), future=future)
        )
        if not self._is_planned:
            self._is_planned = True
            # Behind all callbacks that are ready now: their commands share the sync.
            self._loop.call_soon(self._flush)
        return future

    async def drain(self) -> None:
        """Returns when everything accepted before the call has been answered."""
        while self._is_planned:
            if self._drained is None:
                self._drained = self._new_future()
            await asyncio.shield(self._drained)

    async def aclose(self) -> None:
        """Accepts no more, waits for what was accepted, and ends the thread. Idempotent. The machine stays open."""
        self._is_closed = True
        await self.drain()
        if self._thread.is_alive():
            self._inbox.put(None)
            await self._loop.run_in_executor(None, self._thread.join)

    # ---- on the loop's thread

    def _flush(self) -> None:
        batch = self._waiting[:BATCH_COUNT_MAX]
        del self._waiting[:BATCH_COUNT_MAX]
        self._inbox.put(batch)

    def _step(self) -> None:
        """Applies for one slice, and answers."""
        until = time.perf_counter() + SLICE_S
        try:
            for part in self._steps:
                for submitted in part:
                    future = submitted.future  # type: ignore[attr-defined]
                    if submitted.error is None:
                        if not future.done():
                            future.set_result(submitted.result)
                    elif isinstance(submitted.error, Exception):
                        _answer(submitted)
                if time.perf_counter() >= until:
                    self._loop.call_soon(self._step)
                    return
        except BaseException:
            self._stepped.set()
            raise
        self._stepped.set()

    def _finished(self, batch: list[Submitted]) -> None:
        """The machine is done with a batch: who has no answer yet was refused, or repeats a request."""
        for submitted in batch:
            _answer(submitted)
        if self._waiting:
            self._flush()
            return
        self._is_planned = False
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    # ---- on the helper's thread

    def _help(self) -> None:
        while (batch := self._inbox.get()) is not None:
            try:
                self._machine.handle_batch(batch, self._apply_on_loop)  # type: ignore[arg-type]
            finally:
                try:
                    self._loop.call_soon_threadsafe(self._finished, batch)
                except RuntimeError:
                    # The loop was closed before its commands were done. They are; nobody is left to be told.
                    return

    def _apply_on_loop(self, steps: Iterator[Sequence[Pending]]) -> None:
        self._steps = steps
        self._stepped.clear()
        try:
            self._loop.call_soon_threadsafe(self._step)
            while not self._stepped.wait(_LOOK_S):
                if self._loop.is_closed():
                    raise RuntimeError
        except RuntimeError:
            # No loop any more, so nobody that could be disturbed. Memory must not stay behind the journal.
            for _ in steps:
                pass


def _answer(submitted: Any) -> None:
    future = submitted.future
    if future.done():
        return
    error = submitted.error
    if error is None:
        future.set_result(submitted.result)
        return
    if isinstance(error, StopIteration):
        # A future does not take it: it would look like the end of whoever awaits.
        replaced = RuntimeError("the method raised StopIteration")
        replaced.__cause__ = error
        error = replaced
    future.set_exception(error)
