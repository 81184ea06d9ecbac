"""Hits of ``memo`` and ``persisted`` beside joblib.Memory, diskcache and zensols.persist.

``python -m benchmarks memo`` prints them; ``run()`` returns them.

All candidates of one row run in turns, a little each, in one process; what counts is the median of the rounds, and that
of the ratios to perdure's own in the same round. "memory": the process has the result already. "disk": another process
computed it, or this one has forgotten it.
"""

from __future__ import annotations

import gc
import importlib
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks._report import Against, Table, figure
from perdure.memo import memo, persisted

ROUNDS = 31
ARRAY_BYTES = 100_000_000


class Row(NamedTuple):
    """``microseconds``: of one call, median. ``ratio``: to perdure in the same round, median; above 1 perdure is
    faster.
    """

    case: str
    candidate: str
    microseconds: float | None
    ratio: float | None
    note: str = ""


Calls = dict[str, Callable[[], object] | str]
"""Candidate → one hit; or why it is not there."""


def run() -> list[Row]:
    """All rows. Needs numpy for the arrays; what is not installed says so in its row."""
    warnings.simplefilter("ignore")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case, loops, calls in (
            ("persisted hit", 20_000, persisted_hits()),
            ("memo hit, small immutable result", 200, memo_hits(folder, (1, 2.5, "three"))),
            ("memo hit, list of 100", 200, memo_hits(folder, list(range(100)))),
            ("memo hit from disk, small result", 100, disk_hits(folder)),
            ("memo hit, 100 MB array", 3, array_hits(folder)),
        ):
            rows += compare(case, loops, calls)
    return rows


def compare(case: str, loops: int, calls: Calls) -> list[Row]:
    """Run the candidates in turns, so that whatever else the machine does hits all of them."""
    times: dict[str, list[float]] = {name: [] for name, call in calls.items() if callable(call)}
    gc.collect()
    gc.disable()
    try:
        for _ in range(ROUNDS):
            for name in times:
                call = calls[name]
                assert callable(call)
                start = time.perf_counter()
                for _ in range(loops):
                    call()
                times[name].append((time.perf_counter() - start) / loops * 1e6)
    finally:
        gc.enable()
    rows = []
    for name, call in calls.items():
        if callable(call):
            # Round by round: what the machine does besides then counts for both.
            ratio = statistics.median(theirs / own for theirs, own in zip(times[name], times["perdure"], strict=True))
            rows.append(Row(case, name, statistics.median(times[name]), ratio))
        else:
            rows.append(Row(case, name, None, None, call))
    return rows


def persisted_hits() -> Calls:
    """A property that was computed before."""

    def owner(decorator: Callable[[str], Any]) -> Callable[[], object]:
        class Owner:
            @property
            @decorator("_value")
            def value(self) -> int:
                return 1

        instance = Owner()
        return lambda: instance.value

    zensols = imported("zensols.persist", "zensols.util")
    return {
        "perdure": owner(persisted),
        "zensols": zensols if isinstance(zensols, str) else owner(zensols.persisted),
    }


def memo_hits(folder: str, result: object) -> Calls:
    """A function of two plain arguments, asked for the same again and again."""

    def function(a: int, b: str) -> object:
        return result

    own = memo(tempfile.mkdtemp(dir=folder))(function)
    own(1, "b")
    return {"perdure": lambda: own(1, "b"), **others(folder, function)}


def disk_hits(folder: str) -> Calls:
    """The same with nothing in memory. The others keep nothing there anyway."""

    def function(a: int, b: str) -> object:
        return (1, 2.5, "three")

    own = memo(tempfile.mkdtemp(dir=folder))(function)
    own(1, "b")

    def forgetful() -> object:
        own._front.clear()
        return own(1, "b")

    return {"perdure": forgetful, **others(folder, function)}


def array_hits(folder: str) -> Calls:
    """A result of 100 MB."""
    numpy = imported("numpy", "numpy")
    if isinstance(numpy, str):
        return {"perdure": lambda: None}

    def function(a: int, b: str) -> Any:
        return numpy.ones(ARRAY_BYTES // 8)

    own = memo(tempfile.mkdtemp(dir=folder))(function)
    own(1, "b")
    calls: Calls = {"perdure": lambda: own(1, "b"), **others(folder, function)}
    joblib = imported("joblib", "joblib")
    if not isinstance(joblib, str):
        mapped = joblib.Memory(tempfile.mkdtemp(dir=folder), mmap_mode="r", verbose=0).cache(function)
        mapped(1, "b")
        calls["joblib.Memory, mapped"] = lambda: mapped(1, "b")
    return calls


def others(folder: str, function: Callable[..., Any]) -> Calls:
    """The same function under joblib and diskcache, computed once."""
    calls: Calls = {}
    joblib = imported("joblib", "joblib")
    if isinstance(joblib, str):
        calls["joblib.Memory"] = joblib
    else:
        by_joblib = joblib.Memory(tempfile.mkdtemp(dir=folder), verbose=0).cache(function)
        by_joblib(1, "b")
        calls["joblib.Memory"] = lambda: by_joblib(1, "b")
    diskcache = imported("diskcache", "diskcache")
    if isinstance(diskcache, str):
        calls["diskcache.memoize"] = diskcache
    else:
        by_diskcache = diskcache.Cache(tempfile.mkdtemp(dir=folder)).memoize()(function)
        by_diskcache(1, "b")
        calls["diskcache.memoize"] = lambda: by_diskcache(1, "b")
    return calls


def imported(module: str, distribution: str) -> Any:
    """The module, or a sentence that says why it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        return f"not measured: {error}; pip install {distribution}"


def table(rows: list[Row]) -> Table:
    """As it is printed."""
    lines = [
        (row.case, row.candidate, "", "", row.note)
        if row.microseconds is None or row.ratio is None
        else (row.case, row.candidate, figure(row.microseconds), figure(row.ratio), "")
        for row in rows
    ]
    note = "Ratio: the candidate's time divided by perdure's; above 1 perdure is faster."
    return Table(("case", "candidate", "µs", "ratio", ""), lines, note)


def against(rows: list[Row]) -> list[Against]:
    """The rows about others."""
    return [
        Against(row.candidate, row.case, row.ratio)
        for row in rows
        if row.ratio is not None and row.candidate != "perdure"
    ]
