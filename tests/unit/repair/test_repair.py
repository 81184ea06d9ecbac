"""After a repair the directory opens and verifies, and every byte that was taken away is in the quarantine folder."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import (
    CorruptError,
    FormatVersionError,
    LockedError,
    MissingError,
    PerdureError,
    StorageError,
    WriteError,
)
from perdure.fs import Fs
from perdure.repair import RepairReport, diagnose, repair, survey
from perdure.testing import FaultyFs, crashsim, failing_everywhere
from tests.unit.repair import _boxes as boxes
from tests.unit.repair._boxes import OpenBox, flip, flip_entry, make, segment, snapshot


def problems(directory: Path, secrets: Sequence[bytes] = ()) -> list[str]:
    return [p.message for p in diagnose(survey(str(directory), secrets=secrets), secrets=secrets).problems]


def opened(directory: Path, secrets: Sequence[bytes] = ()) -> list[int]:
    with OpenBox(directory, secrets=secrets) as box:
        return box.items


def repaired(directory: Path, secrets: Sequence[bytes] = ()) -> RepairReport:
    """Repairs, and checks what must hold after every repair."""
    before = boxes.content(directory)
    report = repair(str(directory), secrets=secrets)
    kept = boxes.content(directory)
    assert all(data in kept for data in before)
    assert problems(directory, secrets) == []
    assert repair(str(directory), secrets=secrets).state == "nothing to do"
    return report


def test_healthy_directory_is_left_alone(tmp_path: Path) -> None:
    make(tmp_path / "box", snapshots=[8, 15])
    before = sorted(os.listdir(tmp_path / "box"))
    report = repair(str(tmp_path / "box"))
    assert report.state == "nothing to do"
    assert sorted(os.listdir(tmp_path / "box")) == before


def test_damage_in_the_middle_keeps_the_good_beginning(tmp_path: Path) -> None:
    box = make(tmp_path / "box")
    damaged = flip_entry(box, 9)
    with pytest.raises(CorruptError, match="entry 9"):
        opened(box)
    report = repaired(box)
    assert (report.reach, report.lost_first, report.lost_last) == (8, 9, 20)
    assert list(report.cut) == [damaged.name]
    assert opened(box) == list(range(1, 9))


def test_commands_go_on_after_a_repair(tmp_path: Path) -> None:
    box = make(tmp_path / "box")
    flip_entry(box, 9)
    repaired(box)
    with OpenBox(box) as again:
        again.add(100)
    assert opened(box) == [*range(1, 9), 100]
    assert problems(box) == []


def test_a_newer_snapshot_covers_the_damage_and_nothing_is_lost(tmp_path: Path) -> None:
    box = make(tmp_path / "box", snapshots=[10, 15])
    flip_entry(box, 5)
    report = repaired(box)
    assert report.lost_count == 0
    assert opened(box) == list(range(1, 21))
    assert snapshot(box, 10).exists()
    assert snapshot(box, 15).exists()
    # It leads nowhere any more, and can still be looked at.
    assert snapshot(box, 0).exists()


def test_entries_behind_the_damage_in_the_same_segment_are_written_anew(tmp_path: Path) -> None:
    box = make(tmp_path / "box", 20)
    data = boxes.flip_entry(box, 9)
    first = survey(str(box)).segments
    base = next(file.base_seq for file in first if file.path == str(data))
    shutil.rmtree(box)
    # The snapshot covers the damaged entry, which stands in the segment that holds the next ones.
    make(box, 20, snapshots=[base])
    flip_entry(box, base)
    report = repaired(box)
    assert report.written_anew == [base + 1, 20]
    assert report.lost_count == 0
    assert opened(box) == list(range(1, 21))


@pytest.mark.parametrize("secrets", [(), (b"a key",)], ids=["plain", "authentic"])
def test_a_damaged_header_costs_no_entry(tmp_path: Path, secrets: tuple[bytes, ...]) -> None:
    box = make(tmp_path / "box", secrets=secrets)
    flip(segment(box, 2), 30)
    report = repaired(box, secrets)
    assert report.lost_count == 0
    assert opened(box, secrets) == list(range(1, 21))


@pytest.mark.parametrize("secrets", [(), (b"a key",)], ids=["plain", "authentic"])
def test_a_missing_segment_ends_the_journal(tmp_path: Path, secrets: tuple[bytes, ...]) -> None:
    box = make(tmp_path / "box", secrets=secrets)
    base = survey(str(box), secrets=secrets).segments[1].base_seq
    segment(box, 2).unlink()
    with pytest.raises(MissingError, match="journal-00000002"):
        opened(box, secrets)
    report = repaired(box, secrets)
    assert report.reach == base - 1
    assert report.lost_last == 20
    assert opened(box, secrets) == list(range(1, base))


def test_a_missing_segment_that_a_snapshot_covers_costs_nothing(tmp_path: Path) -> None:
    box = make(tmp_path / "box", snapshots=[16])
    segment(box, 2).unlink()
    report = repaired(box)
    assert report.lost_count == 0
    assert opened(box) == list(range(1, 21))


def test_a_damaged_newest_snapshot_is_moved_aside(tmp_path: Path) -> None:
    box = make(tmp_path / "box", snapshots=[8, 15])
    flip(snapshot(box, 15), -300)
    report = repaired(box)
    assert list(report.moved) == [snapshot(box, 15).name]
    assert opened(box) == list(range(1, 21))


def test_a_damaged_newest_snapshot_and_a_damaged_journal(tmp_path: Path) -> None:
    box = make(tmp_path / "box", snapshots=[8, 15])
    flip(snapshot(box, 15), -300)
    flip_entry(box, 12)
    report = repaired(box)
    assert (report.reach, report.lost_first, report.lost_last) == (11, 12, 20)
    assert opened(box) == list(range(1, 12))


def test_without_any_good_snapshot_nothing_is_touched(tmp_path: Path) -> None:
    box = make(tmp_path / "box")
    flip(snapshot(box, 0), -300)
    before = sorted(os.listdir(box))
    with pytest.raises(CorruptError, match="no snapshot is left"):
        repair(str(box))
    assert sorted(os.listdir(box)) == before


def test_a_journal_of_another_system_is_not_taken_apart(tmp_path: Path) -> None:
    box = make(tmp_path / "box")
    other = make(tmp_path / "other")
    for path in other.glob("journal-*"):
        shutil.copy(path, box / path.name)
    with pytest.raises(CorruptError, match="different systems"):
        repair(str(box))


def test_one_foreign_segment_is_set_aside(tmp_path: Path) -> None:
    box = make(tmp_path / "box")
    other = make(tmp_path / "other")
    last = boxes.segment_count(box)
    shutil.copy(segment(other, last), segment(box, last))
    report = repaired(box)
    assert list(report.moved) == [segment(box, last).name]


def test_a_torn_tail_is_no_problem(tmp_path: Path) -> None:
    box = make(tmp_path / "box")
    with segment(box, boxes.segment_count(box)).open("r+b") as file:
        # Without the seal and half of the last entry: what a power cut leaves.
        file.truncate(os.fstat(file.fileno()).st_size - 50)
    diagnosis = diagnose(survey(str(box)))
    assert not diagnosis.problems
    assert any("never became durable" in note for note in diagnosis.notes)
    assert opened(box) == list(range(1, 20))


def test_a_torn_tail_that_was_cut_is_no_problem(tmp_path: Path) -> None:
    box = make(tmp_path / "box")
    with segment(box, boxes.segment_count(box)).open("r+b") as file:
        file.truncate(os.fstat(file.fileno()).st_size - 50)
    with OpenBox(box) as again:
        again.add(77)
    assert problems(box) == []
    assert opened(box)[-1] == 77


def test_foreign_files_are_never_touched(tmp_path: Path) -> None:
    box = make(tmp_path / "box")
    (box / "notes.txt").write_text("mine")
    (box / "journal-1").write_text("mine, too")
    flip_entry(box, 3)
    repaired(box)
    assert (box / "notes.txt").read_text() == "mine"
    assert (box / "journal-1").read_text() == "mine, too"


def test_pruned_leftovers_in_any_order_are_no_problem(tmp_path: Path) -> None:
    box = make(tmp_path / "box", 30, snapshots=[10, 20])
    segment(box, 1).unlink()
    snapshot(box, 0).unlink()
    assert problems(box) == []
    segment(box, 2).exists()


def test_a_gap_that_only_the_fallback_needs_is_a_problem(tmp_path: Path) -> None:
    box = make(tmp_path / "box", 30, snapshots=[10, 20])
    number = next(f.number for f in survey(str(box)).segments if f.base_seq <= 15 <= f.last_seq)
    segment(box, number).unlink()
    assert any("missing" in message for message in problems(box))
    repaired(box)
    assert opened(box) == list(range(1, 31))
    assert not snapshot(box, 10).exists()


def test_a_journal_that_ends_before_its_snapshot_is_a_problem(tmp_path: Path) -> None:
    box = make(tmp_path / "box", 20, snapshots=[20])
    segment(box, boxes.segment_count(box)).unlink()
    assert any("before the newest snapshot" in message for message in problems(box))
    repaired(box)
    assert opened(box) == list(range(1, 21))


def test_the_report_lies_beside_what_was_taken_away(tmp_path: Path) -> None:
    box = make(tmp_path / "box")
    flip_entry(box, 9)
    report = repaired(box)
    assert report.folder is not None
    stored = json.loads((Path(report.folder) / "report.json").read_text())
    assert stored["state"] == "finished"
    assert stored["lost_first"] == 9
    assert "entry 9" in stored["problems"][0]


def test_a_writer_keeps_repair_away(tmp_path: Path) -> None:
    with OpenBox(tmp_path / "box") as box:
        box.add(1)
        with pytest.raises(LockedError):
            repair(str(tmp_path / "box"))


def test_a_missing_secret_is_not_taken_for_damage(tmp_path: Path) -> None:
    box = make(tmp_path / "box", secrets=(b"a key",))
    with pytest.raises(CorruptError, match="authentication"):
        repair(str(box))
    with pytest.raises(CorruptError):
        repair(str(box), secrets=(b"another key",))
    assert opened(box, (b"a key",)) == list(range(1, 21))


def test_an_exchanged_segment_is_found_by_its_chain(tmp_path: Path) -> None:
    key = (b"a key",)
    box = make(tmp_path / "box", secrets=key)
    shutil.copytree(box, tmp_path / "copy")
    flip_entry(box, 6)
    repair(str(box), secrets=key)
    with OpenBox(box, secrets=key) as again:
        for number in range(100, 120):
            again.add(number)
    # Both have this segment, and before it both hold the same entries; only the chains tell them apart.
    number = boxes.segment_count(tmp_path / "copy") - 1
    shutil.copy(segment(tmp_path / "copy", number), segment(box, number))
    assert problems(box, key)


def test_what_changed_since_the_question_is_refused(tmp_path: Path) -> None:
    box = make(tmp_path / "box")
    flip_entry(box, 12)
    asked = diagnose(survey(str(box))).remedy
    flip_entry(box, 5)
    with pytest.raises(StorageError, match="changed meanwhile"):
        repair(str(box), expected=asked)


# ---- nothing is lost, whatever happens


DAMAGES = ["middle", "header", "missing", "covered", "same segment", "snapshot"]


def damaged(directory: Path, damage: str, secrets: Sequence[bytes] = ()) -> list[int]:
    """A damaged directory, and what opening must give after the repair."""
    snapshots = {"covered": [12], "same segment": [5], "snapshot": [12]}.get(damage, [])
    make(directory, 14, snapshots=snapshots, secrets=secrets)
    if damage == "middle":
        flip_entry(directory, 7)
        return list(range(1, 7))
    if damage == "header":
        flip(segment(directory, 2), 30)
    elif damage == "missing":
        base = survey(str(directory), secrets=secrets).segments[1].base_seq
        segment(directory, 2).unlink()
        return list(range(1, base))
    elif damage == "snapshot":
        flip(snapshot(directory, 12), -200)
    else:
        flip_entry(directory, 5)
    return list(range(1, 15))


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("mode", ["once", "sticky", "full"])
def test_a_repair_that_fails_anywhere_can_be_repeated(tmp_path: Path, damage: str, mode: Any) -> None:
    wanted = damaged(tmp_path / "original", damage)
    before = boxes.content(tmp_path / "original")
    box = tmp_path / "box"
    for fs in failing_everywhere(mode, errno.ENOSPC if mode == "full" else errno.EIO):
        shutil.rmtree(box, ignore_errors=True)
        shutil.copytree(tmp_path / "original", box)
        try:
            repair(str(box), fs=fs)
        except PerdureError:
            pass
        assert not fs.open_fds
        repair(str(box))
        kept = boxes.content(box)
        assert all(data in kept for data in before), fs.fired
        assert problems(box) == []
        assert opened(box) == wanted, fs.fired


def test_a_full_disk_is_an_error_of_the_tree(tmp_path: Path) -> None:
    box = make(tmp_path / "box")
    flip_entry(box, 9)
    with pytest.raises(WriteError, match="refused"):
        repair(str(box), fs=FaultyFs(fail_at=1, mode="full", error=errno.ENOSPC, of=["write"]))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_power_cut_at_any_moment_of_a_repair_loses_nothing(tmp_path: Path, damage: str) -> None:
    wanted = damaged(tmp_path / "original", damage)
    before = boxes.content(tmp_path / "original")
    names = sorted(os.listdir(tmp_path / "original"))

    def workload(directory: str, fs: Fs, log: crashsim.Log) -> None:
        box = os.path.join(directory, "box")
        fs.make_directory(box)
        for name in names:
            fs.write_atomically(os.path.join(box, name), [(tmp_path / "original" / name).read_bytes()])
        log.acknowledged(1)
        repair(box, fs=fs)

    def check(directory: str, acknowledged: int, tried: int) -> str | None:
        if not acknowledged:
            return None
        box = Path(directory) / "box"
        repair(str(box))
        kept = boxes.content(box)
        if not all(data in kept for data in before):
            return "bytes are lost"
        if found := problems(box):
            return f"still wrong: {found}"
        items = opened(box)
        return None if items == wanted else f"{items} where {wanted} belongs"

    report = crashsim.explore(workload, check, limit=60, seconds_max=20)
    assert not report.failures, report


@pytest.mark.parametrize("keep_history", [True, False])
def test_what_a_power_cut_leaves_is_never_called_damaged(keep_history: bool) -> None:
    def workload(directory: str, fs: Fs, log: crashsim.Log) -> None:
        with OpenBox(Path(directory) / "box", fs=fs, keep_history=keep_history) as box:
            log.acknowledged(1)
            for number in range(1, 16):
                box.add(number)
                if number % 3 == 0:
                    box.machine.snapshot()

    def check(directory: str, acknowledged: int, tried: int) -> str | None:
        if not acknowledged:
            return None
        box = Path(directory) / "box"
        before = problems(box)
        opened(box)
        after = problems(box)
        return f"before opening: {before}; after it: {after}" if before or after else None

    report = crashsim.explore(workload, check, limit=40, seconds_max=25)
    assert not report.failures, report


# Drawn beforehand, as shares: how large the files are depends on when the journal was idle.
_DAMAGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "flip", "flip", "truncate", "delete"]),
        st.floats(0, 1, exclude_max=True),
        st.floats(0, 1, exclude_max=True),
    ),
    min_size=1,
    max_size=3,
)


@given(
    count=st.integers(1, 25),
    snapshots=st.lists(st.integers(1, 25), max_size=3, unique=True),
    keep_history=st.booleans(),
    damages=_DAMAGES,
)
def test_any_damage_is_repaired_to_a_beginning_of_the_truth(
    count: int,
    snapshots: list[int],
    keep_history: bool,
    damages: list[tuple[str, float, float]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    box = tmp_path_factory.mktemp("property") / "box"
    make(box, count, snapshots=[seq for seq in snapshots if seq <= count], keep_history=keep_history)
    for what, file_share, place in damages:
        names = sorted(os.listdir(box))
        path = box / names[int(file_share * len(names))]
        size_bytes = path.stat().st_size
        if what == "delete" and not path.name.startswith("snapshot"):
            path.unlink()
            if not boxes.segment_count(box):
                return
        elif what == "truncate":
            os.truncate(path, int(place * size_bytes))
        elif what == "flip" and size_bytes:
            flip(path, int(place * size_bytes))
    try:
        report = repaired(box)
    except FormatVersionError:
        # A bit of the version itself: what says that it is newer is left alone.
        return
    except (CorruptError, MissingError):
        # Nothing to build on is left.
        assert not survey(str(box)).good_snapshots
        return
    items = opened(box)
    assert items == list(range(1, len(items) + 1))
    assert len(items) <= count
    if report.state != "nothing to do":
        assert len(items) == report.reach
    assert problems(box) == []
