"""A shared dict: calls a second of other processes, beside ``multiprocessing``'s own and a bare echo.

``python -m benchmarks shared`` prints the rows; ``run()`` returns them.

The owner does nothing else meanwhile. All processes begin at the same moment and call for the same time; what counts is
how many calls they made in all. Each candidate has its turn in each round, and the median of the rounds counts.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._report import Table, figure
from perdure.shared import SharedPersistentDict, SharedTracker

ROUNDS = 5
SECONDS = 0.5
PROCESSES = (1, 2, 4, 8)
GOAL_CALLS = 15_000
JOBS = 200_000
_VALUE = {"url": "http://example.org/a/b", "n": 5, "ok": True}

Caller = Callable[[Any], Callable[[], object]]
"""Makes, in the process that calls, what is called, of what was handed to that."""


class Row(NamedTuple):
    """``calls``: in a second, of all processes together. ``goal``: what one process must reach."""

    case: str
    processes: int
    calls: float
    goal: float | None = None


def _get(path: str) -> Callable[[], object]:
    shared = SharedPersistentDict(path)
    return lambda: shared["key"]


def _set(path: str) -> Callable[[], object]:
    shared = SharedPersistentDict(path)
    key = str(os.getpid())

    def call() -> None:
        shared[key] = _VALUE

    return call


def _append(path: str) -> Callable[[], object]:
    shared = SharedPersistentDict(path)
    key = f"list {os.getpid()}"
    shared[key] = []
    append = shared.set[key].append
    return lambda: append(1)


def _job(path: str) -> Callable[[], object]:
    tracker = SharedTracker(path)

    def call() -> None:
        (key,) = tracker.claim()
        tracker.mark_done(key)

    return call


def _get_managed(proxy: Any) -> Callable[[], object]:
    return lambda: proxy["key"]


def _set_managed(proxy: Any) -> Callable[[], object]:
    def call() -> None:
        proxy["own"] = _VALUE

    return call


def _echo(path: str) -> Callable[[], object]:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)

    def call() -> None:
        sock.sendall(b"x" * 50)
        sock.recv(1000)

    return call


def _measure(caller: Caller, given: Any, seconds: float, start: Any, ready: Any, counts: Any) -> None:
    call = caller(given)
    ready.release()
    start.wait()
    end_s = time.perf_counter() + seconds
    count = 0
    while time.perf_counter() < end_s:
        for _ in range(20):
            call()
        count += 20
    counts.put(count / (time.perf_counter() - end_s + seconds))


def calls_of(caller: Caller, given: Any, processes: int) -> float:
    """Calls a second of so many processes together."""
    context = multiprocessing.get_context("fork")
    start, ready, counts = context.Event(), context.Semaphore(0), context.Queue()
    arguments = (caller, given, SECONDS, start, ready, counts)
    children = [context.Process(target=_measure, args=arguments) for _ in range(processes)]
    for child in children:
        child.start()
    for _ in children:
        ready.acquire()
    start.set()
    found = sum(counts.get() for _ in children)
    for child in children:
        child.join()
        child.close()
    return float(found)


def run() -> list[Row]:
    """All rows."""
    with tempfile.TemporaryDirectory() as folder, _owner(Path(folder)) as paths, _manager() as proxy:
        cases: list[tuple[str, Caller, Any, float | None]] = [
            ("a bare echo on a Unix socket", _echo, paths["echo"], None),
            ("shared[key]", _get, paths["dict"], GOAL_CALLS),
            ("shared[key] = small dict", _set, paths["dict"], GOAL_CALLS),
            ("shared.set[key].append(1)", _append, paths["dict"], None),
            ("claim() and mark_done()", _job, paths["jobs"], None),
            ("multiprocessing.Manager: d[key]", _get_managed, proxy, None),
            ("multiprocessing.Manager: d[key] = …", _set_managed, proxy, None),
        ]
        found: dict[tuple[str, int], list[float]] = {}
        for _ in range(ROUNDS):
            for processes in PROCESSES:
                for case, caller, given, _ in cases:
                    found.setdefault((case, processes), []).append(calls_of(caller, given, processes))
    goals = {case: goal for case, _, _, goal in cases}
    return [
        Row(case, processes, statistics.median(calls), goals[case] if processes == 1 else None)
        for (case, processes), calls in sorted(
            found.items(), key=lambda item: (list(goals).index(item[0][0]), item[0][1])
        )
    ]


@contextmanager
def _owner(folder: Path) -> Iterator[dict[str, str]]:
    """Another process that owns everything, and does nothing else."""
    paths = {name: str(folder / name) for name in ("dict", "jobs", "echo")}
    context = multiprocessing.get_context("fork")
    ready, end = context.Event(), context.Event()
    child = context.Process(target=_own, args=(paths, ready, end))
    child.start()
    ready.wait()
    try:
        yield paths
    finally:
        end.set()
        child.join()


def _own(paths: dict[str, str], ready: Any, end: Any) -> None:
    import threading

    def echo(sock: socket.socket) -> None:
        while data := sock.recv(1000):
            sock.sendall(data)

    def accept(listener: socket.socket) -> None:
        while True:
            threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(paths["echo"])
    listener.listen(64)
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
    with SharedPersistentDict(paths["dict"], {"key": "value"}), SharedTracker(paths["jobs"]) as tracker:
        tracker.add_many(range(JOBS))
        ready.set()
        end.wait()


@contextmanager
def _manager() -> Iterator[Any]:
    with multiprocessing.get_context("fork").Manager() as manager:
        yield manager.dict({"key": "value"})


def table(rows: list[Row]) -> Table:
    """As it is printed: a line for each case, a column for each number of processes."""
    cases = dict.fromkeys(row.case for row in rows)
    lines = []
    for case in cases:
        own = {row.processes: row for row in rows if row.case == case}
        goal = own[1].goal
        verdict = "" if goal is None else f"{'ok' if own[1].calls >= goal else 'missed'} (goal: {figure(goal)})"
        lines.append((case, *(figure(own[processes].calls) for processes in PROCESSES), verdict))
    note = "Calls a second of all processes together; one owner serves them. A manager's dict is in memory only."
    return Table(
        ("call", *(f"{processes} process{'es' * (processes > 1)}" for processes in PROCESSES), ""), lines, note
    )
