"""Clocks: the machine's own, one that stands still, and the time of the command that is running.

``perdure.clock.now()`` and its siblings are what a command asks for the time. Inside a command they return the
command's own time, which stands in the journal, so that a replay sees the same; outside they are the real ones. The
same holds for ``perdure.rng`` and ``perdure.uuid4``, which are seeded by the command's entry. The idea is Prevayler's
clock.
"""

from __future__ import annotations

import datetime as _datetime
import hashlib as _hashlib
import random as _random
import threading as _threading
import time as _time
import uuid as _uuid
from typing import Any, Protocol

from perdure.errors import UsageError as _UsageError


class Clock(Protocol):
    """Where the time of new entries comes from."""

    def time_ns(self) -> int:
        """Nanoseconds since the Unix epoch, UTC. It may jump; the journal never lets an entry's time go back."""
        ...


class WallClock:
    """The machine's own clock."""

    time_ns: staticmethod[[], int] = staticmethod(_time.time_ns)


def check_clock(clock: object) -> None:
    """Of what is given as ``clock=``, before anything is made. Raises ``UsageError``."""
    if clock is not None and (isinstance(clock, type) or not callable(getattr(clock, "time_ns", None))):
        raise _UsageError(
            f"clock={clock!r}",
            hint="an object whose time_ns() gives nanoseconds since 1970, such as perdure.testing.FrozenClock(…)",
        )


class Moment:
    """The time and the seed of the command that a machine is running. One per machine, set anew for each command."""

    __slots__ = ("at_ns", "drawn", "log_id", "seq", "utc_offset_min")

    def __init__(self, log_id: bytes) -> None:
        self.log_id: bytes = log_id
        self.seq: int = 0
        self.at_ns: int = 0
        self.utc_offset_min: int = 0
        self.drawn: _random.Random | None = None

    def set(self, seq: int, at_ns: int, utc_offset_min: int) -> None:
        self.seq = seq
        self.at_ns = at_ns
        self.utc_offset_min = utc_offset_min
        self.drawn = None

    @property
    def random(self) -> _random.Random:
        if self.drawn is None:
            seed = self.log_id + self.seq.to_bytes(8, "little") + self.at_ns.to_bytes(8, "little", signed=True)
            self.drawn = _random.Random(_hashlib.blake2b(seed, digest_size=32).digest())
        return self.drawn


class _Running(_threading.local):
    """The command that this thread is executing, if it is executing one."""

    moment: Moment | None = None


running: _Running = _Running()

_EPOCH = _datetime.datetime(1970, 1, 1, tzinfo=_datetime.UTC)


def from_ns(at_ns: int) -> _datetime.datetime:
    """An aware datetime in UTC, to the microsecond."""
    return _EPOCH + _datetime.timedelta(microseconds=at_ns // 1000)


def to_ns(at: _datetime.datetime) -> int:
    """Nanoseconds since the epoch; a naive datetime is taken as local time."""
    delta = (at if at.tzinfo else at.astimezone()) - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1000


def utc_offset_min(at_ns: int) -> int:
    """This machine's offset from UTC at a time, in minutes. It is journaled, so that a replay elsewhere sees the
    same.
    """
    return round(_time.localtime(at_ns // 1_000_000_000).tm_gmtoff / 60)


def now(tz: _datetime.tzinfo | None = None) -> _datetime.datetime:
    """Like ``datetime.datetime.now``: naive local time, or aware in ``tz``.

    Inside a command "local" is where the command was first run, also when it is replayed in another time zone.
    """
    moment = running.moment
    if moment is None:
        return _datetime.datetime.now(tz)
    if tz is not None:
        return from_ns(moment.at_ns).astimezone(tz)
    return from_ns(moment.at_ns).replace(tzinfo=None) + _datetime.timedelta(minutes=moment.utc_offset_min)


def utcnow() -> _datetime.datetime:
    """Naive, in UTC."""
    moment = running.moment
    at_ns = _time.time_ns() if moment is None else moment.at_ns
    return from_ns(at_ns).replace(tzinfo=None)


def today() -> _datetime.date:
    """The local date."""
    return now().date()


def time() -> float:
    """Seconds since the Unix epoch."""
    moment = running.moment
    return (_time.time_ns() if moment is None else moment.at_ns) / 1e9


def uuid4() -> _uuid.UUID:
    """A random UUID; inside a command it is drawn from the command's own seed."""
    moment = running.moment
    if moment is None:
        return _uuid.uuid4()
    return _uuid.UUID(int=moment.random.getrandbits(128), version=4)


class CommandRandom:
    """The methods of ``random.Random``, seeded by the running command's entry; outside a command, the real ones."""

    def __getattr__(self, name: str) -> Any:
        moment = running.moment
        return getattr(_random if moment is None else moment.random, name)


rng: CommandRandom = CommandRandom()


class SystemClock:
    """What ``self._clock`` is inside a system: the functions of this module as methods. It has no state of its own."""

    _only: SystemClock | None = None

    def __new__(cls) -> SystemClock:
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __reduce__(self) -> tuple[type[SystemClock], tuple[()]]:
        return SystemClock, ()

    @staticmethod
    def now(tz: _datetime.tzinfo | None = None) -> _datetime.datetime:
        """``perdure.clock.now``."""
        return now(tz)

    @staticmethod
    def utcnow() -> _datetime.datetime:
        """``perdure.clock.utcnow``."""
        return utcnow()

    @staticmethod
    def today() -> _datetime.date:
        """``perdure.clock.today``."""
        return today()

    @staticmethod
    def time() -> float:
        """``perdure.clock.time``."""
        return time()

    @staticmethod
    def uuid4() -> _uuid.UUID:
        """``perdure.uuid4``."""
        return uuid4()
