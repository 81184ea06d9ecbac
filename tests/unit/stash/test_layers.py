"""What layers add to the contract."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import MissingError, PersistableError, ReadOnlyError, UsageError
from perdure.stash import (
    CacheFactoryStash,
    CacheStash,
    DelegateStash,
    DictionaryStash,
    DirectoryStash,
    FactoryStash,
    Failure,
    FailureFilterStash,
    KeyLimitStash,
    KeySubsetStash,
    LogStash,
    MappingStash,
    NoopStash,
    OneShotFactoryStash,
    ProtectiveStash,
    ReadOnlyDelegateStash,
    ReadOnlyStash,
    SortedStash,
    Stash,
    UnionStash,
)


class Squares(ReadOnlyStash):
    """A factory as the documentation has them: it says how to load and what its names are."""

    def __init__(self, size: int = 5) -> None:
        self.size = size
        self.made: list[str] = []

    def load(self, name: str) -> Any:
        self.made.append(name)
        if name == "3":
            return None
        if name == "4":
            raise ValueError("four")
        return int(name) ** 2

    def keys(self) -> Iterator[str]:
        return (str(number) for number in range(self.size))


# ---- factories -------------------------------------------------------------------------------------------------------


def test_a_factory_makes_what_is_missing_once(tmp_path: Path) -> None:
    factory = Squares(4)
    stash = FactoryStash(DirectoryStash(tmp_path), factory)
    assert len(stash) == 4
    assert "2" in stash
    assert stash["2"] == stash["2"] == 4
    assert factory.made == ["2"]
    assert dict(stash) == {"0": 0, "1": 1, "2": 4, "3": None}
    assert FactoryStash(DirectoryStash(tmp_path), Squares(4))["1"] == 1
    assert factory.made == ["2", "0", "1", "3"]


def test_indexing_forces_and_get_does_not() -> None:
    stash = FactoryStash(DictionaryStash(), Squares(3))
    assert "7" not in stash
    assert stash.get("7", "default") == "default"
    assert stash["7"] == 49
    assert stash.get("7") == 49
    assert stash.get("2") == 4


def test_a_none_that_was_made_is_stored_unless_told_otherwise() -> None:
    factory = Squares(4)
    stash = FactoryStash(DictionaryStash(), factory)
    assert [stash["3"], stash["3"]] == [None, None]
    assert factory.made == ["3"]
    other = FactoryStash(DictionaryStash(), Squares(4), dump_factory_nones=False)
    assert other["3"] is None
    assert other.delegate is not None
    assert not other.delegate.exists("3")


def test_what_a_factory_raises_passes_and_nothing_is_stored() -> None:
    stash = FactoryStash(DictionaryStash(), Squares(5))
    with pytest.raises(ValueError, match="four"):
        stash["4"]
    assert isinstance(stash.delegate, DictionaryStash)
    assert stash.delegate.data == {}


def test_an_interrupted_prime_is_not_taken_for_complete(tmp_path: Path) -> None:
    stash = FactoryStash(DirectoryStash(tmp_path), Squares(9))
    with pytest.raises(ValueError, match="four"):
        stash.prime()
    again = FactoryStash(DirectoryStash(tmp_path), Squares(9))
    assert not again.has_data
    assert sorted(again.keys()) == [str(number) for number in range(9)]
    assert again["8"] == 64


def test_a_complete_factory_is_not_asked_again(tmp_path: Path) -> None:
    FactoryStash(DirectoryStash(tmp_path), Squares(4)).prime()
    factory = Squares(4)
    stash = FactoryStash(DirectoryStash(tmp_path), factory)
    assert stash.has_data
    stash.prime()
    assert dict(stash) == {"0": 0, "1": 1, "2": 4, "3": None}
    assert factory.made == []
    stash.clear()
    assert not stash.has_data
    assert stash["2"] == 4
    assert factory.made == ["2"]


def test_a_cache_factory_knows_the_names_of_its_factory() -> None:
    factory = Squares(3)
    stash = CacheFactoryStash(DictionaryStash(), factory)
    assert list(stash.keys()) == ["0", "1", "2"]
    assert stash.get("2") == 4
    assert stash.get("7", "default") == "default"
    with pytest.raises(KeyError):
        stash["7"]
    assert stash["2"] == 4
    assert factory.made == ["2"]


@pytest.mark.parametrize("kind", [FactoryStash, CacheFactoryStash])
def test_clearing_leaves_the_factory_alone_unless_it_is_asked_for(kind: Any) -> None:
    for forced in (False, True):
        factory = DictionaryStash({"a": 1})
        stash = kind(DictionaryStash(), factory, force_clear_factory=forced)
        assert stash["a"] == 1
        stash.clear()
        assert len(factory) == (0 if forced else 1)


@pytest.mark.parametrize("kind", [FactoryStash, CacheFactoryStash])
def test_a_factory_stash_without_a_factory_says_so(kind: Any) -> None:
    with pytest.raises(UsageError, match="needs a factory"):
        kind(DictionaryStash())["a"]


# ---- filled at once --------------------------------------------------------------------------------------------------


def test_one_shot_fills_once(tmp_path: Path) -> None:
    calls = []

    def worker() -> Iterator[tuple[str, int]]:
        calls.append(1)
        yield from {"a": 1, "b": 2}.items()

    stash = OneShotFactoryStash(DirectoryStash(tmp_path), worker)
    assert dict(stash) == {"a": 1, "b": 2}
    assert stash["a"] == 1
    assert dict(OneShotFactoryStash(DirectoryStash(tmp_path), worker)) == {"a": 1, "b": 2}
    assert len(calls) == 1
    stash.clear()
    assert len(stash) == 2
    assert len(calls) == 2


def test_one_shot_takes_pairs_themselves() -> None:
    assert dict(OneShotFactoryStash(DictionaryStash(), [("a", 1)])) == {"a": 1}
    assert dict(OneShotFactoryStash(DictionaryStash(), iter([("a", 1)]))) == {"a": 1}
    assert dict(OneShotFactoryStash(DictionaryStash(), [["a", 1]])) == {"a": 1}  # type: ignore[list-item]


class _WorksItself(OneShotFactoryStash):
    def worker(self) -> Iterator[tuple[str, int]]:
        yield "a", 1


class _HasTheWork(OneShotFactoryStash):
    @property
    def worker(self) -> list[tuple[str, int]]:
        return [("a", 1)]


@pytest.mark.parametrize("kind", [_WorksItself, _HasTheWork])
def test_the_worker_of_one_shot_may_be_a_subclasss_own(kind: Any) -> None:
    assert dict(kind(DictionaryStash())) == {"a": 1}
    assert dict(pickle.loads(pickle.dumps(kind(DictionaryStash())))) == {"a": 1}  # Made by this test a moment ago.
    stash = OneShotFactoryStash(DictionaryStash())
    stash.worker = [("b", 2)]  # type: ignore[attr-defined]
    assert dict(stash) == {"b": 2}


@pytest.mark.parametrize("make", [DirectoryStash, LogStash], ids=["directory", "log"])
def test_an_interrupted_one_shot_is_not_taken_for_complete(tmp_path: Path, make: Any) -> None:
    def failing() -> Iterator[tuple[str, int]]:
        yield "a", 1
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError), _Closing(make(tmp_path)) as delegate:
        OneShotFactoryStash(delegate, failing).prime()
    with _Closing(make(tmp_path)) as delegate:
        assert delegate["a"] == 1
        stash = OneShotFactoryStash(delegate, [("a", 1), ("b", 2)])
        assert not stash.has_data
        assert stash["b"] == 2
    with _Closing(make(tmp_path)) as delegate:
        assert OneShotFactoryStash(delegate, failing).has_data


class _Closing:
    def __init__(self, stash: Any) -> None:
        self.stash = stash

    def __enter__(self) -> Any:
        return self.stash

    def __exit__(self, *details: object) -> None:
        getattr(self.stash, "close", lambda: None)()


def test_a_used_up_iterator_is_an_error_and_no_empty_stash() -> None:
    stash = OneShotFactoryStash(DictionaryStash(), iter([("a", 1)]))
    stash.prime()
    stash.clear()
    with pytest.raises(PersistableError, match="was read before"):
        stash.prime()
    assert not stash.has_data


# ---- parts of the names ----------------------------------------------------------------------------------------------


def test_a_limit_shortens_the_listing_only() -> None:
    content = DictionaryStash({"a": 1, "b": 2, "c": 3})
    stash = KeyLimitStash(content, limit=2)
    assert dict(stash) == dict(KeyLimitStash(content, n_limit=2)) == {"a": 1, "b": 2}
    assert len(stash) == 2
    assert stash["c"] == 3
    stash.clear()
    assert "c" not in stash


def test_a_subset_hides_the_rest() -> None:
    content = DictionaryStash({"a": 1, "b": 2, "c": 3})
    stash = KeySubsetStash(content, {"a", "c", "absent"})
    assert dict(stash) == {"a": 1, "c": 3}
    assert set(KeySubsetStash(content, {"a", "absent"}, dynamic_subset=False).keys()) == {"a", "absent"}
    assert len(stash) == 2
    assert "b" not in stash
    assert stash.get("b", "default") == "default"
    assert stash.get_many(["a", "b"]) == {"a": 1}
    with pytest.raises(KeyError):
        stash["b"]
    stash.clear()
    assert dict(content) == {"b": 2}


def test_a_subset_from_a_file_works_twice(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("c\na\nc\n\nabsent\n")
    stash = KeySubsetStash(DictionaryStash({"a": 1, "b": 2, "c": 3}), tmp_path / "names")
    assert list(stash) == [("c", 3), ("a", 1)]
    assert list(stash) == [("c", 3), ("a", 1)]
    assert "a" in stash
    assert "a" in stash
    assert list(pickle.loads(pickle.dumps(stash))) == [("c", 3), ("a", 1)]  # Made by this test a moment ago.
    with pytest.raises(MissingError):
        list(KeySubsetStash(DictionaryStash(), tmp_path / "absent"))


def test_sorted_names() -> None:
    content = DictionaryStash({"10": "x", "9": "y", "1": "z"})
    assert list(SortedStash(content).keys()) == ["1", "10", "9"]
    assert list(SortedStash(content, int)) == [("1", "z"), ("9", "y"), ("10", "x")]
    assert list(SortedStash(content, lambda name: -int(name)).keys()) == ["10", "9", "1"]


def test_the_names_of_a_union_are_unique() -> None:
    stash = UnionStash(stashes=[DictionaryStash({"a": None, "b": 2}), DictionaryStash({"a": 9, "c": 3})])
    assert list(stash) == [("a", None), ("b", 2), ("c", 3)]
    assert len(stash) == 3
    assert stash.get("a", "default") is None
    assert stash.get("absent", 7) == 7


# ---- read-only -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda strict: UnionStash(stashes=[DictionaryStash({"a": 1})], strict=strict),
                                  lambda strict: ReadOnlyDelegateStash(DictionaryStash({"a": 1}), strict=strict)],
                         ids=["union", "delegate"])  # fmt: skip
def test_read_only_is_silent_or_strict(make: Any) -> None:
    lenient = make(False)
    lenient.dump("a", 2)
    lenient.delete("a")
    del lenient["a"]
    lenient.clear()
    assert lenient["a"] == 1
    strict = make(True)
    for write in (
        lambda: strict.dump("a", 2),
        lambda: strict.delete("a"),
        strict.clear,
        lambda: strict.set_many({"a": 2}),
    ):
        with pytest.raises(ReadOnlyError):
            write()
    with pytest.raises(ReadOnlyError):
        del strict["a"]
    assert strict["a"] == 1


def test_without_a_delegate_nothing_is_held() -> None:
    for stash in (DelegateStash(), NoopStash()):
        stash.dump("a", 1)
        stash.delete("a")
        stash.clear()
        assert list(stash) == []
        assert stash.get("a", 7) == 7
        assert stash.load("a") is None


# ---- failures --------------------------------------------------------------------------------------------------------


def test_a_protected_factory_gives_failures_as_values(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stash = FactoryStash(DirectoryStash(tmp_path), ProtectiveStash(Squares(5)))
    failure = stash["4"]
    assert isinstance(failure, Failure)
    assert (failure.name, failure.kind, failure.message) == ("4", "ValueError", "four")
    assert "in load" in failure.traceback
    assert "ValueError: four" in caplog.text
    assert DirectoryStash(tmp_path)["4"] == failure
    with pytest.raises(PersistableError, match="four"):
        failure.rethrow()
    assert str(failure) == "'4': ValueError: four"


def test_what_cannot_be_stored_in_a_protected_stash_is_a_failure(tmp_path: Path) -> None:
    stash = ProtectiveStash(DirectoryStash(tmp_path), log_errors=False)
    stash.set_many({"good": 1, "bad": lambda: None})
    assert stash["good"] == 1
    assert stash["bad"].kind == "perdure.errors.CodecError"
    with pytest.raises(UsageError):
        stash.dump(7, "the name is no text")  # type: ignore[arg-type]


def test_failures_can_be_hidden() -> None:
    content = DictionaryStash({"a": 1, "b": Failure("b", "ValueError", "no"), "c": None})
    stash = FailureFilterStash(content)
    assert dict(stash) == {"a": 1, "c": None}
    assert len(stash) == 2
    assert "b" not in stash
    assert stash.get("b", 7) == 7
    assert stash.get_many(["a", "b", "c"]) == {"a": 1, "c": None}
    with pytest.raises(KeyError):
        stash["b"]


# ---- a user's own ----------------------------------------------------------------------------------------------------


class Upper(DelegateStash):
    """Overrides nothing but ``load``: all other ways of reading have to follow."""

    def load(self, name: str) -> Any:
        value = super().load(name)
        return value.upper() if value is not None else None


@pytest.mark.parametrize("below", ["dictionary", "directory", "factory", "cache"])
def test_overriding_load_changes_every_way_of_reading(tmp_path: Path, below: str) -> None:
    content: Stash = DictionaryStash()
    if below == "directory":
        content = DirectoryStash(tmp_path)
    elif below == "factory":
        content = FactoryStash(DictionaryStash(), NoopStash())
    elif below == "cache":
        content = CacheStash(DictionaryStash())
    stash = Upper(content)
    stash.dump("a", "text")
    assert stash.load("a") == stash["a"] == stash.get("a") == stash.mapping["a"] == "TEXT"
    assert list(stash.values()) == ["TEXT"]
    assert dict(stash) == stash.get_many(["a"]) == {"a": "TEXT"}
    assert stash.get("b", 7) == 7


class Doubling(DirectoryStash):
    def dump(self, name: str, value: Any) -> None:
        super().dump(name, value * 2)


def test_overriding_dump_changes_every_way_of_writing(tmp_path: Path) -> None:
    stash = Doubling(tmp_path)
    stash["a"] = 1
    stash.set_many({"b": 2})
    stash.mapping["c"] = 3
    assert dict(stash) == {"a": 2, "b": 4, "c": 6}


def test_a_stack_reads_from_the_top_and_writes_to_the_bottom(tmp_path: Path) -> None:
    factory = Squares(4)
    stash = CacheStash(FactoryStash(DirectoryStash(tmp_path), factory))
    assert stash["2"] == 4
    assert stash["2"] == 4
    assert factory.made == ["2"]
    assert DirectoryStash(tmp_path)["2"] == 4
    DirectoryStash(tmp_path).dump("2", "changed")
    assert stash["2"] == "changed"


def test_any_mapping_is_a_stash_and_keeps_its_mark() -> None:
    content: dict[str, Any] = {}
    OneShotFactoryStash(MappingStash(content), [("a", 1)]).prime()
    stash = OneShotFactoryStash(MappingStash(content), None)
    assert stash.has_data
    assert dict(stash) == {"a": 1}
    with pytest.raises(UsageError):
        MappingStash(content).dump(".perdure-filled", 1)
