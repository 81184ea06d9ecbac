"""Clocks that tests set by hand."""

from __future__ import annotations

import datetime as _datetime
import threading

from perdure.clock import from_ns, to_ns


class FrozenClock:
    """A clock that stands still.

    It serves as ``perdure.open(…, clock=)``, where the time of entries comes from, and as ``self._clock`` of a plain
    object. A naive datetime is local time, as everywhere in the standard library.
    """

    def __init__(self, at: _datetime.datetime) -> None:
        self._at_ns = to_ns(at)

    def time_ns(self) -> int:
        return self._at_ns

    def now(self, tz: _datetime.tzinfo | None = None) -> _datetime.datetime:
        """Naive local time, or aware in ``tz``."""
        at = from_ns(self.time_ns())
        return at.astimezone().replace(tzinfo=None) if tz is None else at.astimezone(tz)

    def utcnow(self) -> _datetime.datetime:
        """Naive, in UTC."""
        return from_ns(self.time_ns()).replace(tzinfo=None)

    def today(self) -> _datetime.date:
        """The local date."""
        return self.now().date()

    def time(self) -> float:
        """Seconds since the Unix epoch."""
        return self.time_ns() / 1e9


class ManualClock(FrozenClock):
    """A clock that moves when it is told to, in either direction. Any thread may call."""

    def __init__(self, start: _datetime.datetime) -> None:
        super().__init__(start)
        self._lock = threading.Lock()

    def advance(self, seconds: float) -> None:
        """Moves on; a negative number moves back."""
        with self._lock:
            self._at_ns += round(seconds * 1_000_000_000)

    def set(self, at: _datetime.datetime) -> None:
        self._at_ns = to_ns(at)
