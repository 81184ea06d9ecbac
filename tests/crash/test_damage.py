"""Damaged files: never another history, never silently a shorter one where that can be known."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator

import pytest

from perdure.errors import CorruptError
from perdure.fs import Fs
from perdure.journal import Draft, Durability, FileJournal
from perdure.records import COMMAND
from perdure.testing import FaultyFs
from tests.crash import _figures as figures
from tests.crash._images import Found, LedgerImage, entries, flipped
from tests.crash._ledger import Ledger
from tests.crash._mistakes import make
from tests.crash._workloads import cut_files

SECRET = b"kept elsewhere"


@pytest.fixture
def directory() -> Iterator[str]:
    # In memory where that is possible: there are thousands of syncs.
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    place = tempfile.mkdtemp(prefix="perdure-", dir=parent)
    yield os.path.join(place, "ledger")
    shutil.rmtree(place)


def three_segments(store: Ledger) -> None:
    entries(store, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1)


def two_snapshots(store: Ledger) -> None:
    entries(store, 1, 1, 1)
    store.snapshot()
    entries(store, 1, 1, 1)
    store.snapshot()
    entries(store, 1, 1)


def judge(problems: list[str | None]) -> None:
    figures.tried(figures.DAMAGED_FILES, len(problems), [problem for problem in problems if problem is not None])


# --- after a clean close ---


@pytest.mark.parametrize("secret", [b"", SECRET], ids=["checksums", "authenticated"])
@pytest.mark.parametrize("fill", [three_segments, two_snapshots])
def test_no_flipped_bit_changes_what_was_closed_cleanly(fill: object, secret: bytes, directory: str) -> None:
    image = LedgerImage(directory, fill, clean=True, secret=secret)  # type: ignore[arg-type]
    rng = random.Random(1)
    problems = [
        image.problem(name, content, f"flip at {offset}", [image.wanted, "error"])
        for name, data in image.files.items()
        for offset, content in flipped(data, lambda _: iter([rng.randrange(8)]))
    ]
    assert len(problems) > 700
    judge(problems)


def test_damaged_newest_snapshot_falls_back_to_the_one_before(directory: str) -> None:
    image = LedgerImage(directory, two_snapshots, clean=True)
    name = image.snapshots[-1]
    data = image.files[name]
    # What says "a newer perdure wrote this" is believed: the version's two bytes.
    version = range(16, 18)
    problems = [
        image.problem(name, content, f"flip at {offset}", [image.wanted])
        for offset, content in flipped(data, lambda _: iter([3]))
        if offset not in version
    ]
    problems += [image.problem(name, data[:end], f"cut at {end}", [image.wanted]) for end in range(len(data))]
    judge(problems)


def test_zeroed_bytes_change_nothing_that_was_closed_cleanly(directory: str) -> None:
    image = LedgerImage(directory, three_segments, clean=True)
    rng = random.Random(2)
    problems = []
    for name in image.segments:
        data = image.files[name]
        seal = image.records(name)[-1]
        for _ in range(60):
            # What reaches from an entry over the seal to the end of the last segment looks like a torn tail.
            start = rng.randrange(seal.start)
            end = rng.randrange(start, seal.start)
            content = data[:start] + bytes(end - start) + data[end:]
            problems.append(image.problem(name, content, f"zeros {start}–{end}", [image.wanted, "error"]))
    judge(problems)


def test_dropped_doubled_and_swapped_records_are_found(directory: str) -> None:
    image = LedgerImage(directory, three_segments, clean=True)
    problems = []
    for name in image.segments:
        data = image.files[name]
        records = image.records(name)
        parts = [data[record.start : record.end] for record in records]
        head = data[: records[0].start]
        seal = len(parts) - 1
        only_error: list[Found] = ["error"]
        harmless: list[Found] = ["error", image.wanted]
        for index in range(len(parts)):
            dropped = head + b"".join(parts[:index] + parts[index + 1 :])
            doubled = head + b"".join(parts[: index + 1] + parts[index:])
            allowed = harmless if index == seal else only_error
            problems.append(image.problem(name, dropped, f"record {index} dropped", allowed))
            # Behind a doubled last entry there is nothing to lose.
            allowed = harmless if index >= seal - 1 else only_error
            problems.append(image.problem(name, doubled, f"record {index} doubled", allowed))
            if index:
                swapped = [*parts[: index - 1], parts[index], parts[index - 1], *parts[index + 1 :]]
                content = head + b"".join(swapped)
                problems.append(image.problem(name, content, f"record {index} swapped", only_error))
    judge(problems)


def test_missing_and_exchanged_segments_are_found(directory: str) -> None:
    image = LedgerImage(directory, three_segments, clean=True)
    assert len(image.segments) >= 3
    problems = [image.problem(name, None, "deleted", ["error"]) for name in image.segments[:-1]]
    problems += [
        image.problem(name, image.files[other], f"replaced by {other}", ["error"])
        for name in image.segments
        for other in image.segments
        if name != other
    ]
    judge(problems)


# --- after a kill ---


def batches_at_the_end(store: Ledger) -> None:
    entries(store, 1, 1, 1, 1, 1, 3)


@pytest.mark.parametrize("fill", [three_segments, batches_at_the_end])
def test_segment_cut_at_any_byte_gives_the_whole_records_before_it(fill: object, directory: str) -> None:
    image = LedgerImage(directory, fill, clean=False)  # type: ignore[arg-type]
    name = image.segments[-1]
    data = image.files[name]
    records = image.records(name)
    base = records[0].seq - 1
    problems = []
    for end in range(len(data)):
        whole = sum(1 for record in records if record.end <= end)
        allowed: list[Found] = ["error"] if end < records[0].start else [image.wanted[: base + whole]]
        problems.append(image.problem(name, data[:end], f"cut at {end}", allowed))
        torn = end >= records[0].start and end not in {records[0].start, *(record.end for record in records)}
        if torn and len(cut_files(directory)) != 1:
            problems.append(f"cut at {end}: the torn tail is not kept")
    judge(problems)


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("fill", [three_segments, batches_at_the_end])
def test_only_entries_behind_the_watermark_can_be_taken_for_a_torn_tail(
    fill: object, marked: bool, directory: str
) -> None:
    def fill_and_mark(store: Ledger) -> None:
        fill(store)  # type: ignore[operator]
        if marked:
            store.mark()

    image = LedgerImage(directory, fill_and_mark, clean=False)
    name = image.segments[-1]
    records = image.records(name)
    watermark = max(record.watermark for record in records)
    assert (watermark == len(image.wanted)) == marked
    rng = random.Random(3)
    problems = []
    for offset, content in flipped(image.files[name], lambda _: iter(rng.sample(range(8), 2))):
        hit = next((record for record in records if record.start <= offset < record.end), None)
        allowed: list[Found] = ["error", image.wanted]
        if hit is not None and hit.seq > watermark:
            allowed.append(image.wanted[: hit.seq - 1])
        problems.append(image.problem(name, content, f"flip at {offset}", allowed))
    for name in image.segments[:-1]:
        for offset, content in flipped(image.files[name], lambda _: iter([rng.randrange(8)])):
            problems.append(image.problem(name, content, f"flip at {offset}", ["error", image.wanted]))
    judge(problems)


@pytest.mark.parametrize("durability", ["always", "everysec"])
def test_a_mark_proves_the_entries_before_it_synced_or_not(durability: Durability, directory: str) -> None:
    os.mkdir(directory)
    fs = FaultyFs()
    journal = FileJournal(directory, fs=fs, durability=durability)
    for number in range(3):
        journal.append([Draft(COMMAND, b"entry %d" % number)])
    journal.mark()
    fs.close_leaked()
    path = os.path.join(directory, "journal-00000001")
    data = Fs().read_all(path)
    with open(path, "wb") as file:
        file.write(data.replace(b"entry 2", b"entry 3"))
    with pytest.raises(CorruptError):
        FileJournal(directory)


def test_junk_behind_the_last_record_is_a_torn_tail(directory: str) -> None:
    image = LedgerImage(directory, three_segments, clean=False)
    name = image.segments[-1]
    data = image.files[name]
    first = image.records(image.segments[0])[0]
    stale = image.files[image.segments[0]][first.start : first.end]
    rng = random.Random(4)
    tails = [bytes(size) for size in (*range(1, 65), 512, 4096, 10_000)]
    tails += [rng.randbytes(size) for size in range(1, 65)]
    tails += [b"\xff" * 4096, stale, *(stale[:size] for size in range(1, len(stale)))]
    problems = [image.problem(name, data + tail, f"junk {tail[:8]!r}…", [image.wanted]) for tail in tails]
    judge(problems)


# --- at length, and the test of the tests ---


@pytest.mark.crash
@pytest.mark.parametrize("secret", [b"", SECRET], ids=["checksums", "authenticated"])
@pytest.mark.parametrize("fill", [three_segments, two_snapshots])
def test_flips_at_length(fill: object, secret: bytes, directory: str, crash_seconds: float) -> None:
    """Each bit of each byte; then pairs of flips, for as long as there is time."""
    deadline = time.monotonic() + crash_seconds
    image = LedgerImage(directory, fill, clean=True, secret=secret)  # type: ignore[arg-type]
    for name, data in image.files.items():
        for offset, content in flipped(data, lambda _: iter(range(8))):
            problem = image.problem(name, content, f"flip at {offset}", [image.wanted, "error"])
            judge([problem])
            if time.monotonic() > deadline:
                return
    rng = random.Random(5)
    borders = {name: {record.start for record in image.records(name)} for name in image.segments}
    while time.monotonic() < deadline:
        name, data = rng.choice(list(image.files.items()))
        changed = bytearray(data)
        offset = rng.randrange(len(data) - 8)
        if not borders.get(name, set()).isdisjoint(range(offset + 1, offset + 8)):
            # An entry that is damaged together with the seal, which proves it, cannot be told from a torn tail.
            continue
        for place in (offset, offset + rng.randrange(8)):
            changed[place] ^= 1 << rng.randrange(8)
        problem = image.problem(name, bytes(changed), f"two flips from {offset}", [image.wanted, "error"])
        judge([problem])


@pytest.mark.mistake
@pytest.mark.parametrize("mistake", ["first bad record ends", "checksum ignored"])
def test_mistakes_of_the_library_are_found(mistake: str, directory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make(mistake, monkeypatch)
    image = LedgerImage(directory, three_segments, clean=True)
    problems = [
        image.problem(name, content, "flip", [image.wanted, "error"])
        for name in image.segments
        for _, content in flipped(image.files[name], lambda offset: iter([offset % 8]))
    ]
    figures.found(mistake, any(problems))
