"""The object that stands in for the root: it answers to everything that the object answers to."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import gc
import pickle
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.fs import open_descriptor_count
from perdure.system import system_of
from perdure.testing import assert_replayable
from tests.unit.system.models import (
    Child,
    Counter,
    Keeping,
    Owner,
    Point,
    Registered,
    Session,
    Size,
    Slotted,
    Square,
    Stack,
    Wiki,
)


class Holder:
    """Can come to hold what cannot be stored."""

    def __init__(self) -> None:
        self.held: Any = None

    def put(self, value: int) -> None:
        self.held = value

    def put_function(self) -> None:
        self.held = lambda: 1


def seq(proxy: object) -> int:
    return perdure.control(proxy).seq


@pytest.fixture
def wiki(tmp_path: Path) -> Any:
    opened = perdure.open(Wiki, tmp_path / "wiki")
    yield opened
    if not perdure.control(opened).closed:
        assert_replayable(opened)
        perdure.control(opened).close()


def test_it_is_an_instance_of_its_class(wiki: Any) -> None:
    assert isinstance(wiki, Wiki)
    assert issubclass(type(wiki), Wiki)
    assert type(wiki).__name__ == "Wiki"
    assert type(wiki).__doc__ == Wiki.__doc__


def test_attributes_are_read_live(wiki: Any) -> None:
    wiki.create("a", "text")
    assert wiki.pages["a"].text == "text"
    assert wiki.kind == "wiki"
    assert vars(wiki).keys() >= {"pages", "log"}
    with pytest.raises(AttributeError):
        wiki.nothing
    assert seq(wiki) == 1


def test_attributes_set_and_deleted_are_commands(wiki: Any) -> None:
    wiki.extra = [1, 2]
    assert wiki.extra == [1, 2]
    del wiki.extra
    with pytest.raises(AttributeError):
        del wiki.extra
    assert [command.method for command in perdure.control(wiki).history()] == [
        "__setattr__",
        "__delattr__",
        "__delattr__",
    ]
    assert not hasattr(wiki, "extra")


def test_properties_are_queries_their_setters_and_deleters_commands(wiki: Any) -> None:
    assert wiki.title == "untitled"
    wiki.title = "Home"
    assert wiki.title == "Home"
    del wiki.title
    assert wiki.title == "deleted"
    assert seq(wiki) == 2


def test_dunders_work(wiki: Any) -> None:
    wiki["a"] = "text"
    assert wiki["a"] == "text"
    assert len(wiki) == 1
    assert "a" in wiki
    assert list(wiki) == ["a"]
    assert bool(wiki)
    assert wiki("called") == "called"
    before = wiki
    wiki += "added"
    assert wiki is before
    del wiki["a"]
    assert len(wiki) == 0
    assert wiki.log == ["called", "added"]
    assert seq(wiki) == 4


def test_an_error_of_a_dunder_is_the_objects_own(wiki: Any) -> None:
    with pytest.raises(KeyError):
        wiki["missing"]
    with pytest.raises(KeyError):
        del wiki["missing"]


def test_queries_are_not_journaled(wiki: Any) -> None:
    wiki.create("a", "text")
    assert (wiki.text_of("a"), wiki.count(), wiki.unlocked_count()) == ("text", 1, 1)
    assert wiki.text_of(name="a") == "text"
    with pytest.raises(TypeError):
        wiki.text_of()
    assert list(wiki.walk()) == ["a"]
    assert seq(wiki) == 1


def test_a_generator_query_lets_commands_in_between_its_steps(wiki: Any) -> None:
    wiki.create("a")
    wiki.create("b")
    seen = []
    for name in wiki.walk():
        seen.append(name)
        wiki.note(name)
    assert seen == wiki.log == ["a", "b"]


def test_static_and_class_methods_are_plain(wiki: Any) -> None:
    assert wiki.twice(4) == 8
    assert wiki.named() == "Wiki"
    assert seq(wiki) == 0


def test_a_method_that_returns_self_returns_the_proxy(wiki: Any) -> None:
    assert wiki.chain() is wiki
    wiki.chain().chain().note("end")
    assert seq(wiki) == 4


def test_commands_from_inside_a_command_are_part_of_it(wiki: Any) -> None:
    assert wiki.several(3) == 3
    assert seq(wiki) == 1


def test_the_callers_list_stays_the_callers(wiki: Any) -> None:
    items = ["a", "b"]
    assert wiki.take(items) == ["b", "a"]
    assert items == ["a", "b"]


def test_a_copy_or_a_pickle_is_a_plain_object(wiki: Any) -> None:
    wiki.create("a", "text")
    for plain in (copy.copy(wiki), copy.deepcopy(wiki), pickle.loads(pickle.dumps(wiki))):
        assert type(plain) is Wiki
        assert plain["a"] == "text"
    deep = copy.deepcopy(wiki)
    deep["a"] = "changed"
    assert wiki["a"] == "text"


def test_it_hashes_and_compares_as_the_object_does(wiki: Any) -> None:
    assert wiki == wiki
    assert {wiki: 1}[wiki] == 1
    with perdure.open(Point, perdure.MEMORY) as point:
        assert point == point
        with pytest.raises(TypeError):
            hash(point)


def test_with_closes_it(tmp_path: Path) -> None:
    with perdure.open(Counter, tmp_path / "c") as counter:
        counter.add(1)
        assert not perdure.control(counter).closed
    assert perdure.control(counter).closed
    for call in (lambda: counter.add(1), counter.get, lambda: setattr(counter, "x", 1)):
        with pytest.raises(perdure.ClosedError) as caught:
            call()
        assert caught.value.path == str(tmp_path / "c")
    counter.close()  # type: ignore[attr-defined]


def test_closing_lets_go_of_everything_though_the_state_cannot_be_stored(tmp_path: Path) -> None:
    threads, descriptors = threading.active_count(), open_descriptor_count()
    counter = perdure.open(Holder, tmp_path / "h", durability="everysec")
    counter.put(1)
    counter.put_function()
    with pytest.raises(perdure.CodecError, match="lambda"):
        perdure.control(counter).close()
    assert perdure.control(counter).closed
    assert (threading.active_count(), open_descriptor_count()) == (threads, descriptors)
    with pytest.raises(perdure.ClosedError):
        counter.put(2)
    # The journal has all of it, and whoever opens it next can put it right.
    again = perdure.open(Holder, tmp_path / "h")
    assert perdure.control(again).report.replayed == 2
    assert callable(again.held)
    again.put(3)
    perdure.control(again).close()
    with perdure.open(Holder, tmp_path / "h", mode="r") as reader:
        assert reader.held == 3


def test_a_class_with_a_with_of_its_own_keeps_it(tmp_path: Path) -> None:
    session = perdure.open(Session, tmp_path / "s")
    with session as entered:
        assert entered is session
        session.add("inside")
    with session:
        raise ValueError("swallowed by the class")
    with pytest.raises(KeyError), session:
        raise KeyError("not swallowed")
    assert session.events == ["enter", "inside", "exit None", "enter", "exit ValueError", "enter", "exit KeyError"]
    perdure.control(session).close()
    session = perdure.open(Session, tmp_path / "s")
    assert len(session.events) == 7
    perdure.control(session).close()


def test_the_classs_own_names_win_over_perdures(tmp_path: Path) -> None:
    owner = perdure.open(Owner, tmp_path / "o")
    assert owner.close() == "mine"
    assert owner.take_snapshot() == "mine too"
    assert owner.closed_by_owner == 1
    perdure.control(owner).take_snapshot()
    perdure.control(owner).close()
    assert perdure.control(owner).closed


def test_classes_with_slots_work(tmp_path: Path) -> None:
    with perdure.open(Slotted, tmp_path / "s") as slotted:
        assert isinstance(slotted, Slotted)
        assert slotted.add(3) == 1
        assert slotted.last() == 3
        assert slotted.size == 1
        slotted.name = "renamed"
        assert (slotted.name, slotted.values) == ("renamed", [3])
        with pytest.raises(AttributeError):
            slotted.nothing = 1  # type: ignore[attr-defined]
        assert type(copy.copy(slotted)) is Slotted
        assert copy.deepcopy(slotted).values == [3]
        assert_replayable(slotted)
    with perdure.open(Slotted, tmp_path / "s") as slotted:
        assert (slotted.name, slotted.values) == ("renamed", [3])


def test_dataclasses_work(tmp_path: Path) -> None:
    with perdure.open(Point(3, 4), tmp_path / "p") as point:
        point.move(1, 1)
        point.x = 10
        assert (point.x, point.y, point.trail) == (10, 5, [(3, 4)])
        assert repr(point) == "Point(x=10, y=5, trail=[(3, 4)])"
        assert_replayable(point)
    with perdure.open(Point, tmp_path / "p") as point:
        assert (point.x, point.y) == (10, 5)


def test_a_dataclass_with_slots_is_one_to_its_module(tmp_path: Path) -> None:
    with perdure.open(Size, tmp_path / "s") as size:
        size.grow()
        assert dataclasses.asdict(size) == {"width": 2, "height": 1}
        assert dataclasses.replace(size, height=5) == Size(2, 5)
        assert [field.name for field in dataclasses.fields(size)] == ["width", "height"]


def test_generic_classes_work_named_with_their_parameters_too(tmp_path: Path) -> None:
    for target in (Stack, Stack[int]):
        with perdure.open(target, tmp_path / "s") as stack:
            stack.push(len(stack.items))
            assert_replayable(stack)
    with perdure.open(dict[str, int], tmp_path / "d") as numbers:
        numbers["a"] = 1
    assert stack.items == [0, 1]


def test_what_a_class_method_makes_is_an_ordinary_object(tmp_path: Path) -> None:
    with perdure.open(Stack, tmp_path / "s") as stack:
        other = stack.empty()
        other.push(1)
        assert type(other) is Stack
        assert (stack.items, seq(stack)) == ([], 0)


def test_opening_sets_no_attribute_by_the_classs_own_setter(tmp_path: Path) -> None:
    with perdure.open(Keeping, tmp_path / "k") as keeping:
        assert keeping.kept == {}
        keeping.a = 1
        assert keeping.kept == {"a": 1}
        assert_replayable(keeping)


def test_abstract_base_classes_work() -> None:
    with perdure.open(Square, perdure.MEMORY) as square:
        square.grow(3.0)
        assert square.area() == 9.0


def test_a_class_that_registers_its_subclasses_does_not_see_the_proxys() -> None:
    before = list(Registered.known)
    for cls in (Registered, Child):
        with perdure.open(cls, perdure.MEMORY) as opened:
            opened.add()
            assert opened.n == 1
            assert isinstance(opened, Registered)
    assert Registered.known == before


def test_two_systems_of_one_class_do_not_mix(tmp_path: Path) -> None:
    with perdure.open(Counter, tmp_path / "a") as one, perdure.open(Counter, tmp_path / "b") as other:
        one.add(1)
        other.add(10)
        assert type(one) is type(other)
        assert (one.total, other.total) == (1, 10)


def test_a_proxy_as_an_argument_becomes_a_plain_copy(tmp_path: Path) -> None:
    with perdure.open(Wiki, tmp_path / "w") as wiki, perdure.open(Counter, tmp_path / "c") as counter:
        counter.add(5)
        wiki.extra = counter  # type: ignore[attr-defined]
        assert type(wiki.extra) is Counter  # type: ignore[attr-defined]
        counter.add(1)
        assert wiki.extra.total == 5  # type: ignore[attr-defined]


def test_dropping_the_proxy_lets_go_of_the_folder(tmp_path: Path) -> None:
    for number in range(3):
        counter = perdure.open(Counter, tmp_path / "c")
        counter.add(number)
        del counter
        gc.collect()
    with perdure.open(Counter, tmp_path / "c") as counter:
        assert counter.added == [0, 1, 2]


def test_it_does_so_without_the_collector_whatever_was_raised_and_replayed(tmp_path: Path) -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            wiki: Any = perdure.open(Wiki, tmp_path / "w", snapshot="manual")
            for command in (wiki.fail_half_way, wiki.all_or_nothing):
                with contextlib.suppress(ValueError):
                    command("")
            machine = weakref.ref(system_of(wiki).machine)
            del wiki, command
            for _ in range(1000):  # The keeper may hold it for a moment.
                if machine() is None:
                    break
                time.sleep(0.01)
            assert machine() is None
    finally:
        gc.enable()


def test_the_control_alone_keeps_it_open(tmp_path: Path) -> None:
    control = perdure.control(perdure.open(Counter, tmp_path / "c"))
    gc.collect()
    with pytest.raises(perdure.LockedError):
        perdure.open(Counter, tmp_path / "c")
    control.close()
    perdure.open(Counter, tmp_path / "c").close()  # type: ignore[attr-defined]


def test_it_cannot_be_told_from_the_object_by_dir() -> None:
    with perdure.open(Slotted, perdure.MEMORY) as slotted:
        assert {"name", "values", "add"} <= set(dir(slotted))
