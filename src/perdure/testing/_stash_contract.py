"""What every stash must do. Subclass it with a ``stash`` fixture and pytest runs it on yours."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest

from perdure.errors import UsageError
from perdure.stash import MISSING, Stash

NAMES = [
    "plain", "Plain", "PLAIN", "", " ", ".", "..", "a.", "../../escaped", "/absolute", "C:\\windows", "a/b",
    "nul\0byte", "new\nline", "%41", "%~", "con", "caf\u00e9", "cafe\u0301", "\u212b", "\u00c5", "stra\u00dfe",
    "STRASSE", "x" * 10_000, "x" * 9_999 + "y", "\u65e5" * 1_000, "\ud800", "a.tmp-0123456789abcdef", "a.dat",
    "a.dat.dat", "-rf", "~", "*", "'; drop--",
]  # fmt: skip
"""Names that have gone wrong somewhere: none may leave its place, and no two may share one."""

VALUES: list[Any] = [
    None,
    False,
    0,
    "",
    b"",
    [],
    {},
    {"a": [1, 2, {"b": None}]},
    "text \u2713",
    2**70,
    1.5,
    b"\0" * 70_000,
]


class StashContract:
    """The rules of ``Stash``, each a test.

    ::

        class TestMyStash(StashContract):
            @pytest.fixture
            def stash(self, tmp_path):
                with MyStash(tmp_path) as stash:
                    yield stash

    The fixture gives an empty stash that can be written. ``names`` and ``values`` may be replaced where a stash takes
    fewer.
    """

    names: ClassVar[list[str]] = NAMES
    values: ClassVar[list[Any]] = VALUES

    @pytest.fixture
    def stash(self) -> Iterator[Stash]:
        """An empty stash that can be written."""
        raise NotImplementedError("give the contract a stash")

    # ---- one item ----------------------------------------------------------------------------------------------------

    def test_what_is_dumped_is_loaded(self, stash: Stash) -> None:
        for number, value in enumerate(self.values):
            stash.dump(f"item{number}", value)
        for number, value in enumerate(self.values):
            assert stash.load(f"item{number}") == value
            assert stash[f"item{number}"] == value
            assert stash.get(f"item{number}", "default") == value

    def test_what_is_absent_is_absent_everywhere(self, stash: Stash) -> None:
        stash.dump("other", 1)
        assert stash.load("absent") is None
        assert stash.get("absent") is None
        assert stash.get("absent", 7) == 7
        assert stash.get("absent", MISSING) is MISSING
        assert not stash.exists("absent")
        assert "absent" not in stash
        with pytest.raises(KeyError):
            stash["absent"]
        with pytest.raises(KeyError):
            del stash["absent"]

    def test_none_is_a_value(self, stash: Stash) -> None:
        stash.dump("none", None)
        assert stash.exists("none")
        assert "none" in stash
        assert stash["none"] is None
        assert stash.get("none", "default") is None
        assert list(stash.items()) == [("none", None)]
        assert len(stash) == 1

    def test_the_last_value_counts(self, stash: Stash) -> None:
        stash.dump("a", [1])
        assert stash["a"] == [1]
        stash["a"] = [2]
        assert stash["a"] == [2]
        assert len(stash) == 1

    def test_deleting_forgets_and_is_harmless_twice(self, stash: Stash) -> None:
        stash.dump("a", 1)
        stash.dump("b", 2)
        stash.delete("a")
        stash.delete("a")
        assert not stash.exists("a")
        assert list(stash) == [("b", 2)]
        del stash["b"]
        assert len(stash) == 0

    def test_an_absence_is_not_remembered(self, stash: Stash) -> None:
        assert stash.get("late", MISSING) is MISSING
        assert not stash.exists("late")
        stash.dump("late", 1)
        assert stash["late"] == 1
        assert stash.exists("late")

    def test_a_deleted_item_can_come_back(self, stash: Stash) -> None:
        stash.dump("a", 1)
        assert stash["a"] == 1
        stash.delete("a")
        assert stash.get("a") is None
        stash.dump("a", 2)
        assert stash["a"] == 2

    # ---- names -------------------------------------------------------------------------------------------------------

    def test_names_of_any_text_stay_apart(self, stash: Stash) -> None:
        for name in self.names:
            stash.dump(name, f"value of {len(name)} {name[-20:]!a}")
        assert sorted(stash.keys()) == sorted(self.names)
        for name in self.names:
            assert stash[name] == f"value of {len(name)} {name[-20:]!a}"
        for number, name in enumerate(self.names):
            stash.delete(name)
            assert not stash.exists(name)
            assert len(stash) == len(self.names) - number - 1

    @pytest.mark.parametrize("name", [None, 1, b"bytes", ("a",)])
    def test_a_name_is_text(self, stash: Stash, name: Any) -> None:
        with pytest.raises(UsageError):
            stash.dump(name, 1)
        assert name not in stash
        assert name not in stash.mapping
        assert len(stash) == 0

    # ---- many --------------------------------------------------------------------------------------------------------

    def test_iterating_yields_pairs(self, stash: Stash) -> None:
        content = {f"item{number}": number for number in range(20)}
        for name, value in content.items():
            stash.dump(name, value)
        assert dict(stash) == content
        assert dict(stash.items()) == content
        assert sorted(stash.keys()) == sorted(content)
        assert sorted(stash.values()) == sorted(content.values())
        assert len(stash) == 20

    def test_names_come_in_groups(self, stash: Stash) -> None:
        for number in range(7):
            stash.dump(str(number), number)
        groups = list(stash.key_groups(3))
        assert [len(group) for group in groups] == [3, 3, 1]
        assert sorted(name for group in groups for name in group) == [str(number) for number in range(7)]
        with pytest.raises(UsageError):
            list(stash.key_groups(0))

    def test_many_at_once(self, stash: Stash) -> None:
        content = {f"Item {number}": [number] for number in range(30)}
        stash.set_many(content)
        stash.set_many({})
        assert dict(stash) == content
        wanted = ["Item 3", "absent", "Item 17"]
        assert stash.get_many(wanted) == {"Item 3": [3], "Item 17": [17]}
        assert stash.get_many([]) == {}

    def test_clear_forgets_all(self, stash: Stash) -> None:
        stash.set_many({"a": 1, "B": 2})
        stash.clear()
        assert list(stash.keys()) == []
        stash.dump("a", 3)
        assert dict(stash) == {"a": 3}
        stash.delete()
        assert len(stash) == 0

    def test_the_names_may_change_while_they_are_read(self, stash: Stash) -> None:
        stash.set_many({str(number): number for number in range(10)})
        for name in stash.keys():  # noqa: SIM118
            stash.delete(name)
        assert len(stash) == 0

    def test_mapping_is_a_true_mapping(self, stash: Stash) -> None:
        mapping = stash.mapping
        assert isinstance(mapping, MutableMapping)
        mapping["a"] = 1
        mapping.update(b=None)
        assert sorted(mapping) == ["a", "b"]
        assert mapping == {"a": 1, "b": None}
        assert mapping.setdefault("a", 9) == 1
        assert mapping.setdefault("c", 3) == 3
        assert mapping.get("d", 4) == 4
        assert mapping.pop("c") == 3
        with pytest.raises(KeyError):
            mapping["c"]
        with pytest.raises(KeyError):
            del mapping["c"]
        assert stash["b"] is None
        mapping.clear()
        assert not mapping

    # ---- the rest ----------------------------------------------------------------------------------------------------

    def test_the_mark_of_a_fill_is_no_item(self, stash: Stash) -> None:
        assert stash.fill_mark() is None
        stash.set_fill_mark("filled: 3 items")
        assert stash.fill_mark() == "filled: 3 items"
        assert list(stash.keys()) == []
        stash.dump("a", 1)
        assert len(stash) == 1
        stash.clear()
        assert stash.fill_mark() is None
        stash.set_fill_mark("again")
        stash.set_fill_mark(None)
        assert stash.fill_mark() is None

    def test_threads_may_share_it(self, stash: Stash) -> None:
        def work(worker: int) -> None:
            for number in range(10):
                stash.dump(f"{worker}-{number}", [worker, number])
                assert stash[f"{worker}-{number}"] == [worker, number]

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, range(4)))
        assert len(stash) == 40

    def test_put_if_absent_has_one_winner(self, stash: Stash) -> None:
        put_if_absent = getattr(stash, "put_if_absent", None)
        if put_if_absent is None:
            # Not every store can promise that.
            return
        with ThreadPoolExecutor(4) as threads:
            won = list(threads.map(lambda number: put_if_absent("once", number), range(8)))
        assert won.count(True) == 1
        assert stash["once"] == won.index(True)
        assert put_if_absent("once", 99) is False

    def test_a_pickled_stash_reads_the_same_items(self, stash: Stash) -> None:
        if not stash.reaches_workers:
            # It is for one process.
            return
        stash.dump("a", [1])
        copy = pickle.loads(pickle.dumps(stash))  # Made by this test a moment ago.
        assert copy["a"] == [1]
        copy.dump("b", [2])
        assert stash["b"] == [2]
        close = getattr(copy, "close", None)
        if close is not None:
            close()
