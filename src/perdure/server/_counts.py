"""What the server counts, for /metrics and the page."""

from __future__ import annotations

import time
from collections import Counter

_WINDOW_S = 60


class Counts:
    """Plain numbers, changed on the event loop only."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        """By method and status: "ok", or what went wrong."""
        self.seconds: dict[str, float] = {}
        """By method: time until the answer, summed."""
        self.failures: Counter[str] = Counter()
        self.calls_now = 0
        self.feeds_now = 0
        self.started = time.time()

    def call(self, method: str, status: str, seconds: float) -> None:
        self.calls[method, status] += 1
        self.seconds[method] = self.seconds.get(method, 0.0) + seconds


class Rate:
    """Commands per second over the last minute, from looking at the seq now and then."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, int]] = []

    def sample(self, seq: int) -> float:
        """Notes where it stands; the rate since the oldest look that is not older than a minute."""
        now = time.monotonic()
        self._samples = [each for each in self._samples if now - each[0] <= _WINDOW_S][-_WINDOW_S:]
        self._samples.append((now, seq))
        began, first = self._samples[0]
        return (seq - first) / (now - began) if now - began > 0.1 else 0.0
