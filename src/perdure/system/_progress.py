"""A progress bar for restores that take longer than a moment."""

from __future__ import annotations

import sys
import time

from perdure.limits import PROGRESS_AFTER_S


class RestoreProgress:
    """Called with (entries applied, entries in all). Shows nothing where standard error is no terminal."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        elapsed_s = time.monotonic() - self._started
        if elapsed_s < PROGRESS_AFTER_S or not sys.stderr.isatty():
            return
        rate = done / elapsed_s
        left_s = (total - done) / rate if rate else 0.0
        width = 30
        filled = width * done // max(1, total)
        bar = "█" * filled + "░" * (width - filled)
        sys.stderr.write(f"\rrestoring {bar} {done:,}/{total:,} entries, {rate:,.0f}/s, {left_s:.0f} s left \x1b[K")
        if done >= total:
            sys.stderr.write("\n")
        sys.stderr.flush()
