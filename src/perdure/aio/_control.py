"""``perdure.control`` of what ``open_async`` gives."""

from __future__ import annotations

import asyncio
import datetime
import os
from collections.abc import Callable
from typing import Any

from perdure.machine import RecoveryReport
from perdure.system import Command, Control, Lag


class AsyncControl:
    """Like ``Control``: what stands still is a property, what may wait for a disk is awaited, and done in a thread."""

    def __init__(self, control: Control, committer: Any) -> None:
        self._control = control
        self._committer = committer

    @property
    def seq(self) -> int:
        """See ``Control.seq``."""
        return self._control.seq

    @property
    def durable_seq(self) -> int:
        """See ``Control.durable_seq``."""
        return self._control.durable_seq

    @property
    def path(self) -> str | None:
        """See ``Control.path``."""
        return self._control.path

    @property
    def closed(self) -> bool:
        """See ``Control.closed``."""
        return self._control.closed

    @property
    def report(self) -> RecoveryReport:
        """See ``Control.report``."""
        return self._control.report

    @property
    def lag(self) -> Lag | None:
        """See ``Control.lag``."""
        return self._control.lag

    def subscribe(self, subscriber: Callable[[Command], None]) -> Callable[[], None]:
        """See ``Control.subscribe``; it is called on the loop's thread."""
        return self._control.subscribe(subscriber)

    async def take_snapshot(self) -> int:
        """See ``Control.take_snapshot``."""
        return await asyncio.to_thread(self._control.take_snapshot)

    async def sync(self) -> int:
        """See ``Control.sync``."""
        return await asyncio.to_thread(self._control.sync)

    async def history(self, after: int = 0, before: int | None = None) -> list[Command]:
        """See ``Control.history``; all of them at once."""
        return await asyncio.to_thread(lambda: list(self._control.history(after, before)))

    async def at(self, when: int | datetime.datetime) -> Any:
        """See ``Control.at``."""
        return await asyncio.to_thread(self._control.at, when)

    async def digest(self) -> str:
        """See ``Control.digest``."""
        return await asyncio.to_thread(self._control.digest)

    async def promote(self, where: str | os.PathLike[str] | None = None) -> None:
        """See ``Control.promote``."""
        await asyncio.to_thread(self._control.promote, where)

    async def close(self) -> None:
        """Waits for what was accepted, then as ``Control.close``. Idempotent."""
        try:
            await self._committer.aclose()
        finally:
            await asyncio.to_thread(self._control.close)
