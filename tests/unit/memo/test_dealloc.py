"""Deallocation: what is told that it is no longer needed, and what is reported because it was not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from perdure.errors import PersistableError
from perdure.memo import Deallocatable, dealloc, dealloc_recursive, persisted, resource


class Thing(Deallocatable):
    def __init__(self, *parts: object) -> None:
        super().__init__()
        self.open = True
        self.parts = list(parts)

    def deallocate(self) -> None:
        self.open = False
        self._try_deallocate(self.parts)
        super().deallocate()


@pytest.fixture(autouse=True)
def _untracked() -> Iterator[None]:
    yield
    assert not Deallocatable.ALLOCATION_TRACKING
    Deallocatable._ALLOCATIONS.clear()


def test_dealloc_deallocates_at_the_end_of_the_block_also_after_an_error() -> None:
    thing = Thing()
    with dealloc(thing) as inside:
        assert inside is thing
        assert thing.open
    assert not thing.open
    other = Thing()
    with pytest.raises(ValueError, match="x"), dealloc(other):
        raise ValueError("x")
    assert not other.open


def test_dealloc_takes_a_function_and_reports_what_was_left(capsys: pytest.CaptureFixture[str]) -> None:
    with dealloc(lambda: Thing(), track=True) as thing:
        left = Thing()
    assert not thing.open
    assert left.open
    out = capsys.readouterr().out
    assert out.count("Thing at") == 1
    with dealloc(Thing, track=True, include_stack=True):
        pass
    assert "test_dealloc.py" in capsys.readouterr().out


def test_dealloc_refuses_what_cannot_be_deallocated() -> None:
    with pytest.raises(PersistableError, match="int cannot be deallocated"):
        dealloc(5)


def test_a_failing_factory_leaves_tracking_off() -> None:
    with pytest.raises(ZeroDivisionError), dealloc(lambda: 1 // 0, track=True):
        pass


def test_recursive_deallocation_is_asked_for() -> None:
    inner = Thing()
    with dealloc(Thing(inner)):
        pass
    assert inner.open
    with dealloc_recursive(), dealloc(Thing((inner, {"k": {1, 2}}))):
        pass
    assert not inner.open
    circle: list[object] = []
    circle.append(circle)
    assert not Deallocatable._try_deallocate(circle, recursive=True)


def test_reports(capsys: pytest.CaptureFixture[str]) -> None:
    Deallocatable.ALLOCATION_TRACKING = True
    try:
        kept, gone = Thing(), Thing()
    finally:
        Deallocatable.ALLOCATION_TRACKING = False
    gone.deallocate()
    assert Deallocatable._num_deallocations() == 1
    assert Thing.undeallocated() == [kept]
    Deallocatable.print_undeallocated(only_counts=True)
    assert capsys.readouterr().out.strip().endswith("Thing: 1")
    with pytest.raises(PersistableError, match="1 objects"):
        Deallocatable._print_undeallocated(fail=True)
    with pytest.raises(PersistableError, match="Thing"):
        Thing.assert_dealloc()
    Deallocatable._deallocate_all()
    assert not kept.open
    Thing.assert_dealloc()


def test_attributes_are_deallocated_and_removed() -> None:
    class Owner(Deallocatable):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = Thing(), 2, Thing()

        def deallocate(self) -> None:
            assert self._deallocate_attributes(("a", "b", "c", "d")) == 2
            super().deallocate()

    owner = Owner()
    a = owner.a
    with dealloc(owner):
        pass
    assert not a.open
    assert vars(owner) == {"b": 2}


def test_a_result_may_go_untracked() -> None:
    class Owner:
        @persisted("_one")
        def one(self) -> int:
            return 1

        @persisted("_two", allocation_track=False)
        def two(self) -> int:
            return 2

    owner = Owner()
    Deallocatable.ALLOCATION_TRACKING = True
    try:
        assert owner.one() + owner.two() == 3
    finally:
        Deallocatable.ALLOCATION_TRACKING = False
    assert [str(each._deallocate_str()) for each in Deallocatable.undeallocated()] == [
        f"result _one of {Owner.__qualname__}"
    ]


def test_resource_makes_and_takes_back_for_each_call() -> None:
    class Manager:
        def __init__(self) -> None:
            self.log: list[str] = []

        def _create(self) -> str:
            self.log.append("create")
            return "connection"

        def _dispose(self, connection: str) -> None:
            self.log.append(f"dispose {connection}")

        @resource("_create", "_dispose")
        def work(self, connection: str, n: int, fail: bool = False) -> str:
            """Works."""
            if fail:
                raise ValueError(n)
            return connection * n

    manager = Manager()
    assert manager.work(2) == "connectionconnection"
    with pytest.raises(ValueError, match="3"):
        manager.work(3, fail=True)
    assert manager.log == ["create", "dispose connection"] * 2
    assert Manager.work.__doc__ == "Works."
