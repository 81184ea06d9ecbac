"""What is read, and what is kept, when old snapshots are pruned."""

from __future__ import annotations

from pathlib import Path

import pytest

import perdure
from perdure.limits import SNAPSHOT_BLOCK_BYTES
from perdure.snapshots import FileSnapshotStore, snapshot_name
from perdure.system import system_of
from perdure.testing import WrappingFs


class Kept:
    def __init__(self) -> None:
        self.items: list[bytes] = []

    def add(self, item: bytes) -> None:
        self.items.append(item)


class CountingFs(WrappingFs):
    def __init__(self) -> None:
        super().__init__()
        self.read_bytes = 0

    def read_at(self, fd: int, size_bytes: int, offset: int) -> bytes:
        data = super().read_at(fd, size_bytes, offset)
        self.read_bytes += len(data)
        return data


def snapshot_files(directory: Path) -> list[Path]:
    return sorted(directory.glob("snapshot-*"))


def flip_a_bit_in_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("secret", [None, b"s"])
def test_a_damaged_snapshot_does_not_count_as_one_that_is_kept(tmp_path: Path, secret: bytes | None) -> None:
    secrets = [secret] if secret else []
    with perdure.open(Kept, tmp_path, snapshot="manual", keep_history=True, secret=secret) as kept:
        for item in (b"1", b"2", b"3"):
            kept.add(item)
            perdure.control(kept).take_snapshot()
    flip_a_bit_in_the_middle(tmp_path / snapshot_name(2))
    assert FileSnapshotStore(str(tmp_path), secrets=secrets).prune(2) == 1
    assert [path.name for path in snapshot_files(tmp_path)] == [snapshot_name(seq) for seq in (1, 2, 3)]
    # What was kept is what is needed when the newest is damaged, too.
    flip_a_bit_in_the_middle(tmp_path / snapshot_name(3))
    with perdure.open(Kept, tmp_path, snapshot="manual", secret=secret) as kept:
        assert kept.items == [b"1", b"2", b"3"]
        report = perdure.control(kept).report
        assert (report.snapshot_seq, len(report.quarantined)) == (1, 2)


def test_with_a_secret_looking_for_snapshots_reads_no_content(tmp_path: Path) -> None:
    fs = CountingFs()
    with perdure.open(Kept, tmp_path, snapshot="manual", secret=b"s", fs=fs) as kept:
        kept.add(bytes(8 * SNAPSHOT_BLOCK_BYTES))
        perdure.control(kept).take_snapshot()
        store = system_of(kept).engine.snapshots
        fs.read_bytes = 0
        assert [snapshot.seq for snapshot in store.newest_first()] == [1, 0]
        assert fs.read_bytes < SNAPSHOT_BLOCK_BYTES


def test_with_a_secret_a_changed_content_is_still_refused(tmp_path: Path) -> None:
    with perdure.open(Kept, tmp_path, snapshot="manual", secret=b"s") as kept:
        kept.add(bytes(2 * SNAPSHOT_BLOCK_BYTES))
        perdure.control(kept).take_snapshot()
    flip_a_bit_in_the_middle(snapshot_files(tmp_path)[-1])
    with perdure.open(Kept, tmp_path, snapshot="manual", secret=b"s") as kept:
        assert perdure.control(kept).report.quarantined
        assert len(kept.items) == 1
