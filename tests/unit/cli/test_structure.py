"""What differs between two values."""

from __future__ import annotations

import datetime
import random
from typing import Any

import pytest

from perdure.cli._structure import changed_texts, differences, shown


class Thing:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __eq__(self, other: object) -> bool:
        raise AssertionError("no method of the user's is called")

    __hash__ = object.__hash__


class Slotted:
    __slots__ = ("x", "y")

    def __init__(self, x: Any) -> None:
        self.x = x


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        (1, 1, []),
        (float("nan"), float("nan"), []),
        (1, 2, [("changed", "")]),
        (1, True, [("changed", "")]),
        ({"a": 1}, {"a": 1, "b": 2}, [("added", "['b']")]),
        ({"a": 1, "b": 2}, {"b": 3}, [("removed", "['a']"), ("changed", "['b']")]),
        ([1, 2, 3], [0, 1, 2, 3], [("added", "[0]")]),
        ([1, 2, 3], [1, 3], [("removed", "[1]")]),
        ([1, 2, 3], [1, 9, 3], [("changed", "[1]")]),
        ({1, 2}, {2, 3}, [("removed", "{1}"), ("added", "{3}")]),
        (Thing(a=1), Thing(a=2), [("changed", ".a")]),
        (Thing(a=[Thing(b=1)]), Thing(a=[Thing(b=1)]), []),
        (Slotted(1), Slotted(2), [("changed", ".x")]),
        (Slotted([1]), Slotted([1, 2]), [("added", ".x[1]")]),
        (Thing(), Slotted(1), [("changed", "")]),
        (datetime.date(2020, 1, 1), datetime.date(2020, 1, 2), [("changed", "")]),
        (random.Random(1), random.Random(1), []),
    ],
)
def test_differences(before: Any, after: Any, wanted: list[tuple[str, str]]) -> None:
    assert [(row.kind, row.path) for row in differences(before, after)] == wanted


def test_rings_come_to_an_end() -> None:
    def ring(value: int) -> Any:
        made = Thing(value=value, others=[])
        made.others.append(made)
        return made

    assert list(differences(ring(1), ring(1))) == []
    assert [row.path for row in differences(ring(1), ring(2))] == [".value"]
    assert shown(ring(1)).startswith("Thing(value=1, others=[Thing(")


def test_values_are_shown_in_one_line() -> None:
    assert shown(Thing(a={"b", "a"}, t=(1,))) == "Thing(a={'a', 'b'}, t=(1))"
    assert len(shown("x" * 1000)) == 60
    assert len(shown(list(range(1000)))) == 60


def test_long_texts_are_shown_where_they_begin_to_differ() -> None:
    before, after = changed_texts("x" * 100 + "one", "x" * 100 + "two")
    assert before.endswith("one'")
    assert after.endswith("two'")
