"""Prevalent systems beside the bare work, beside coopy, and beside the disk.

``python -m benchmarks system`` prints a table; ``run()`` returns its rows. All candidates of one row run in
turns, a little each, in one process, so that whatever else the machine does hits all of them; what counts is the ratio
of the medians. "bare": pickle + crc32 + one write, and the plain call. "disk": one write and one fdatasync.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import statistics
import tempfile
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import perdure
from benchmarks._report import Against, Table


class Row(NamedTuple):
    """``ratio``: what the goal is about; ``figures``: medians behind it."""

    case: str
    ratio: float | None
    goal: str
    figures: str


class Wiki:
    """Pages by name: a few strings a command."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[str, int]] = {}
        self.count = 0

    def create_page(self, name: str, content: str, version: int) -> None:
        self.pages[name] = (content, version)
        self.count += 1

    @perdure.readonly
    def page(self, name: str) -> tuple[str, int] | None:
        return self.pages.get(name)


class Store:
    """Many small dicts, for the snapshot."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []
        self.touched = 0

    def fill(self, count: int) -> None:
        self.rows = [{"id": i, "name": f"row {i}", "value": i * 0.5} for i in range(count)]

    def touch(self, index: int) -> None:
        self.rows[index]["value"] = index
        self.touched += 1


def interleaved(candidates: dict[str, Callable[[int], object]], count: int, rounds: int) -> dict[str, float]:
    """Seconds per call, the median of the rounds, for each candidate."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, work in candidates.items():
            started = time.perf_counter()
            work(count)
            times[name].append((time.perf_counter() - started) / count)
    return {name: statistics.median(taken) for name, taken in times.items()}


def _coopy(folder: str) -> Any:
    try:
        from coopy.base import init_persistent_system
    except ImportError:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return init_persistent_system(Wiki(), basedir=folder)


def _create(target: Any, numbers: list[int]) -> Callable[[int], None]:
    create = target.create_page

    def work(count: int) -> None:
        first = numbers[0]
        for number in range(first, first + count):
            create(f"page {number}", "Welcome to the page", number)
        numbers[0] = first + count

    return work


