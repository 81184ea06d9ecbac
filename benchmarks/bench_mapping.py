"""``PersistentDict`` beside a plain dict, the bare cost of encoding and writing, and other stores.

``python -m benchmarks mapping`` prints the rows; ``run()`` returns them.

All candidates of one row run in turns, a little each, in one process; what counts is the median of the rounds. Each
row has a goal: by how much perdure must at least be faster (or, below 1, may be slower) than the candidate.
"""

from __future__ import annotations

import dbm
import gc
import importlib
import json
import os
import pickle
import shelve
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks._report import Against, Table, figure
from perdure.mapping import PersistentDict, Tracker

ROUNDS = 21
KEYS = [f"key{number}" for number in range(1000)]
OPENED_KEYS = 1_000_000
LARGE_LIST = 1_000_000

Call = Callable[[], object]
Candidates = dict[str, tuple[int, Call]]
"""Candidate → how many operations one call makes, and the call."""


class Row(NamedTuple):
    """``microseconds``: median of one operation. ``ratio``: its time divided by perdure's; above 1 perdure is faster.

    ``goal``: what the ratio must be at least.
    """

    case: str
    candidate: str
    microseconds: float | None
    ratio: float | None
    goal: float | None = None
    note: str = ""


def run() -> list[Row]:
    """All rows. What is not installed says so in its row."""
    rows: list[Row] = []
    for measure in (sets, gets, appends, opening, claims):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            rows += measure(Path(folder), stack)
    return rows


