"""How figures grow: throughput with threads and tasks, restoring with the journal; and what happens during a snapshot.

``python -m benchmarks curves`` prints them; with ``--save`` they are drawn, too. ``run()`` returns the points.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import perdure
from benchmarks._report import Table, figure
from benchmarks.bench_system import Store, Wiki, _coopy, _create, interleaved

THREADS = (1, 2, 4, 8, 16, 32, 64, 128)
TASKS = (1, 10, 100, 1000)
COMMANDS = (1_000, 3_000, 10_000, 30_000, 100_000)
DICTS = 1_500_000
ROUNDS = 5
DISK, DURABLE, BUFFERED, BY_TASKS = "the disk alone", "durable, threads", "buffered, threads", "durable, asyncio tasks"


class Point(NamedTuple):
    """One point of a curve. ``plot``: which picture it is in; ``line``: which line of it."""

    plot: str
    line: str
    x: float
    y: float


def run() -> list[Point]:
    points = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("PERDURE_BENCH_DIR")) as folder:
        for measure in (throughput, restoring, snapshot):
            points += measure(folder)
    return points


# ---- throughput ------------------------------------------------------------------------------------------------------


def throughput(folder: str) -> list[Point]:
    """Commands a second by threads that call at the same time."""
    durable = perdure.open(Wiki, os.path.join(folder, "durable"), snapshot="manual")
    buffered = perdure.open(Wiki, os.path.join(folder, "buffered"), durability="never", snapshot="manual")
    fd = os.open(os.path.join(folder, "disk"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    points = []
    for threads in THREADS:

        def sync(count: int) -> None:
            for _ in range(count):
                os.write(fd, b"x" * 100)
                os.fdatasync(fd)

        found = interleaved(
            {DISK: sync, DURABLE: _threads(durable, threads), BUFFERED: _threads(buffered, threads)},
            max(256, threads * 16),
            ROUNDS,
        )
        points += [Point("throughput", line, threads, 1 / seconds) for line, seconds in found.items()]
    os.close(fd)
    perdure.control(durable).close()
    perdure.control(buffered).close()
    return points + asyncio.run(by_tasks(folder))


def _threads(target: Any, count: int) -> Callable[[int], None]:
    def work(calls: int) -> None:
        workers = [
            threading.Thread(target=_create(target, [base << 32]), args=(calls // count,))
            for base in range(1, count + 1)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return work


async def by_tasks(folder: str) -> list[Point]:
    """Durable commands a second by asyncio tasks that wait at the same time."""
    points = []
    async with perdure.open_async(Wiki, os.path.join(folder, "tasks"), snapshot="manual") as wiki:
        for tasks in TASKS:
            calls = max(20, 20_000 // tasks) if tasks > 1 else 200

            async def work(base: int, calls: int = calls) -> None:
                for number in range(base, base + calls):
                    await wiki.create_page(f"page {number}", "Welcome to the page", number)

            rates = []
            for turn in range(ROUNDS):
                begun = time.perf_counter()
                await asyncio.gather(*(work((turn * tasks + task) << 20) for task in range(tasks)))
                rates.append(tasks * calls / (time.perf_counter() - begun))
            points.append(Point("throughput", BY_TASKS, tasks, statistics.median(rates)))
    return points


# ---- restoring -------------------------------------------------------------------------------------------------------


def restoring(folder: str) -> list[Point]:
    """Seconds to open a journal without a snapshot of its end."""
    points = []
    for count in COMMANDS:
        directory = os.path.join(folder, f"restore-{count}")
        with perdure.open(Wiki, directory, durability="never", snapshot="manual") as wiki:
            _create(wiki, [0])(count)
        candidates: dict[str, Callable[[int], object]] = {"perdure": _opener(directory)}
        other = os.path.join(folder, f"coopy-{count}")
        system = _coopy(other)
        if system is not None:
            _create(system, [0])(count)
            with contextlib.suppress(Exception):  # Whatever it offers to end with; what counts is opening it again.
                system.close()
            candidates["coopy 0.7.0"] = lambda _, other=other: _coopy(other)
        found = interleaved(candidates, 1, 3)
        points += [Point("restore", line, count, seconds) for line, seconds in found.items()]
    return points


def _opener(directory: str) -> Callable[[int], object]:
    def work(_: int) -> None:
        perdure.control(perdure.open(Wiki, directory, durability="never", snapshot="manual")).close()

    return work


# ---- a snapshot ------------------------------------------------------------------------------------------------------


def snapshot(folder: str, count: int = DICTS) -> list[Point]:
    """Calls of another thread, and memory, before, during and after a snapshot of many small dicts."""
    store = perdure.open(Store, os.path.join(folder, "store"), durability="never", snapshot="manual")
    store.fill(count)
    stop = threading.Event()
    calls: list[tuple[float, float]] = []
    memory: list[tuple[float, float, float]] = []

    def call() -> None:
        index = 0
        while not stop.is_set():
            begun = time.perf_counter()
            store.touch(index % count)
            calls.append((begun, (time.perf_counter() - begun) * 1e3))
            index += 1
            time.sleep(0.0005)

    def watch() -> None:
        while not stop.is_set():
            memory.append((time.perf_counter(), *_memory_mib()))
            stop.wait(0.05)

    workers = [threading.Thread(target=call), threading.Thread(target=watch)]
    for worker in workers:
        worker.start()
    time.sleep(1)
    begun = time.perf_counter()
    perdure.control(store).take_snapshot()
    ended = time.perf_counter()
    time.sleep(1)
    stop.set()
    for worker in workers:
        worker.join()
    perdure.control(store).close()
    points = [Point("snapshot", "begin", 0, 0), Point("snapshot", "end", ended - begun, 0)]
    points += [Point("snapshot", "longest call, ms", at, longest) for at, longest in _longest(calls, begun)]
    for at, own, child in memory[:: max(1, len(memory) // 200)]:
        points += [Point("memory", "the process", at - begun, own), Point("memory", "its child", at - begun, child)]
    return points


def _longest(calls: list[tuple[float, float]], begun: float) -> list[tuple[float, float]]:
    """The longest call of each step; so many steps as a picture can show."""
    step_s = max(0.005, (calls[-1][0] - calls[0][0]) / 400)
    longest: dict[int, float] = {}
    for at, taken_ms in calls:
        step = int((at - begun) // step_s)
        longest[step] = max(taken_ms, longest.get(step, 0.0))
    return [(step * step_s, taken_ms) for step, taken_ms in sorted(longest.items())]


def _memory_mib() -> tuple[float, float]:
    """This process, and what its children have beside the pages that they share with it (Linux; elsewhere 0)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            own = int(file.read().split()[1]) * resource.getpagesize() / 2**20
        children = 0.0
        for task in Path("/proc/self/task").iterdir():
            for pid in (task / "children").read_text("ascii").split():
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
                children += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))
        return own, children / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 0.0


