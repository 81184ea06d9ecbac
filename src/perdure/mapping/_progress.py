"""Showing how far a program has come with its jobs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

from perdure.errors import ClosedError

_BAR_INTERVAL_S = 0.2
_LINES_INTERVAL_S = 10.0


class Progress:
    """A context manager: looks at the counts every now and then, from a thread of its own, and shows them.

    On a terminal it is a bar (with ``rich``, where that is installed); elsewhere a line, when something has changed.
    """

    def __init__(
        self, counts: Callable[[], dict[str, int]], description: str, *, file: TextIO | None, interval_s: float | None
    ) -> None:
        self._counts = counts
        self._description = description
        self._file = file or sys.stderr
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        bar = _bar(self._file, description) if self._file.isatty() else None
        self._show: Callable[[dict[str, int]], None] = self._write_line if bar is None else bar.show
        self._bar = bar
        self._interval_s = interval_s or (_LINES_INTERVAL_S if bar is None else _BAR_INTERVAL_S)
        self._last_line = ""
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        self.show()
        self._thread = threading.Thread(target=self._run, name="perdure-progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.show()
        if self._bar is not None:
            self._bar.stop()

    def show(self) -> None:
        """Once, now."""
        try:
            self._show(self._counts())
        except ClosedError:
            self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.show()

    def _write_line(self, counts: dict[str, int]) -> None:
        line = f"{self._description}: {counts['done']}/{counts['total']} done"
        line += "".join(f", {counts[name]} {name}" for name in ("failed", "aborted", "claimed") if counts[name])
        if line != self._last_line:
            self._last_line = line
            self._file.write(f"{line} ({time.monotonic() - self._started:.0f} s)\n")
            self._file.flush()


class _RichBar:
    def __init__(self, progress: Any, description: str) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=None, rest="")
        progress.start()

    def show(self, counts: dict[str, int]) -> None:
        rest = " ".join(f"{counts[name]} {name}" for name in ("failed", "aborted", "claimed") if counts[name])
        self._progress.update(self._task, completed=counts["done"], total=counts["total"] or None, rest=rest)

    def stop(self) -> None:
        self._progress.stop()


def _bar(file: TextIO, description: str) -> _RichBar | None:
    """``None`` where rich is not installed: then lines have to do."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        return None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rest]}"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=Console(file=file))
    return _RichBar(progress, description)
