"""The contract of snapshot stores, run on every one that perdure ships."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from perdure.snapshots import FileSnapshotStore, MemorySnapshotStore, SnapshotStore
from perdure.testing import SnapshotContract


class TestFileSnapshotStore(SnapshotContract):
    secrets: tuple[bytes, ...] = ()

    @pytest.fixture
    def store(self, tmp_path: Path) -> SnapshotStore:
        return FileSnapshotStore(str(tmp_path), secrets=self.secrets)

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], SnapshotStore]:
        return lambda: FileSnapshotStore(str(tmp_path), secrets=self.secrets)


class TestFileSnapshotStoreWithSecret(TestFileSnapshotStore):
    secrets = (b"a secret",)


class TestMemorySnapshotStore(SnapshotContract):
    @pytest.fixture
    def store(self) -> SnapshotStore:
        return MemorySnapshotStore()
