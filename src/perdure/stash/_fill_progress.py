"""How far a fill is."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TextIO

from perdure.limits import PROGRESS_AFTER_S

LINE_EACH_S = 30.0
LINE_EACH_ASKED_S = 5.0


class FillProgress(NamedTuple):
    """``done``: elements that are finished, failures included. ``failed``: items that could not be made.

    ``rate``: elements per second so far. ``left_s``: at that rate; ``None`` while nothing is done.
    """

    done: int
    total: int
    failed: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        return (self.total - self.done) / self.rate if self.done else None

    def __str__(self) -> str:
        left = "" if self.left_s is None else f", {_duration(self.left_s)} left"
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"{self.done} of {self.total} ({100 * self.done // max(1, self.total)} %), {self.rate:.3g}/s{left}{failed}"
        )


ProgressLike = bool | Callable[[FillProgress], object] | None


class Reporter:
    """Tells of a fill: a bar on a terminal, plain lines elsewhere, or calls of a function.

    ``wanted``: ``None``: on a terminal once it has lasted a moment, elsewhere a line each half minute. ``True``: at
    once. ``False``: never. A function: called after each chunk with a ``FillProgress``.
    """

    def __init__(self, wanted: ProgressLike, title: str, total: int, *, stream: TextIO | None = None) -> None:
        self._wanted = wanted
        self._title = title
        self._total = total
        self._stream = stream or sys.stderr
        self._begun_s = time.monotonic()
        self._told_s = self._begun_s
        self._bar: Any = None
        self._bar_task: Any = None
        self.done = 0
        self.failed = 0

    def now(self) -> FillProgress:
        return FillProgress(self.done, self._total, self.failed, time.monotonic() - self._begun_s)

    def tell(self) -> None:
        """Show how far it is, if it is time for that."""
        wanted = self._wanted
        if wanted is False:
            return
        if callable(wanted):
            wanted(self.now())
            return
        now_s = time.monotonic()
        if self._bar is not None:
            self._update_bar()
        elif self._stream.isatty():
            if wanted or now_s - self._begun_s > PROGRESS_AFTER_S:
                self._begin_bar()
        elif now_s - self._told_s > (LINE_EACH_ASKED_S if wanted else LINE_EACH_S):
            self._told_s = now_s
            self._line()

    def _line(self) -> None:
        self._stream.write(f"{self._title}: {self.now()}\n")
        self._stream.flush()

    def _begin_bar(self) -> None:
        try:
            progress, console = importlib.import_module("rich.progress"), importlib.import_module("rich.console")
        except ImportError:
            self._line()
            return
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeRemainingColumn(),
            progress.TextColumn("[red]{task.fields[failed]} failed"),
            console=console.Console(file=self._stream),
        )
        self._bar_task = self._bar.add_task(self._title, total=self._total, failed=0, rate="")
        self._bar.start()
        self._update_bar()

    def _update_bar(self) -> None:
        rate = f"{self.now().rate:.3g}/s"
        self._bar.update(self._bar_task, completed=self.done, failed=self.failed, rate=rate)

    def end(self) -> None:
        """Show the last state, and leave the terminal as it was."""
        if self._bar is not None:
            self._update_bar()
            self._bar.stop()
        elif self._wanted is True or self._told_s > self._begun_s:
            self._line()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {int(seconds)} s" if minutes else f"{int(seconds)} s"