def compare(case: str, candidates: Candidates, goals: dict[str, float], missing: dict[str, str]) -> list[Row]:
    """Runs the candidates in turns, so that whatever else the machine does hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    gc.collect()
    gc.disable()
    try:
        for _ in range(ROUNDS):
            for name, (count, call) in candidates.items():
                start = time.perf_counter()
                call()
                times[name].append((time.perf_counter() - start) / count * 1e6)
    finally:
        gc.enable()
    own = statistics.median(times["perdure"])
    rows = []
    for name in candidates:
        median = statistics.median(times[name])
        rows.append(Row(case, name, median, median / own, goals.get(name)))
    return rows + [Row(case, name, None, None, goals.get(name), reason) for name, reason in missing.items()]


def sets(folder: Path, stack: ExitStack) -> list[Row]:
    """One key, one small value, again and again."""
    value = {"url": "http://example.org/a/b", "n": 5, "ok": True}
    pod = stack.enter_context(PersistentDict(folder / "pod"))
    fd = os.open(folder / "raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stack.callback(os.close, fd)
    others, missing = stores(folder, stack)

    def put(mapping: Any, keys: list[str]) -> tuple[int, Call]:
        def call() -> None:
            for key in keys:
                mapping[key] = value

        return len(keys), call

    def scalars(mapping: Any) -> tuple[int, Call]:
        def call() -> None:
            for key in KEYS:
                mapping[key] = 5

        return len(KEYS), call

    def bare(stored: object) -> tuple[int, Call]:
        def call() -> None:
            for key in KEYS:
                os.write(fd, json.dumps([key, stored]).encode() + b"\n")

        return len(KEYS), call

    goals = {"json + write": 0.6, "diskcache": 8.0}
    small = compare("set, a number", {"perdure": scalars(pod), "json + write": bare(5)}, goals, {})
    candidates = {"perdure": put(pod, KEYS), "json + write": bare(value)}
    candidates |= {name: put(mapping, KEYS[:20]) for name, mapping in others.items()}
    return small + compare("set, a small dict", candidates, goals, missing)


def gets(folder: Path, stack: ExitStack) -> list[Row]:
    """Reading what was stored before."""
    plain = dict.fromkeys(KEYS, "value")
    pod = stack.enter_context(PersistentDict(folder / "pod", plain))
    others, missing = stores(folder, stack)

    def get(mapping: Any, keys: list[str]) -> tuple[int, Call]:
        def call() -> None:
            for key in keys:
                mapping[key]

        return len(keys), call

    for mapping in others.values():
        for key in KEYS[:50]:
            mapping[key] = "value"
    candidates = {"perdure": get(pod, KEYS), "dict": get(plain, KEYS)}
    candidates |= {name: get(mapping, KEYS[:50]) for name, mapping in others.items()}
    return compare("get", candidates, {"dict": 0.4}, missing)


def appends(folder: Path, stack: ExitStack) -> list[Row]:
    """To nested lists of different sizes."""
    pod = stack.enter_context(PersistentDict(folder / "pod"))
    pod["large"] = {"list": list(range(LARGE_LIST))}
    pod["empty"] = {"list": []}

    def append(key: str) -> tuple[int, Call]:
        target = pod[key]["list"]

        def call() -> None:
            for number in range(500):
                target.append(number)

        return 500, call

    # "At most 1.5 times as dear" is a ratio of 1/1.5 the other way round.
    candidates = {"perdure": append("large"), "to an empty list": append("empty")}
    return compare(f"append to a list of {LARGE_LIST}", candidates, {"to an empty list": 1 / 1.5}, {})


def opening(folder: Path, stack: ExitStack) -> list[Row]:
    """A dict of a million keys, beside decoding the same lines."""
    with PersistentDict(folder / "pod") as pod:
        for start in range(0, OPENED_KEYS, 100_000):
            pod.update({f"key{number}": {"n": number, "s": "text"} for number in range(start, start + 100_000)})
    path = max((folder / "pod").glob("snapshot-*"))

    def decode() -> None:
        found = {}
        with path.open("rb") as file:
            for line in file:
                fields = json.loads(line)
                if "key" in fields:
                    found[fields["key"]] = fields["value"]

    def open_it() -> None:
        PersistentDict(folder / "pod").close()

    global ROUNDS
    rounds, ROUNDS = ROUNDS, 3
    try:
        candidates: Candidates = {"perdure": (OPENED_KEYS, open_it), "json.loads of the lines": (OPENED_KEYS, decode)}
        return compare("open, a key of a million", candidates, {"json.loads of the lines": 1 / 3}, {})
    finally:
        ROUNDS = rounds


def claims(folder: Path, stack: ExitStack) -> list[Row]:
    """A job from claim to done; there is nothing to compare it with."""
    tracker = stack.enter_context(Tracker(folder / "jobs"))
    tracker.add_many(range(ROUNDS * 200))

    def work() -> None:
        for _ in range(200):
            (key,) = tracker.claim()
            tracker.mark_done(key)

    return compare("claim and mark_done", {"perdure": (200, work)}, {}, {})


def stores(folder: Path, stack: ExitStack) -> tuple[dict[str, Any], dict[str, str]]:
    """The others that are installed, and why the rest is not there."""
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, make in _makers(folder):
        try:
            store = make()
        except (ImportError, *dbm_errors()) as error:
            missing[name] = f"not installed: {error}"
            continue
        found[name] = store
        stack.callback(store.close)
    return found, missing


def dbm_errors() -> tuple[type[Exception], ...]:
    """Whatever the dbm libraries of this Python raise."""
    return tuple(dbm.error)  # type: ignore[arg-type]


def _makers(folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    def sqlitedict() -> Any:
        module = importlib.import_module("sqlitedict")
        return module.SqliteDict(str(folder / "sqlitedict.db"), autocommit=True)

    def diskcache() -> Any:
        return importlib.import_module("diskcache").Cache(str(folder / "diskcache"))

    def zict() -> Any:
        module = importlib.import_module("zict")
        file = module.File(folder / "zict", memmap=False)
        return module.Func(lambda value: pickle.dumps(value, pickle.HIGHEST_PROTOCOL), _loads, file)

    def rocksdict() -> Any:
        return importlib.import_module("rocksdict").Rdict(str(folder / "rocksdict"))

    yield "sqlitedict", sqlitedict
    yield "diskcache", diskcache
    yield "lmdb", lambda: _Lmdb(str(folder / "lmdb"))
    yield "rocksdict", rocksdict
    yield "ZODB", lambda: _Zodb(str(folder / "zodb.fs"))
    yield "zict on files", zict
    for kind in ("dumb", "gnu", "sqlite3"):

        def shelf(kind: str = kind) -> Any:
            module = importlib.import_module(f"dbm.{kind}")
            path = str(folder / f"shelf-{kind}")
            return shelve.Shelf(module.open(path, "c"), protocol=pickle.HIGHEST_PROTOCOL)

        yield f"shelve on dbm.{kind}", shelf


def _loads(data: bytes) -> Any:
    # Written by this process a moment ago.
    return pickle.loads(data)


class _Lmdb:
    """A transaction for each change, handed to the operating system and not synced; values as JSON."""

    def __init__(self, path: str) -> None:
        self._env = importlib.import_module("lmdb").open(path, map_size=1 << 30, sync=False)

    def __getitem__(self, key: str) -> Any:
        with self._env.begin() as transaction:
            return json.loads(transaction.get(key.encode()))

    def __setitem__(self, key: str, value: Any) -> None:
        with self._env.begin(write=True) as transaction:
            transaction.put(key.encode(), json.dumps(value).encode())

    def close(self) -> None:
        self._env.close()


class _Zodb:
    """The root of a file storage, with a commit for each change."""

    def __init__(self, path: str) -> None:
        self._db = importlib.import_module("ZODB").DB(path)
        self._transaction = importlib.import_module("transaction")
        self._connection = self._db.open()
        self._root = self._connection.root()

    def __getitem__(self, key: str) -> Any:
        return self._root[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._root[key] = value
        self._transaction.commit()

    def close(self) -> None:
        self._connection.close()
        self._db.close()


def table(rows: list[Row]) -> Table:
    """As it is printed."""
    lines = []
    for row in rows:
        if row.microseconds is None or row.ratio is None:
            lines.append((row.case, row.candidate, "", "", "", row.note))
        else:
            goal = "" if row.goal is None else f"{row.goal:.2f}"
            verdict = "" if row.goal is None else "ok" if row.ratio >= row.goal else "missed"
            lines.append((row.case, row.candidate, figure(row.microseconds), f"{row.ratio:.2f}", goal, verdict))
    note = "Ratio: the candidate's time divided by perdure's; above 1 perdure is faster."
    return Table(("case", "candidate", "µs", "ratio", "goal", ""), lines, note)


def against(rows: list[Row]) -> list[Against]:
    """The rows about others."""
    names = ("sqlitedict", "diskcache", "shelve", "lmdb", "rocksdict", "ZODB", "zict")
    return [
        Against(row.candidate, f"PersistentDict: {row.case}", row.ratio)
        for row in rows
        if row.ratio is not None and row.candidate.startswith(names)
    ]
