"""dict, list, set, deque and Counter as systems."""

from __future__ import annotations

import collections
import copy
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import perdure
from perdure.testing import assert_replayable

ints = st.integers(-3, 3)
indices = st.integers(-3, 3)

OPERATIONS: dict[type, list[Any]] = {
    dict: [
        st.tuples(st.just("__setitem__"), ints, ints),
        st.tuples(st.just("__delitem__"), ints),
        st.tuples(st.just("pop"), ints),
        st.tuples(st.just("pop"), ints, ints),
        st.tuples(st.just("popitem")),
        st.tuples(st.just("setdefault"), ints, ints),
        st.tuples(st.just("update"), st.dictionaries(ints, ints)),
        st.tuples(st.just("clear")),
        st.tuples(st.just("get"), ints),
        st.tuples(st.just("__contains__"), ints),
        st.tuples(st.just("__len__")),
        st.tuples(st.just("copy")),
    ],
    list: [
        st.tuples(st.just("append"), ints),
        st.tuples(st.just("extend"), st.lists(ints)),
        st.tuples(st.just("insert"), indices, ints),
        st.tuples(st.just("pop")),
        st.tuples(st.just("pop"), indices),
        st.tuples(st.just("remove"), ints),
        st.tuples(st.just("__setitem__"), indices, ints),
        st.tuples(st.just("__setitem__"), st.builds(slice, indices, indices), st.lists(ints, max_size=3)),
        st.tuples(st.just("__delitem__"), indices),
        st.tuples(st.just("sort")),
        st.tuples(st.just("reverse")),
        st.tuples(st.just("clear")),
        st.tuples(st.just("count"), ints),
        st.tuples(st.just("index"), ints),
        st.tuples(st.just("__getitem__"), st.builds(slice, indices, indices)),
    ],
    set: [
        st.tuples(st.just("add"), ints),
        st.tuples(st.just("discard"), ints),
        st.tuples(st.just("remove"), ints),
        st.tuples(st.just("update"), st.lists(ints), st.sets(ints)),
        st.tuples(st.just("difference_update"), st.sets(ints)),
        st.tuples(st.just("intersection_update"), st.sets(ints)),
        st.tuples(st.just("symmetric_difference_update"), st.sets(ints)),
        st.tuples(st.just("clear")),
        st.tuples(st.just("union"), st.sets(ints)),
        st.tuples(st.just("issubset"), st.sets(ints)),
    ],
    deque: [
        st.tuples(st.just("append"), ints),
        st.tuples(st.just("appendleft"), ints),
        st.tuples(st.just("extend"), st.lists(ints)),
        st.tuples(st.just("extendleft"), st.lists(ints)),
        st.tuples(st.just("pop")),
        st.tuples(st.just("popleft")),
        st.tuples(st.just("rotate"), ints),
        st.tuples(st.just("insert"), indices, ints),
        st.tuples(st.just("remove"), ints),
        st.tuples(st.just("reverse")),
        st.tuples(st.just("__setitem__"), indices, ints),
        st.tuples(st.just("count"), ints),
    ],
    Counter: [
        st.tuples(st.just("update"), st.lists(ints)),
        st.tuples(st.just("subtract"), st.lists(ints)),
        st.tuples(st.just("__setitem__"), ints, ints),
        st.tuples(st.just("__delitem__"), ints),
        st.tuples(st.just("pop"), ints),
        st.tuples(st.just("clear")),
        st.tuples(st.just("__getitem__"), ints),
        st.tuples(st.just("most_common"), st.integers(0, 3)),
        st.tuples(st.just("total")),
    ],
}


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (KeyError, IndexError, ValueError, TypeError) as error:
        return type(error), error.args


@pytest.mark.parametrize("cls", OPERATIONS, ids=lambda cls: cls.__name__)
def test_it_does_what_the_plain_one_does(cls: type) -> None:
    @given(st.lists(st.one_of(OPERATIONS[cls]), max_size=15))
    def compare(operations: list[Any]) -> None:
        plain = cls()
        with perdure.open(cls, perdure.MEMORY) as kept:
            for name, *arguments in operations:
                wanted = outcome(lambda: getattr(plain, name)(*arguments))  # noqa: B023
                assert outcome(lambda: getattr(kept, name)(*arguments)) == wanted  # noqa: B023
            assert kept == plain
            # The order of a set depends on what was in it before: only its members are promised.
            assert sorted(kept) == sorted(plain) if cls is set else list(kept) == list(plain)
            assert len(kept) == len(plain)
            assert_replayable(kept)

    compare()


