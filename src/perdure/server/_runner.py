"""Running queries and commands for an event loop that must not wait.

Most methods are memory work of microseconds, and going to another thread costs more than that. So a query runs on the
loop where its last calls were quick and the lock is free; and a command whose last calls were quick goes to the
machine's committer, which shares one sync among all that wait and runs them on the loop. All others run in threads.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

from perdure.aio import Committer
from perdure.machine import Refusing
from perdure.system import System, encode_command, marks
from perdure.wire import Method

Result = TypeVar("Result")

_QUICK_S = 0.000_5
_REMEMBERED = 64
_THREADS_MAX = 32


class Prepared(NamedTuple):
    """A command before it is handed over. ``call``: what the machine runs; ``payload``: what it journals."""

    method: Method
    payload: bytes
    call: Any


class Runner:
    """Runs the methods of one system. Belongs to one event loop; ``close`` it there."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._timed: dict[str, Callable[..., Any]] = {}
        self._durations: dict[str, deque[float]] = {}
        self._committer: Committer | None = None
        self._threads = ThreadPoolExecutor(_THREADS_MAX, thread_name_prefix="perdure-server")

    async def in_thread(self, work: Callable[..., Result], *args: Any) -> Result:
        """Calls what may take long, or waits for a disk."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    async def in_step(self, work: Callable[..., Result], *args: Any) -> Result:
        """Calls something short while no command runs: here if the lock is free, else in a thread."""
        lock = self.system.engine.lock
        if not isinstance(lock, Refusing) and lock.acquire(blocking=False):
            try:
                return work(*args)
            finally:
                lock.release()

        def locked() -> Result:
            with lock:
                return work(*args)

        return await self.in_thread(locked)

    # ---- queries

    async def query(
        self, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any], finish: Callable[[Any], bytes]
    ) -> bytes:
        """``finish`` of the result, both while no command runs. Raises what the method raises."""
        lock = self.system.engine.lock
        if isinstance(lock, Refusing):
            with lock:
                raise AssertionError("unreachable")
        if self._is_quick(method.name) and lock.acquire(blocking=False):
            try:
                return self._query(method, args, kwargs, finish)
            finally:
                lock.release()
        return await self.in_thread(self._query, method, args, kwargs, finish)

    def _is_quick(self, name: str) -> bool:
        durations = self._durations.get(name)
        return durations is not None and len(durations) > 0 and max(durations) < _QUICK_S

    def _query(
        self, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any], finish: Callable[[Any], bytes]
    ) -> bytes:
        started = time.perf_counter()
        with self.system.engine.lock:
            entered = time.perf_counter()
            try:
                # The result may be a part of the state: it is written down before the next command changes it.
                return finish(self.system.query(method.name, method.function, args, kwargs))
            finally:
                durations = self._durations.setdefault(method.name, deque(maxlen=_REMEMBERED))
                durations.append(time.perf_counter() - max(started, entered))

    # ---- commands

    def encode(self, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Prepared:
        """A command as the journal will have it. Raises ``CodecError`` where an argument cannot be stored."""
        payload, args, kwargs = encode_command(self.system.codec, method.name, args, kwargs)
        timed = self._timed.get(method.name) or self._timing(method)
        return Prepared(method, payload, (timed, args, kwargs))

    def _timing(self, method: Method) -> Callable[..., Any]:
        """The method's function, with a watch on how long it takes."""
        function = method.function
        if marks(function).abort_exception:
            # Whether it changed anything before it raised is found out about the very function that was called. It is
            # never known to be quick, so it runs in a thread.
            timed = function
        else:
            durations = self._durations.setdefault(method.name, deque(maxlen=_REMEMBERED))

            @functools.wraps(function)
            def timed(*args: Any, **kwargs: Any) -> Any:
                started = time.perf_counter()
                try:
                    return function(*args, **kwargs)
                finally:
                    durations.append(time.perf_counter() - started)

        self._timed[method.name] = timed
        return timed

    def command(self, prepared: Prepared, client: bytes, counter: int) -> asyncio.Future[Any]:
        """The future result of a command; whatever becomes of the caller, it runs.

        Raises ``RecordTooLargeError``, ``ClosedError``: nothing happened.
        """
        writer, machine = self.system.writer, self.system.machine
        assert writer is not None
        if machine is None or not self._is_quick(prepared.method.name):

            def handle() -> Any:
                return writer.handle(prepared.payload, prepared.call, client=client, counter=counter)

            return asyncio.get_running_loop().run_in_executor(self._threads, handle)
        if self._committer is None:
            self._committer = Committer(machine)
        return self._committer.submit(prepared.payload, prepared.call, client=client, counter=counter)

    async def close(self) -> None:
        """Waits for what was accepted. The system stays open."""
        if self._committer is not None:
            await self._committer.aclose()
        await asyncio.to_thread(self._threads.shutdown)
