"""Testing a class on its own, without opening it: its ``_clock``. The names are coopy's."""

from __future__ import annotations

import datetime
from typing import TypeVar

from perdure.clock import SystemClock
from perdure.errors import UsageError
from perdure.system import is_proxy
from perdure.testing._clocks import FrozenClock

T = TypeVar("T")


class TestSystemMixin:
    """Gives plain objects the ``_clock`` that a system has. ::

    class TestWiki(TestSystemMixin):
        def test_a_page_knows_when_it_was_made(self):
            wiki = self.mock_clock(Wiki(), datetime.datetime(2030, 1, 1))
            assert wiki.create_page("Home").made == datetime.datetime(2030, 1, 1)
    """

    __test__: bool = False  # Its name makes pytest look for tests in it.

    def __init_subclass__(cls) -> None:
        # A class that mixes it in is looked into like any other.
        if "__test__" not in cls.__dict__:
            cls.__test__ = True

    def enable_clock(self, obj: T) -> T:
        """Gives ``obj`` a clock that tells the real time, and returns it."""
        obj._clock = SystemClock()  # type: ignore[attr-defined]
        return obj

    def mock_clock(self, obj: T, dt: datetime.datetime) -> T:
        """Gives ``obj`` a clock that stands still at ``dt``, and returns it.

        Raises ``UsageError`` for an opened system: the time of its commands stands in its journal.
        """
        if is_proxy(obj):
            raise UsageError(
                "an opened system has the time from its journal",
                hint="open it with clock=perdure.testing.FrozenClock(…)",
            )
        obj._clock = FrozenClock(dt)  # type: ignore[attr-defined]
        return obj