@pytest.mark.parametrize("cls", OPERATIONS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("codec", ["pickle", "json", "msgpack"])
def test_it_comes_back(tmp_path: Path, cls: type, codec: Any) -> None:
    def fill(target: Any) -> None:
        if cls in (dict, Counter):
            target.update({"a": 1, "b": 2})
            target["c"] = 3
            del target["a"]
        elif cls is set:
            target.add("a")
            target.update(["b", "c"])
        else:
            target.extend([1, 2, 3])
            target.append(4)

    plain = cls()
    fill(plain)
    if codec != "pickle" and cls in (set, deque):
        with pytest.raises(perdure.CodecError):
            perdure.open(cls, tmp_path / "x", codec=codec)
        return
    for snapshot in ("manual", "auto"):
        directory = tmp_path / snapshot
        with perdure.open(cls, directory, codec=codec, snapshot=snapshot) as kept:  # type: ignore[arg-type]
            fill(kept)
            assert kept == plain
        with perdure.open(cls, directory, codec=codec) as kept:
            assert kept == plain
            assert type(copy.copy(kept)) is cls
            assert copy.deepcopy(kept) == plain


def test_operators_work() -> None:
    with perdure.open(list, perdure.MEMORY) as numbers:
        numbers += [1, 2]
        numbers *= 2
        assert numbers == [1, 2, 1, 2]
        assert [*numbers, 5] == [1, 2, 1, 2, 5]
        assert numbers + [9] == [1, 2, 1, 2, 9]  # noqa: RUF005 - the operator is what is tested
        assert numbers[1:3] == [2, 1]
        assert 2 in numbers
        assert repr(numbers) == "[1, 2, 1, 2]"
        numbers[1:3] = []
        assert numbers == [1, 2]
        numbers.sort(reverse=True)
        assert numbers == [2, 1]
        assert perdure.control(numbers).seq == 4
    with perdure.open(set, perdure.MEMORY) as names:
        names |= {"a", "b"}
        names -= {"a"}
        assert names & {"b", "c"} == {"b"}
        assert names <= {"b", "c"}
    with perdure.open(dict, perdure.MEMORY) as table:
        table |= {"a": 1}
        assert table | {"b": 2} == {"a": 1, "b": 2}
        assert {**table} == {"a": 1}
        assert dict(table) == {"a": 1}
        assert sorted(table.items()) == [("a", 1)]
    with perdure.open(Counter, perdure.MEMORY) as counted:
        counted += Counter("aab")
        assert counted["a"] == 2
        assert counted["nothing"] == 0
        assert counted.most_common(1) == [("a", 2)]


def test_it_says_what_it_stands_for() -> None:
    for cls in OPERATIONS:
        with perdure.open(cls, perdure.MEMORY) as kept:
            assert isinstance(kept, cls)
            assert kept == cls()
            assert kept == kept
            with pytest.raises(TypeError):
                hash(kept)


def test_two_systems_can_be_compared_and_combined() -> None:
    with perdure.open(set, perdure.MEMORY) as one, perdure.open(set, perdure.MEMORY) as other:
        one.add(1)
        other.add(2)
        assert one != other
        assert one | other == {1, 2}
        one.update(other)
        assert one == {1, 2}


def test_a_loop_is_not_disturbed_by_commands_in_it() -> None:
    with perdure.open(list, perdure.MEMORY) as numbers:
        numbers.extend([1, 2])
        for number in numbers:
            numbers.append(number)
        assert numbers == [1, 2, 1, 2]
    with perdure.open(dict, perdure.MEMORY) as table:
        table.update(a=1, b=2)
        for key in table:
            del table[key]
        assert table == {}


def test_initial_values_are_taken_once(tmp_path: Path) -> None:
    for _ in range(2):
        with perdure.open([1, 2], tmp_path / "l") as numbers:
            assert numbers == [1, 2]
    with perdure.open(lambda: collections.deque([1], maxlen=2), tmp_path / "d") as recent:
        recent.extend([2, 3])
        assert list(recent) == [2, 3]
    with perdure.open(deque, tmp_path / "d") as recent:
        recent.append(4)
        assert list(recent) == [3, 4]
        assert recent.maxlen == 2


def test_which_element_a_set_gives_up_does_not_depend_on_the_process() -> None:
    with perdure.open(set, perdure.MEMORY) as names:
        names.update(["one", "two", "three", "four"])
        drawn = [names.pop() for _ in range(4)]
        assert sorted(drawn) == ["four", "one", "three", "two"]
        with pytest.raises(KeyError):
            names.pop()
        assert_replayable(names)


def test_a_set_of_strings_is_the_same_in_every_process(tmp_path: Path) -> None:
    with perdure.open(set, tmp_path / "s", snapshot="manual") as names:
        names.update(["one", "two", "three"])
        first = names.pop()
    with perdure.open(set, tmp_path / "s") as names:
        assert first not in names
        assert len(names) == 2
