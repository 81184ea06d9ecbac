"""Clocks that tests set by hand, and the mixin with coopy's names."""

from __future__ import annotations

import datetime
import zoneinfo

import pytest

import perdure
from perdure.testing import FrozenClock, ManualClock, TestSystemMixin
from tests.unit.system.models import Wiki

AT = datetime.datetime(2030, 6, 1, 12, 30, 15, 123456, tzinfo=datetime.UTC)
NAIVE = datetime.datetime(2030, 6, 1, 12, 30)


def test_a_frozen_clock_stands_still() -> None:
    clock = FrozenClock(AT)
    assert clock.now(datetime.UTC) == clock.now(datetime.UTC) == AT
    assert clock.utcnow() == AT.replace(tzinfo=None)
    assert clock.time() == AT.timestamp()
    assert clock.time_ns() == round(AT.timestamp() * 1e6) * 1000
    assert clock.now(zoneinfo.ZoneInfo("Asia/Tokyo")).hour == 21


def test_a_naive_time_is_local() -> None:
    clock = FrozenClock(NAIVE)
    assert clock.now() == NAIVE
    assert clock.today() == NAIVE.date()
    assert clock.utcnow() == NAIVE.astimezone(datetime.UTC).replace(tzinfo=None)


def test_a_manual_clock_moves_when_it_is_told_to() -> None:
    clock = ManualClock(AT)
    clock.advance(1.5)
    assert clock.now(datetime.UTC) == AT + datetime.timedelta(seconds=1.5)
    clock.advance(-10)
    assert clock.now(datetime.UTC) < AT
    clock.set(NAIVE)
    assert clock.now() == NAIVE


def test_a_system_takes_its_time_from_the_clock_it_is_given() -> None:
    clock = ManualClock(AT)
    with perdure.open(Wiki, perdure.MEMORY, clock=clock) as wiki:
        wiki.create("one")
        clock.advance(3600)
        wiki.create("two")
        assert wiki.pages["two"].made - wiki.pages["one"].made == datetime.timedelta(hours=1)
        assert [command.at for command in perdure.control(wiki).history()] == [AT, AT + datetime.timedelta(hours=1)]


def test_time_in_a_system_never_goes_back() -> None:
    clock = ManualClock(AT)
    with perdure.open(Wiki, perdure.MEMORY, clock=clock) as wiki:
        wiki.create("one")
        clock.advance(-3600)
        wiki.create("two")
        assert wiki.pages["two"].made == wiki.pages["one"].made


class Diary:
    def __init__(self) -> None:
        self.lines: list[tuple[datetime.datetime, str]] = []

    def write(self, text: str) -> None:
        self.lines.append((self._clock.now(), text))  # type: ignore[attr-defined]


class TestDiary(TestSystemMixin):
    def test_a_mocked_clock_stands_still(self) -> None:
        diary = Diary()
        self.mock_clock(diary, NAIVE)
        diary.write("a")
        diary.write("b")
        assert diary.lines == [(NAIVE, "a"), (NAIVE, "b")]
        assert diary._clock.utcnow() == FrozenClock(NAIVE).utcnow()  # type: ignore[attr-defined]

    def test_an_enabled_clock_tells_the_time(self) -> None:
        before = datetime.datetime.now()
        diary = self.enable_clock(Diary())
        diary.write("a")
        assert before <= diary.lines[0][0] <= datetime.datetime.now()


def test_the_mixin_can_be_used_without_a_test_class() -> None:
    diary = Diary()
    TestSystemMixin().mock_clock(diary, NAIVE)
    diary.write("x")
    assert diary.lines == [(NAIVE, "x")]
    assert not TestSystemMixin.__test__
    assert TestDiary.__test__


def test_a_mocked_object_opens_like_any_other() -> None:
    diary = TestSystemMixin().enable_clock(Diary())
    with perdure.open(diary, perdure.MEMORY, clock=FrozenClock(AT)) as opened:
        opened.write("x")
        assert opened.lines[0][0] == FrozenClock(AT).now()


def test_an_opened_system_is_given_its_clock_at_open() -> None:
    with perdure.open(Diary, perdure.MEMORY) as opened:
        with pytest.raises(perdure.UsageError, match=r"clock=perdure\.testing\.FrozenClock"):
            TestSystemMixin().mock_clock(opened, NAIVE)
        assert perdure.control(opened).seq == 0
