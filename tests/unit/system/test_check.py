"""``check=True`` and ``validate=``: what would not replay is named at the call that did it."""

from __future__ import annotations

from pathlib import Path

import pytest

import perdure
from perdure.testing import assert_replayable
from tests.unit.system.interrupting import strike_once
from tests.unit.system.models import Counter, Loose, Wiki


def test_a_sound_system_passes(tmp_path: Path) -> None:
    with perdure.open(Wiki, tmp_path / "w", check=True) as wiki:
        wiki.create("a", "text")
        wiki.draw()
        wiki.take([1, 2])
        wiki["b"] = "x"
        with pytest.raises(ValueError, match="half"):
            wiki.fail_half_way("x")
        with pytest.raises(ValueError, match="empty"):
            wiki.all_or_nothing("y", "")
        strike_once("k", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            wiki.interrupted("k")
        assert wiki.count() == 2
        assert list(wiki.walk()) == ["a", "b"]
        wiki.title = "t"
        assert_replayable(wiki)
    with perdure.open(Wiki, tmp_path / "w", check=True) as wiki:
        assert wiki["a"] == "text"


def test_chance_is_found_at_the_call() -> None:
    with perdure.open(Loose, perdure.MEMORY, check=True, validate="off") as loose:
        assert loose.steady() == 1
        with pytest.raises(perdure.NotDeterministicError, match=r"chance\(\) would not replay") as caught:
            loose.chance()
        assert caught.value.seq == 2
        assert caught.value.hint
        assert loose.steady() == 3


def test_a_query_that_changes_something_is_found() -> None:
    with perdure.open(Loose, perdure.MEMORY, check=True, validate="off") as loose:
        with pytest.raises(perdure.NotDeterministicError, match=r"lying\(\) is a query and changed the state"):
            loose.lying()
        assert loose.honest() == []


def test_a_change_outside_of_commands_is_found_at_the_next_one() -> None:
    with perdure.open(Loose, perdure.MEMORY, check=True, validate="off") as loose:
        loose.honest().append(5.0)
        with pytest.raises(perdure.NotDeterministicError, match="outside of any command"):
            loose.steady()
        assert loose.steady() == 3


def test_reading_refuses_what_would_not_replay(tmp_path: Path) -> None:
    with pytest.raises(perdure.PrevalentError) as caught:
        perdure.open(Loose, tmp_path / "l")
    assert "models.py" in str(caught.value)
    assert "Loose.chance" in str(caught.value)
    assert "perdure.rng" in str(caught.value)
    assert not (tmp_path / "l").exists()


def test_reading_can_be_told_to_warn_or_to_be_quiet() -> None:
    with (
        pytest.warns(perdure.DeterminismWarning, match="chance"),
        perdure.open(Loose, perdure.MEMORY, validate="warn") as loose,
    ):
        loose.steady()
    with perdure.open(Loose, perdure.MEMORY, validate="off") as loose:
        loose.steady()


class Generating:
    def __init__(self) -> None:
        self.n = 0

    def steps(self):  # type: ignore[no-untyped-def]
        self.n += 1
        yield self.n


class Waiting:
    def __init__(self) -> None:
        self.n = 0

    async def later(self) -> None:
        self.n += 1


@pytest.mark.parametrize("cls", [Generating, Waiting])
def test_generator_and_async_commands_are_refused(cls: type) -> None:
    with pytest.raises(perdure.NotDeterministicError) as caught:
        perdure.open(cls, perdure.MEMORY)
    assert "@readonly" in str(caught.value)


def test_checking_works_with_every_codec(tmp_path: Path) -> None:
    for codec in ("pickle", "json", "msgpack"):
        with perdure.open(Counter, tmp_path / codec, check=True, codec=codec) as counter:
            counter.add(1)
            with pytest.raises(ValueError, match="no"):
                counter.refuse()
            counter.add(2)
        with perdure.open(Counter, tmp_path / codec, check=True, codec=codec) as counter:
            assert counter.added == [1, 2]
