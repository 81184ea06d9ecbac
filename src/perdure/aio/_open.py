"""``perdure.open_async``."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Generator
from typing import Any, Unpack

from perdure import system
from perdure.aio._control import AsyncControl
from perdure.aio._system import make_async
from perdure.system import Memory, OpenOptions


class Opening:
    """An opening that has not happened yet: ``async with`` it, or await it and close what comes back."""

    def __init__(self, target: Any, where: str | os.PathLike[str] | Memory | None, options: OpenOptions) -> None:
        self._target = target
        self._where = where
        self._options = options
        self._opened: Any = None

    async def _open(self) -> Any:
        # In a thread: recovery may take its time.
        proxy = await asyncio.to_thread(lambda: system.open(self._target, self._where, **self._options))
        self._opened = make_async(proxy)
        return self._opened

    def __await__(self) -> Generator[Any, None, Any]:
        return self._open().__await__()

    async def __aenter__(self) -> Any:
        return await self._open()

    async def __aexit__(self, *_: object) -> None:
        control: AsyncControl = self._opened._perdure_control
        await control.close()


def open_async(
    target: Any, where: str | os.PathLike[str] | Memory | None = None, **options: Unpack[OpenOptions]
) -> Opening:
    """Like ``open``, for the tasks of an event loop: ``async with perdure.open_async(Wiki, "wiki/") as wiki``.

    Every method is awaited. A command has its place among all others when it is called; the await is for the sync,
    which all commands called meanwhile share, and for its result. It runs on the loop's thread, so what tasks read of
    the object does not change under their hands. Queries answer at once; attributes, properties, ``len``, ``in`` and
    ``[]`` are read without an await. ``perdure.control`` gives an ``AsyncControl``.

    A task that is cancelled stops waiting; the command runs all the same. Closing waits for what was accepted. All of
    it belongs to the loop on which it was opened. Methods must be short: the loop waits while one runs.

    Raises what ``open`` raises; a command raises what ``Machine.handle`` and the method raise, when it is awaited, and
    ``CodecError``, ``RecordTooLargeError`` and ``ClosedError`` when it is called.
    """
    if isinstance(target, type) and target.__module__ in ("builtins", "collections"):
        # ``open`` looks at who calls it; in its thread it would not find out.
        package = str(sys._getframe(1).f_globals.get("__name__", "__main__")).partition(".")[0]
        options["allow"] = (*options.get("allow", ()), package)
    return Opening(target, where, options)