def _bare(folder: str, plain: Wiki) -> Callable[[int], None]:
    fd = os.open(os.path.join(folder, "bare"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def work(count: int) -> None:
        for number in range(count):
            args = (f"page {number}", "Welcome to the page", number)
            data = pickle.dumps(("create_page", args, {}), 5)
            os.write(fd, zlib.crc32(data).to_bytes(4, "little") + data)
            plain.create_page(*args)

    return work


def buffered(folder: str) -> list[Row]:
    wiki = perdure.open(Wiki, os.path.join(folder, "buffered"), durability="never", snapshot="manual")
    coopy = _coopy(os.path.join(folder, "coopy"))
    candidates = {"perdure": _create(wiki, [0]), "bare": _bare(folder, Wiki())}
    if coopy is not None:
        candidates["coopy"] = _create(coopy, [0])
    found = interleaved(candidates, 500, 41)
    perdure.control(wiki).close()
    figures = ", ".join(f"{name} {1 / seconds:,.0f}/s" for name, seconds in found.items())
    rows = [Row("commands, buffered, to bare", found["bare"] / found["perdure"], ">= 0.5", figures)]
    if "coopy" in found:
        rows.append(Row("commands, buffered, to coopy 0.7.0", found["coopy"] / found["perdure"], ">= 10", figures))
    return rows


def durable(folder: str) -> list[Row]:
    wiki = perdure.open(Wiki, os.path.join(folder, "durable"), snapshot="manual")
    fd = os.open(os.path.join(folder, "disk"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    record = b"x" * 100

    def disk(count: int) -> None:
        for _ in range(count):
            os.write(fd, record)
            os.fdatasync(fd)

    numbers = [0]
    one = _create(wiki, numbers)

    def many(count: int) -> None:
        threads = [threading.Thread(target=_create(wiki, [base << 32]), args=(count // 64,)) for base in range(1, 65)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    found = {
        **interleaved({"disk": disk, "perdure": one}, 100, 21),
        **interleaved({"64": many, "disk64": disk}, 1280, 5),
    }
    perdure.control(wiki).close()
    figures = ", ".join(f"{name} {1 / seconds:,.0f}/s" for name, seconds in found.items())
    return [
        Row("commands, durable, 1 thread, to the disk", found["disk"] / found["perdure"], ">= 0.9", figures),
        Row("commands, durable, 64 threads, to the disk", found["disk64"] / found["64"], ">= 5", figures),
    ]


def reading(folder: str) -> list[Row]:
    wiki = perdure.open(Wiki, os.path.join(folder, "reading"), durability="never")
    plain = Wiki()
    for target in (wiki, plain):
        target.create_page("home", "Welcome", 1)

    def query(target: Any) -> Callable[[int], None]:
        def work(count: int) -> None:
            for _ in range(count):
                target.page("home")

        return work

    def attribute(target: Any) -> Callable[[int], None]:
        def work(count: int) -> None:
            for _ in range(count):
                target.count  # noqa: B018

        return work

    found = interleaved(
        {"query": query(wiki), "plain query": query(plain), "read": attribute(wiki), "plain read": attribute(plain)},
        2000,
        61,
    )
    perdure.control(wiki).close()
    figures = ", ".join(f"{name} {seconds * 1e6:.3f} µs" for name, seconds in found.items())
    return [
        Row("query, µs more than the plain call", (found["query"] - found["plain query"]) * 1e6, "<= 0.3", figures),
        Row("attribute read, to the plain one", found["plain read"] / found["read"], "1", figures),
    ]


def replaying(folder: str) -> list[Row]:
    count = 20_000
    directory = os.path.join(folder, "replay")
    wiki = perdure.open(Wiki, directory, durability="never", snapshot="manual")
    _create(wiki, [0])(count)
    perdure.control(wiki).close()
    stored = [pickle.dumps(("create_page", (f"page {i}", "Welcome to the page", i), {}), 5) for i in range(count)]

    def ours(_: int) -> None:
        perdure.control(perdure.open(Wiki, directory, durability="never", snapshot="manual")).close()

    def direct(_: int) -> None:
        plain = Wiki()
        for data in stored:
            _, args, kwargs = pickle.loads(data)  # Written a moment ago by this very function.
            plain.create_page(*args, **kwargs)

    candidates: dict[str, Callable[[int], object]] = {"perdure": ours, "load + call": direct}
    coopy_directory = os.path.join(folder, "coopy-replay")
    coopy = _coopy(coopy_directory)
    if coopy is not None:
        _create(coopy, [0])(count)
        with contextlib.suppress(Exception):  # Whatever it offers to end with; what counts is opening it again.
            coopy.close()
        candidates["coopy"] = lambda _: _close(_coopy(coopy_directory))
    found = interleaved(candidates, 1, 7)
    figures = ", ".join(f"{name} {count / seconds:,.0f}/s" for name, seconds in found.items())
    rows = [Row("replay, to load + direct call", found["load + call"] / found["perdure"], ">= 0.4", figures)]
    if "coopy" in found:
        rows.append(Row("replay, to coopy 0.7.0", found["coopy"] / found["perdure"], ">= 10", figures))
    return rows


def _close(system: Any) -> None:
    with contextlib.suppress(Exception):
        system.close()


def snapshotting(folder: str, count: int = 1_500_000) -> list[Row]:
    """A snapshot of many small dicts, while another thread calls commands and queries."""
    store = perdure.open(Store, os.path.join(folder, "store"), durability="never", snapshot="manual")
    store.fill(count)
    stop = threading.Event()
    stalls_ms: list[float] = []

    def caller() -> None:
        index = 0
        while not stop.is_set():
            started = time.perf_counter()
            store.touch(index)
            stalls_ms.append((time.perf_counter() - started) * 1e3)
            index += 1
            time.sleep(0.0005)

    thread = threading.Thread(target=caller)
    thread.start()
    time.sleep(0.5)
    quiet_ms = max(stalls_ms)
    stalls_ms.clear()
    before_kib = _rss_kib()
    forks_ms = [_bare_fork_ms() for _ in range(5)]
    stalls_ms.clear()
    started = time.perf_counter()
    perdure.control(store).take_snapshot()
    taken_s = time.perf_counter() - started
    grown = _rss_kib() / before_kib - 1
    stop.set()
    thread.join()
    worst_ms = max(stalls_ms)
    perdure.control(store).close()
    figures = (
        f"{count:,} dicts, {before_kib / 1024:,.0f} MiB, {taken_s:.1f} s; a bare fork of this process "
        f"{statistics.median(forks_ms):.1f} ms; longest call before {quiet_ms:.1f} ms"
    )
    return [
        Row("snapshot: longest call of another thread, ms", worst_ms, "<= 20", figures),
        Row("snapshot: growth of the parent's memory", grown, "<= 0.1", figures),
    ]


def _bare_fork_ms() -> float:
    """What the kernel takes to copy this process's page tables: the floor of any snapshot by fork."""
    started = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    taken_ms = (time.perf_counter() - started) * 1e3
    os.waitpid(pid, 0)
    return taken_ms


def _rss_kib() -> int:
    with contextlib.suppress(OSError), open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run() -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("PERDURE_BENCH_DIR")) as folder:
        for part in (buffered, durable, reading, replaying, snapshotting):
            rows += part(folder)
    return rows


def table(rows: list[Row]) -> Table:
    """As it is printed."""
    lines = [
        (row.case, "not measured" if row.ratio is None else f"{row.ratio:.2f}", row.goal, row.figures) for row in rows
    ]
    return Table(("case", "measured", "goal", "medians"), lines)


def against(rows: list[Row]) -> list[Against]:
    """The rows about others."""
    return [
        Against("coopy", row.case.partition(", to coopy")[0], row.ratio)
        for row in rows
        if "coopy" in row.case and row.ratio is not None
    ]
