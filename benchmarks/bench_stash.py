"""Stashes against the bare work that they cannot do without, side by side in interleaved rounds.

``run()`` returns rows of (what, ratio, goal, perdure, bare): the ratio is speed divided by speed, its median over the
rounds, so that a disk that is busy for a moment slows both.
"""

from __future__ import annotations

import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks._report import Table, figure
from perdure.fill import fill
from perdure.stash import DictionaryStash, DirectoryStash, LogStash, Stash

ROUNDS = 9
ITEMS = 100
VALUE = {"text": "x" * 200, "numbers": list(range(20))}


class Row(NamedTuple):
    """``ratio``: how many times as fast as the bare work. ``perdure`` and ``bare``: microseconds per item, medians."""

    what: str
    ratio: float
    goal: float
    perdure: float
    bare: float


def run() -> list[Row]:
    """All rows; about half a minute."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            *_files(Path(folder), "always"),
            *_files(Path(folder), "never"),
            *_logs(Path(folder)),
            _filling("fill, CPU work of 1 ms an item", _busy, 600),
        ]


def _compare(what: str, goal: float, ours: Callable[[], object], bare: Callable[[], object], items: int) -> Row:
    ours(), bare()
    times: list[tuple[float, float]] = []
    for turn in range(ROUNDS):
        # Either goes first as often as the other.
        pair = [_seconds(work) for work in ((ours, bare) if turn % 2 else (bare, ours))]
        times.append((pair[0], pair[1]) if turn % 2 else (pair[1], pair[0]))
    ratio = statistics.median(bare_s / ours_s for ours_s, bare_s in times)
    micro = [statistics.median(column) / items * 1e6 for column in zip(*times, strict=True)]
    return Row(what, ratio, goal, micro[0], micro[1])


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


# ---- a file each -----------------------------------------------------------------------------------------------------


def _files(folder: Path, durability: str) -> list[Row]:
    stash = DirectoryStash(folder / f"stash-{durability}", durability=durability)  # type: ignore[arg-type]
    bare = folder / f"bare-{durability}"
    bare.mkdir()
    sync = durability == "always"

    def write_bare() -> None:
        for number in range(ITEMS):
            _write_pickle(bare / f"item{number}.dat", sync=sync)

    def read_bare() -> None:
        for number in range(ITEMS):
            with open(bare / f"item{number}.dat", "rb") as file:
                pickle.load(file)  # Written by this process a moment ago.

    policy = "synced, renamed, directory synced" if sync else "renamed, not synced"
    rows = [_compare(f"DirectoryStash write, {policy}", 0.8, lambda: _write(stash), write_bare, ITEMS)]
    if sync:
        rows.append(_compare("DirectoryStash read", 0.8, lambda: _read(stash), read_bare, ITEMS))
    return rows


def _write_pickle(path: Path, *, sync: bool) -> None:
    draft = f"{path}.new"
    with open(draft, "wb") as file:
        pickle.dump(VALUE, file, 5)
        if sync:
            file.flush()
            os.fdatasync(file.fileno())
    os.rename(draft, path)
    if sync:
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)


def _write(stash: Stash) -> None:
    for number in range(ITEMS):
        stash.dump(f"item{number}", VALUE)


def _write_at_once(stash: Stash) -> None:
    stash.set_many({f"item{number}": VALUE for number in range(ITEMS)})


def _read(stash: Stash) -> None:
    for number in range(ITEMS):
        stash.load(f"item{number}")


# ---- a log ----------------------------------------------------------------------------------------------------------


def _logs(folder: Path) -> list[Row]:
    return [row for durability in ("always", "everysec") for row in _log(folder, durability)]


def _log(folder: Path, durability: str) -> list[Row]:
    synced = durability == "always"
    directory = DirectoryStash(folder / f"beside-{durability}", durability="always" if synced else "never")
    with LogStash(folder / f"log-{durability}", durability=durability) as log:  # type: ignore[arg-type]
        name = f"LogStash ({durability}) against DirectoryStash ({directory.durability})"
        rows = [
            _compare(f"{name}, write", 5, lambda: _write(log), lambda: _write(directory), ITEMS),
            _compare(f"{name}, read", 1, lambda: _read(log), lambda: _read(directory), ITEMS),
        ]
        if synced:
            at_once = (lambda: _write_at_once(log)), (lambda: _write_at_once(directory))
            threads = (lambda: _write_in_threads(log)), (lambda: _write_in_threads(directory))
            rows.append(_compare(f"{name}, write 100 at once", 5, *at_once, ITEMS))
            rows.append(_compare(f"{name}, write from 8 threads", 5, *threads, 8 * ITEMS // 4))
            rows += _against_the_disk(folder, log, directory)
    return rows


def _against_the_disk(folder: Path, log: Stash, directory: Stash) -> list[Row]:
    """What no log can beat: one append and one sync for each item, or for eight where eight threads wait."""
    data = pickle.dumps(VALUE, 5) + bytes(40)
    fd = os.open(folder / "appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def append(number: int, together: int) -> None:
        for _ in range(number // together):
            os.write(fd, data * together)
            os.fdatasync(fd)

    one, eight = (lambda: append(ITEMS, 1)), (lambda: append(8 * ITEMS // 4, 8))
    threads = (lambda: _write_in_threads(log)), (lambda: _write_in_threads(directory))
    try:
        return [
            _compare("LogStash (always) against append and fdatasync, write", 0.8, lambda: _write(log), one, ITEMS),
            _compare(
                "LogStash (always) against the same for 8 at once, 8 threads", 0.5, threads[0], eight, 8 * ITEMS // 4
            ),
            _compare("append and fdatasync against DirectoryStash (always)", 1, one, lambda: _write(directory), ITEMS),
            _compare("the same for 8 at once against 8 threads", 1, eight, threads[1], 8 * ITEMS // 4),
        ]
    finally:
        os.close(fd)


def _write_in_threads(stash: Stash) -> None:
    def work(worker: int) -> None:
        for number in range(ITEMS // 4):
            stash.dump(f"item{worker}-{number}", VALUE)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))


# ---- a fill ----------------------------------------------------------------------------------------------------------


def _busy(name: str) -> int:
    end = time.process_time() + 0.001
    while time.process_time() < end:
        pass
    return len(name)


def _busy_chunk(names: list[str]) -> list[int]:
    return [_busy(name) for name in names]


def _filling(what: str, make: Callable[[str], int], count: int) -> Row:
    names = [f"item{number}" for number in range(count)]
    size = 25

    def ours() -> None:
        fill(DictionaryStash(), names, make, workers=2, chunk_size=size)

    def bare() -> None:
        found: dict[str, int] = {}
        chunks = [names[start : start + size] for start in range(0, count, size)]
        with ProcessPoolExecutor(2) as processes:
            for chunk, values in zip(chunks, processes.map(_busy_chunk, chunks), strict=True):
                found.update(zip(chunk, values, strict=True))

    return _compare(what, 0.95, ours, bare, count)


def table(rows: list[Row]) -> Table:
    """As it is printed."""
    lines = [
        (row.what, f"{row.ratio:.2f}", f"{row.goal:.2f}", f"{figure(row.perdure)} µs, bare {figure(row.bare)} µs")
        for row in rows
    ]
    return Table(("what", "to the bare work", "goal", "an item, medians"), lines)
