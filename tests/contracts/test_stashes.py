"""The stash contract, run on every stash that perdure ships and needs no server for."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from perdure.stash import (
    CacheFactoryStash,
    CacheStash,
    DelegateStash,
    DictionaryStash,
    DirectoryStash,
    FactoryStash,
    FailureFilterStash,
    FsspecStash,
    KeyLimitStash,
    LogStash,
    LRUCacheStash,
    MappingStash,
    NoopStash,
    OneShotFactoryStash,
    ProtectiveStash,
    ShelveStash,
    SortedStash,
    SqlStash,
    Stash,
)
from perdure.testing._stash_contract import VALUES, StashContract

PLAIN_VALUES = [value for value in VALUES if not isinstance(value, bytes) and value != 2**70]


class TestDictionaryStash(StashContract):
    @pytest.fixture
    def stash(self) -> Stash:
        return DictionaryStash()


class TestMappingStash(StashContract):
    @pytest.fixture
    def stash(self) -> Stash:
        return MappingStash({})


class TestDirectoryStash(StashContract):
    @pytest.fixture
    def stash(self, tmp_path: Path) -> Stash:
        return DirectoryStash(tmp_path / "stash")


class TestDirectoryStashWithoutSyncsAndWithAnotherPattern(StashContract):
    @pytest.fixture
    def stash(self, tmp_path: Path) -> Stash:
        return DirectoryStash(tmp_path, "{name}", durability="never")


class TestDirectoryStashInJson(StashContract):
    values: ClassVar[list[Any]] = PLAIN_VALUES

    @pytest.fixture
    def stash(self, tmp_path: Path) -> Stash:
        return DirectoryStash(tmp_path, "item-{name}.json", codec="json")


class TestDirectoryStashInMsgPack(StashContract):
    values: ClassVar[list[Any]] = [value for value in VALUES if value != 2**70]

    @pytest.fixture
    def stash(self, tmp_path: Path) -> Stash:
        return DirectoryStash(tmp_path, codec="msgpack")


class TestLogStash(StashContract):
    @pytest.fixture
    def stash(self, tmp_path: Path) -> Iterator[Stash]:
        with LogStash(tmp_path) as stash:
            yield stash


class TestLogStashEverySecondInSmallSegments(StashContract):
    @pytest.fixture
    def stash(self, tmp_path: Path) -> Iterator[Stash]:
        with LogStash(tmp_path, durability="everysec", segment_bytes_max=1000, compact_bytes_min=2000) as stash:
            yield stash


class TestShelveStash(StashContract):
    @pytest.fixture
    def stash(self, tmp_path: Path) -> Iterator[Stash]:
        with ShelveStash(tmp_path / "shelf") as stash:
            yield stash


class TestShelveStashOpenedForEachCall(StashContract):
    @pytest.fixture
    def stash(self, tmp_path: Path) -> Stash:
        return ShelveStash(tmp_path / "shelf")


class TestSqlStashInAFile(StashContract):
    @pytest.fixture
    def stash(self, tmp_path: Path) -> Iterator[Stash]:
        pytest.importorskip("sqlalchemy")
        with SqlStash(f"sqlite:///{tmp_path}/stash.db") as stash:
            yield stash


class TestSqlStashInMemory(StashContract):
    @pytest.fixture
    def stash(self) -> Iterator[Stash]:
        pytest.importorskip("sqlalchemy")
        with SqlStash("sqlite://") as stash:
            yield stash


class TestFsspecStashInMemory(StashContract):
    @pytest.fixture
    def stash(self) -> Stash:
        pytest.importorskip("fsspec")
        return FsspecStash(f"memory://{secrets.token_hex(8)}/items")


class TestFsspecStashOnTheDisk(StashContract):
    @pytest.fixture
    def stash(self, tmp_path: Path) -> Stash:
        pytest.importorskip("fsspec")
        return FsspecStash(f"file://{tmp_path}/items")


# ---- layers ----------------------------------------------------------------------------------------------------------


class TestDelegateStash(StashContract):
    @pytest.fixture
    def stash(self) -> Stash:
        return DelegateStash(DictionaryStash())


class TestKeyLimitStash(StashContract):
    @pytest.fixture
    def stash(self, tmp_path: Path) -> Stash:
        return KeyLimitStash(DirectoryStash(tmp_path), n_limit=1000)


class TestSortedStash(StashContract):
    @pytest.fixture
    def stash(self) -> Stash:
        return SortedStash(DictionaryStash())


class TestFactoryStash(StashContract):
    @pytest.fixture
    def stash(self, tmp_path: Path) -> Stash:
        return FactoryStash(DirectoryStash(tmp_path), NoopStash())


class TestCacheStash(StashContract):
    @pytest.fixture
    def stash(self, tmp_path: Path) -> Stash:
        return CacheStash(DirectoryStash(tmp_path))


class TestCacheStashOnADisk(StashContract):
    @pytest.fixture
    def stash(self, tmp_path: Path) -> Stash:
        return CacheStash(MappingStash({}), DirectoryStash(tmp_path))


class TestReadOnlyCacheStash(StashContract):
    @pytest.fixture
    def stash(self) -> Stash:
        return CacheStash(DictionaryStash(), read_only=True)


class TestLRUCacheStash(StashContract):
    @pytest.fixture
    def stash(self, tmp_path: Path) -> Stash:
        return LRUCacheStash(DirectoryStash(tmp_path), maxsize=3)


class TestLRUCacheStashAlone(StashContract):
    @pytest.fixture
    def stash(self) -> Stash:
        return LRUCacheStash(maxsize=10_000)


class TestOneShotFactoryStash(StashContract):
    @pytest.fixture
    def stash(self, tmp_path: Path) -> Stash:
        return _AfterItsFill(OneShotFactoryStash(DirectoryStash(tmp_path), list))


class _AfterItsFill(DelegateStash):
    """A stash that fills itself is marked from the first call on; the contract's own mark is kept here instead."""

    def fill_mark(self) -> str | None:
        return Stash.fill_mark(self)

    def set_fill_mark(self, text: str | None) -> None:
        Stash.set_fill_mark(self, text)

    def clear(self) -> None:
        self.set_fill_mark(None)
        super().clear()


class TestProtectiveStash(StashContract):
    @pytest.fixture
    def stash(self) -> Stash:
        return ProtectiveStash(DictionaryStash())


class TestFailureFilterStash(StashContract):
    @pytest.fixture
    def stash(self) -> Stash:
        return FailureFilterStash(DictionaryStash())


class TestCacheFactoryStashOverItsFactory(StashContract):
    @pytest.fixture
    def stash(self) -> Stash:
        items = DictionaryStash()
        return _WritesToTheFactory(CacheFactoryStash(DictionaryStash(), items), items)


class _WritesToTheFactory(DelegateStash):
    """What is dumped goes to the factory, so that the layer finds it there and keeps it."""

    def __init__(self, layer: CacheFactoryStash, items: DictionaryStash) -> None:
        super().__init__(layer)
        self.items_of_factory = items

    def dump(self, name: str, value: Any) -> None:
        self.items_of_factory.dump(name, value)
        assert self.delegate is not None
        self.delegate.delete(name)

    def delete(self, name: str | None = None) -> None:
        self.items_of_factory.delete(name)
        super().delete(name)

    def clear(self) -> None:
        self.items_of_factory.clear()
        super().clear()
