"""Caches: never stale, never remembering an absence."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import UsageError
from perdure.stash import (
    CacheStash,
    DelegateStash,
    DictionaryStash,
    DirectoryStash,
    LogStash,
    LRUCacheStash,
    MappingStash,
)


class Counting(DelegateStash):
    """Counts what is asked of the stash below."""

    loads = 0

    def load(self, name: str) -> Any:
        self.loads += 1
        return super().load(name)


def test_what_was_asked_for_is_not_asked_for_again() -> None:
    below = Counting(DictionaryStash({"a": [1]}))
    stash = CacheStash(below)
    assert stash["a"] is stash["a"]
    assert below.loads == 1


@pytest.mark.parametrize("kind", ["directory", "dictionary", "log"])
def test_what_others_change_is_seen_at_once(tmp_path: Path, kind: str) -> None:
    below: Any = {"directory": DirectoryStash, "log": LogStash}.get(kind, lambda path: DictionaryStash())(tmp_path)
    stash = CacheStash(below)
    for value in range(20):
        below.dump("a", value)
        assert stash["a"] == value
        assert stash.get("a") == value
    below.delete("a")
    assert stash.get("a") is None
    with pytest.raises(KeyError):
        stash["a"]
    if kind == "log":
        below.close()


def test_where_nothing_can_be_told_others_changes_are_seen_when_asked_for() -> None:
    below = MappingStash({"a": 1})
    stash = CacheStash(below)
    assert stash["a"] == 1
    below.dump("a", 2)
    assert stash["a"] == 1
    stash.forget_cached()
    assert stash["a"] == 2
    stash.dump("a", 3)
    assert stash["a"] == 3
    stash.delete("a")
    assert stash.get("a") is None


def test_an_old_value_that_is_read_slowly_is_not_cached_over_a_new_one() -> None:
    reading, written = threading.Event(), threading.Event()

    class Slow(DelegateStash):
        def load(self, name: str) -> Any:
            value = super().load(name)
            if not written.is_set():
                reading.set()
                written.wait(10)
            return value

    stash = CacheStash(Slow(MappingStash({"a": "old"})))
    seen: list[Any] = []
    reader = threading.Thread(target=lambda: seen.append(stash["a"]))
    reader.start()
    reading.wait(10)
    stash.dump("a", "new")
    written.set()
    reader.join()
    assert seen == ["old"]
    assert stash["a"] == "new"


def test_a_failed_write_leaves_no_stale_value(tmp_path: Path) -> None:
    class Refusing(DelegateStash):
        def dump(self, name: str, value: Any) -> None:
            super().dump(name, value)
            raise OSError("the answer was lost")

    stash = CacheStash(Refusing(MappingStash({"a": 1})))
    assert stash["a"] == 1
    with pytest.raises(OSError, match="lost"):
        stash.dump("a", 2)
    assert stash["a"] == 2


def test_a_cache_that_lasts_is_used_by_the_next_process(tmp_path: Path) -> None:
    slow, fast = DirectoryStash(tmp_path / "slow"), DirectoryStash(tmp_path / "fast")
    slow.dump("a", [1])
    assert CacheStash(slow, fast)["a"] == [1]
    below = Counting(slow)
    assert CacheStash(below, fast)["a"] == [1]
    assert below.loads == 0
    slow.dump("a", [2])
    assert CacheStash(slow, fast)["a"] == [2]


def test_a_read_only_cache_keeps_its_changes_to_itself() -> None:
    below = DictionaryStash({"a": 1, "b": 2})
    stash = CacheStash(below, read_only=True)
    stash.dump("a", 10)
    stash.dump("c", 30)
    stash.delete("b")
    assert dict(stash) == {"a": 10, "c": 30}
    assert dict(below) == {"a": 1, "b": 2}
    stash.clear()
    assert dict(stash) == {}
    stash.forget_cached()
    assert dict(stash) == {"a": 1, "b": 2}


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    below = Counting(DirectoryStash(tmp_path))
    stash = LRUCacheStash(below, maxsize=2)
    stash.set_many({"a": 1, "b": 2, "c": 3})
    for name in "abacab":
        assert stash[name] is not None
    # a, b read; a hit; c read, b goes; a hit; b read.
    assert below.loads == 4
    assert dict(stash) == {"a": 1, "b": 2, "c": 3}
    with pytest.raises(UsageError):
        LRUCacheStash(below, maxsize=0)


def test_the_least_recently_used_without_a_delegate_is_all_there_is() -> None:
    for stash in (LRUCacheStash(2), LRUCacheStash(maxsize=2)):
        stash.set_many({"a": 1, "b": None})
        assert stash["a"] == 1
        stash.dump("c", 3)
        assert dict(stash) == stash.data == {"a": 1, "c": 3}
        assert len(stash) == 2
        assert stash.load("b") is None
        assert "b" not in stash
    below = Counting(DictionaryStash({str(number): number for number in range(5)}))
    cached = CacheStash(below, LRUCacheStash(2))
    assert [cached[name] for name in "01201"] == [0, 1, 2, 0, 1]
    assert cached["1"] == 1
    assert below.loads == 5


def test_a_cache_is_pickled_without_what_it_holds() -> None:
    stash = CacheStash(DictionaryStash({"a": "x" * 10_000}))
    assert stash["a"]
    assert len(pickle.dumps(stash)) < 12_000