# ---- output ----------------------------------------------------------------------------------------------------------


def table(points: list[Point]) -> Table:
    """The points of the first two plots, and the extremes of the last two."""
    rows = [
        (f"{point.x:,.0f} at once, {point.line}", f"{figure(point.y)}/s")
        for point in points
        if point.plot == "throughput"
    ]
    rows += [
        (f"opening {point.x:,.0f} commands, {point.line}", f"{point.y:.3f} s")
        for point in points
        if point.plot == "restore"
    ]
    seconds = next(point.x for point in points if point.line == "end")
    calls = [point for point in points if point.line == "longest call, ms"]
    during = [point.y for point in calls if 0 <= point.x <= seconds]
    before = [point.y for point in calls if point.x < 0]
    rows.append((f"snapshot of {DICTS:,} dicts", f"{seconds:.1f} s"))
    rows.append(("the longest call before and during it", f"{figure(max(before))} ms, {figure(max(during))} ms"))
    for line in ("the process", "its child"):
        sizes = [point.y for point in points if point.line == line]
        rows.append(
            (f"memory of {line}, at the beginning and at most", f"{figure(sizes[0])} MiB, {figure(max(sizes))} MiB")
        )
    return Table(("what", "measured"), rows)


def draw(points: list[Point], folder: Path) -> None:
    """One SVG for each plot."""
    from benchmarks._plots import lines

    def of(plot: str) -> dict[str, list[tuple[float, float]]]:
        found: dict[str, list[tuple[float, float]]] = {}
        for point in points:
            if point.plot == plot:
                found.setdefault(point.line, []).append((point.x, point.y))
        return found

    lines(
        folder / "throughput.svg", of("throughput"), "threads or tasks at once", "commands a second", logarithmic=True
    )
    lines(folder / "restore.svg", of("restore"), "commands in the journal", "seconds to open", logarithmic=True)
    snapshot_lines = of("snapshot")
    span = (0.0, snapshot_lines.pop("end")[0][0])
    del snapshot_lines["begin"]
    lines(folder / "snapshot.svg", snapshot_lines, "seconds", "longest call, ms", shaded=span)
    lines(folder / "memory.svg", of("memory"), "seconds", "MiB", shaded=span)
