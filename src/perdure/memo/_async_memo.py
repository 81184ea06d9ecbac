"""The same for ``async`` functions. Nothing here blocks the loop: the disk is read and written by helper threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any, ParamSpec

from perdure.errors import PersistableError
from perdure.memo._function import Memo, Settings, deliver
from perdure.memo._lease import waits_s
from perdure.memo._store import Store

P = ParamSpec("P")

_computing: contextvars.ContextVar[frozenset[bytes]] = contextvars.ContextVar("perdure_memo", default=frozenset())


class AsyncMemo(Memo[P, Any]):
    """Called it returns a coroutine. Tasks share one computation; if its task is cancelled, another one takes over."""

    def __init__(self, function: Callable[P, Any], settings: Settings, store: Store) -> None:
        super().__init__(function, settings, store)
        # By loop and key; one task of each loop at a time goes on to wait for threads and processes.
        self._task_locks: dict[tuple[int, bytes], tuple[asyncio.Lock, int]] = {}
        # What tells that calling this returns a coroutine: before Python 3.12, and since.
        self._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
        if hasattr(inspect, "markcoroutinefunction"):
            inspect.markcoroutinefunction(self)

    def _ask(self, args: tuple[Any, ...], kwargs: dict[str, Any], plain: Any) -> Any:
        return self._ask_async(args, kwargs, plain)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """As for ``Memo``; to be awaited."""
        return self._ask_async(args, kwargs, None)

    async def _ask_async(self, args: tuple[Any, ...], kwargs: dict[str, Any], plain: Any) -> Any:
        key = self._key(args, kwargs)
        kept = self._front.get(key)
        # What is in memory needs no helper thread.
        found = self._recall(key, plain) if kept is not None else await asyncio.to_thread(self._recall, key, plain)
        if found is None:
            if key in _computing.get():
                raise PersistableError(
                    f"the result of {self._name} needs itself to be computed",
                    hint="the function awaits, directly or through others, the result that it is computing",
                )
            async with self._task_turn(key), self._leased_async(key):
                found = await asyncio.to_thread(self._recall, key, plain)
                if found is None:
                    self._misses += 1
                    return await self._compute_async(key, args, kwargs)
        self._hits += 1
        return deliver(found)

    async def _compute_async(self, key: bytes, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        token = _computing.set(_computing.get() | {key})
        try:
            value = await self._function(*args, **kwargs)
        except self._settings.exceptions as error:
            await asyncio.to_thread(self._save, key, error, raised=True)
            raise
        finally:
            _computing.reset(token)
        return await asyncio.to_thread(self._save, key, value)

    @contextlib.asynccontextmanager
    async def _task_turn(self, key: bytes) -> AsyncIterator[None]:
        """One task of this loop at a time."""
        place = id(asyncio.get_running_loop()), key
        lock, count = self._task_locks.get(place) or (asyncio.Lock(), 0)
        self._task_locks[place] = lock, count + 1
        try:
            async with lock:
                yield
        finally:
            lock, count = self._task_locks.pop(place)
            if count > 1:
                self._task_locks[place] = lock, count - 1

    @contextlib.asynccontextmanager
    async def _leased_async(self, key: bytes) -> AsyncIterator[None]:
        """One process at a time, and one thread of this one."""
        lease = self._store.lease(key)
        try:
            with contextlib.suppress(OSError):  # As for ``_leased``.
                await asyncio.to_thread(self._store.prepare)
                for wait_s in waits_s():
                    if lease.take_now():
                        break
                    await asyncio.sleep(wait_s)
            yield
        finally:
            lease.give_back()
