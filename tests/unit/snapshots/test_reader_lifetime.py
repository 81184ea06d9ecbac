"""A snapshot's reader that fails is thrown away without a sound."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import StorageError
from perdure.snapshots import FileSnapshotStore, SnapshotHeader
from perdure.testing import FaultyFs


@pytest.fixture
def complaints(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", found.append)
    return found


def written(directory: Path) -> FileSnapshotStore:
    store = FileSnapshotStore(str(directory))
    header = SnapshotHeader(0, 0, bytes(16), {})
    draft = store.write(header, lambda writer: writer.write(b"content"), lambda: bytes(32), lambda _: bytes(32))
    store.publish(draft, header)
    return store


def test_one_that_cannot_be_opened(tmp_path: Path, complaints: list[Any]) -> None:
    written(tmp_path)
    store = FileSnapshotStore(str(tmp_path), fs=FaultyFs(fail_at=1, of=["open"]))
    with pytest.raises((StorageError, OSError)):
        store.snapshot_at(0)
    gc.collect()
    assert complaints == []


def test_one_that_cannot_be_closed(tmp_path: Path, complaints: list[Any]) -> None:
    snapshot = written(tmp_path).snapshot_at(0)
    for fail_at in range(1, 4):
        store = FileSnapshotStore(str(tmp_path), fs=FaultyFs(fail_at=fail_at, of=["close"]))
        assert store.load(snapshot, lambda source: source.read(100))[0] == b"content"
    gc.collect()
    assert complaints == []
