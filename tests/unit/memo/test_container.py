"""Containers that are pickled with their results."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from perdure.codecs import Pickle
from perdure.memo import Deallocatable, PersistableContainer, PersistedWork, persisted


class Held(Deallocatable):
    def __init__(self) -> None:
        super().__init__()
        self.open = True

    def deallocate(self) -> None:
        self.open = False
        super().deallocate()


class Box(PersistableContainer):
    _PERSITABLE_TRANSIENT_ATTRIBUTES = {"_connection"}
    _PERSITABLE_REMOVE_ATTRIBUTES = {"_scratch"}

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n
        self.calls = 0
        self._connection = object()
        self._scratch = object()

    @property
    @persisted("_twice")
    def twice(self) -> int:
        self.calls += 1
        return self.n * 2

    @property
    @persisted("_passing", transient=True)
    def passing(self) -> int:
        self.calls += 1
        return self.n * 3


class Eager(Box):
    _PERSITABLE_TRANSIENT_ATTRIBUTES = {"_other"}
    _PERSITABLE_PROPERTIES = ["twice"]
    _PERSITABLE_METHODS = ["thrice"]

    @persisted("_thrice")
    def thrice(self) -> int:
        self.calls += 1
        return self.n * 3


class Slotted(PersistableContainer):
    __slots__ = ("_kept", "n")

    def __init__(self, n: int) -> None:
        self.n = n

    @persisted("_kept")
    def value(self) -> int:
        return self.n


def through_pickle(value: Any) -> Any:
    # Written by this test a moment ago.
    return pickle.loads(pickle.dumps(value))


def test_results_travel_and_transient_ones_do_not() -> None:
    box = Box(2)
    assert (box.twice, box.passing) == (4, 6)
    back = through_pickle(box)
    assert (back.twice, back.passing, back.calls) == (4, 6, 3)
    assert back._connection is None
    assert not hasattr(back, "_scratch")
    assert box._connection is not None


def test_what_is_declared_is_computed_before_pickling() -> None:
    eager = Eager(2)
    back = through_pickle(eager)
    assert (eager.calls, back.twice, back.thrice(), back.calls) == (2, 4, 6, 2)
    assert back._connection is None, "what the base class declares counts, too"


def test_results_in_an_unpickled_container_belong_to_it() -> None:
    box = Box(2)
    box.twice
    back = through_pickle(box)
    back._twice.clear()
    back.n = 5
    assert (back.twice, box.twice) == (10, 4)
    assert copy.deepcopy(back).twice == 10


def test_the_restricted_codec_takes_a_container() -> None:
    box = Box(2)
    box.twice
    codec = Pickle(package=__name__.partition(".")[0], allow=[__name__] if "." in __name__ else [])
    assert codec.decode(codec.encode(box)).twice == 4


def test_works_from_the_constructor_keep_their_settings(tmp_path: Path) -> None:
    box = Box(2)
    box._twice = PersistedWork(tmp_path / "twice.dat", box, mkdir=True)  # type: ignore[attr-defined]
    assert box.twice == 4
    (tmp_path / "twice.dat").unlink()
    back = through_pickle(box)
    assert (back.twice, back.calls, back._twice.path) == (4, 1, tmp_path / "twice.dat")


def test_containers_with_slots_travel() -> None:
    box = Slotted(3)
    assert box.value() == 3
    back = through_pickle(box)
    assert (back.n, back._kept.is_set(), back.value()) == (3, True, 3)


def test_deallocating_a_container_deallocates_its_results() -> None:
    class Holder(PersistableContainer):
        @property
        @persisted("_one")
        def one(self) -> Held:
            return Held()

        @property
        @persisted("_many", deallocate_recursive=True)
        def many(self) -> dict[str, list[Held]]:
            return {"a": [Held()]}

        @property
        @persisted("_kept")
        def kept(self) -> list[Held]:
            return [Held()]

    holder = Holder()
    one, many, kept = holder.one, holder.many["a"][0], holder.kept[0]
    holder.deallocate()
    assert (one.open, many.open, kept.open) == (False, False, True)
    assert holder.one is not one


def test_a_container_clears_all_its_results(tmp_path: Path) -> None:
    box = Box(1)
    box._twice = PersistedWork(tmp_path / "twice.dat", box)  # type: ignore[attr-defined]
    box.twice, box.passing
    box._clear_persistable_state()
    assert not list(tmp_path.iterdir())
    assert (box.twice, box.calls) == (2, 3)


def test_a_property_that_raises_ends_the_pickling() -> None:
    class Raises(PersistableContainer):
        _PERSITABLE_PROPERTIES = ("bad",)

        @property
        def bad(self) -> int:
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        pickle.dumps(Raises())
