"""``assert_replayable`` and the Hypothesis strategies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

import perdure
from perdure.codecs import Json, MsgPack, Pickle
from perdure.testing import assert_replayable, commands, storable_values
from tests.unit.system.models import Counter, Loose, Wiki


def test_a_sound_system_replays(tmp_path: Path) -> None:
    with perdure.open(Wiki, tmp_path / "w") as wiki:
        wiki.create("a", "text")
        with pytest.raises(ValueError, match="half way"):
            wiki.fail_half_way("x")
        perdure.control(wiki).take_snapshot()
        with pytest.raises(ValueError, match="empty"):
            wiki.all_or_nothing("a", "")
        wiki.draw()
        assert_replayable(wiki)
        wiki.note("it goes on")
        assert_replayable(wiki)


def test_the_command_that_does_not_replay_is_named() -> None:
    with perdure.open(Loose, perdure.MEMORY, validate="off") as loose:
        loose.steady()
        loose.steady()
        loose.chance()
        loose.steady()
        with pytest.raises(AssertionError, match=r"seq 3: chance\(\)"):
            assert_replayable(loose)


def test_a_change_outside_of_commands_is_found() -> None:
    with perdure.open(Counter, perdure.MEMORY) as counter:
        counter.add(1)
        counter.added.append(99)
        with pytest.raises(AssertionError, match="outside of any command"):
            assert_replayable(counter)


def test_the_snapshots_in_between_are_compared_too(tmp_path: Path) -> None:
    with perdure.open(Counter, tmp_path / "c", keep_history=True) as counter:
        counter.add(1)
        counter.added.append(99)
        perdure.control(counter).take_snapshot()
        counter.added.pop()
        counter.add(1)
        with pytest.raises(AssertionError, match="between 1 and 1"):
            assert_replayable(counter)


def test_only_a_writer_can_be_replayed(tmp_path: Path) -> None:
    with perdure.open(Counter, tmp_path / "c") as counter:
        counter.add(1)
        with perdure.open(Counter, tmp_path / "c", mode="r") as reader, pytest.raises(perdure.UsageError):
            assert_replayable(reader)
    with pytest.raises(perdure.UsageError):
        assert_replayable(Counter())


@given(storable_values())
def test_storable_values_can_be_stored(value: Any) -> None:
    codec = Pickle()
    assert codec.decode(codec.encode(value)) == value


@given(storable_values(plain=True))
def test_plain_storable_values_suit_every_codec(value: Any) -> None:
    for codec in (Json(), MsgPack()):
        assert codec.decode(codec.encode(value)) == value


@given(commands(Counter))
def test_sequences_of_commands_leave_what_the_plain_object_has(calls: list[Any]) -> None:
    plain = Counter()
    with perdure.open(Counter, perdure.MEMORY) as counter:
        for call in calls:
            outcomes = []
            for target in (plain, counter):
                try:
                    outcomes.append(call(target))
                except ValueError as error:
                    outcomes.append(str(error))
            assert outcomes[0] == outcomes[1]
        assert counter.added == plain.added
        assert_replayable(counter)


def test_a_class_without_methods_is_refused() -> None:
    with pytest.raises(perdure.UsageError):
        commands(object)
