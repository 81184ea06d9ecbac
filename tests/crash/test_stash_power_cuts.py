"""A power cut at every step of what stashes do, under three models of what a disk may lose."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perdure.fs import Fs
from perdure.stash import (
    MISSING,
    CloseableStash,
    DirectoryCompositeStash,
    DirectoryStash,
    IncrementKeyDirectoryStash,
    LogStash,
    OneShotFactoryStash,
    Stash,
)
from perdure.testing import crashsim
from perdure.testing.crashsim import Check, Log, Workload
from tests.crash import _figures as figures

Make = Callable[[str, Fs], Stash]


@dataclass
class Document:
    version: int
    parts: dict[str, Any] | None = None


def document(version: int) -> Document:
    return Document(version, {"a": [version] * 50, "b": {"v": version}, "c": version})


MAKERS: dict[str, Make] = {
    "directory": lambda directory, fs: DirectoryStash(Path(directory) / "stash", fs=fs),
    "log": lambda directory, fs: LogStash(Path(directory) / "stash", fs=fs),
    "compacting log": lambda directory, fs: LogStash(
        Path(directory) / "stash", fs=fs, segment_bytes_max=400, compact_bytes_min=900
    ),
    "composite": lambda directory, fs: DirectoryCompositeStash(
        Path(directory) / "stash", ({"a"}, {"b"}), "parts", fs=fs
    ),
}


def value_of(kind: str, version: int) -> Any:
    return document(version) if kind == "composite" else ["v", version] * 30


def version_of(kind: str, value: Any) -> int:
    if kind == "composite":
        assert value == document(value.version)
        return int(value.version)
    assert value == ["v", value[1]] * 30
    return int(value[1])


def close(stash: Stash) -> None:
    if isinstance(stash, CloseableStash):
        stash.close()


def replacing(kind: str, steps: int) -> tuple[Workload, Check]:
    """One item gets one version after the other: never an older one than acknowledged, never a mixture."""

    def run(directory: str, fs: Fs, log: Log) -> None:
        stash = MAKERS[kind](directory, fs)
        try:
            found = stash.get("item", MISSING)
            version = 0 if found is MISSING else version_of(kind, found)
            log.acknowledged(version)
            for number in range(version + 1, max(steps, version + 1) + 1):
                log.tried(number)
                stash.dump("item", value_of(kind, number))
                log.acknowledged(number)
        finally:
            close(stash)

    def check(directory: str, acknowledged: int, tried: int) -> str | None:
        stash = MAKERS[kind](directory, Fs())
        try:
            found = stash.get("item", MISSING)
            version = 0 if found is MISSING else version_of(kind, found)
            listed = len(list(stash.keys()))
        finally:
            close(stash)
        if listed != (found is not MISSING):
            return f"{listed} names are listed"
        return None if acknowledged <= version <= tried else f"version {version}"

    return run, check


def growing(kind: str, steps: int) -> tuple[Workload, Check]:
    """One item after the other: all that were acknowledged are there, whole."""

    def run(directory: str, fs: Fs, log: Log) -> None:
        stash = MAKERS[kind](directory, fs)
        try:
            # Only what has no gap before it counts: items of a directory are independent of each other.
            count = 0
            while stash.get(f"item {count}", MISSING) is not MISSING:
                count += 1
            log.acknowledged(count)
            for number in range(count, max(steps, count + 1)):
                log.tried(number + 1)
                stash.dump(f"item {number}", value_of(kind, number))
                log.acknowledged(number + 1)
        finally:
            close(stash)

    def check(directory: str, acknowledged: int, tried: int) -> str | None:
        stash = MAKERS[kind](directory, Fs())
        try:
            found = {name: version_of(kind, value) for name, value in stash.items()}
        finally:
            close(stash)
        for number in range(acknowledged):
            if found.get(f"item {number}") != number:
                return f"item {number} is lost"
        return None if len(found) <= tried else f"{len(found)} items"

    return run, check


def deleting(directory: str, fs: Fs, log: Log) -> None:
    stash = MAKERS["directory"](directory, fs)
    stash.set_many({str(number): number for number in range(3)})
    log.acknowledged(1)
    for step, name in enumerate(("0", "1", "2"), 2):
        log.tried(step)
        stash.delete(name)
        log.acknowledged(step)


def deleted(directory: str, acknowledged: int, tried: int) -> str | None:
    names = set(MAKERS["directory"](directory, Fs()).keys())
    if acknowledged == 0:
        return None
    gone = {str(number) for number in range(acknowledged - 1)}
    must_stay = {str(number) for number in range(max(tried, 1) - 1, 3)}
    return None if not names & gone and must_stay <= names else f"{sorted(names)} are left"


def filling(kind: str, size: int) -> tuple[Workload, Check]:
    """A mark without all its items would be a lie for ever."""

    def run(directory: str, fs: Fs, log: Log) -> None:
        below = MAKERS[kind](directory, fs)
        try:
            stash = OneShotFactoryStash(below, [(str(number), value_of(kind, number)) for number in range(size)])
            log.acknowledged(int(stash.has_data))
            log.tried(1)
            stash.prime()
            log.acknowledged(1)
        finally:
            close(below)

    def check(directory: str, acknowledged: int, tried: int) -> str | None:
        below = MAKERS[kind](directory, Fs())
        try:
            full = below.fill_mark() is not None
            found = {name: version_of(kind, value) for name, value in below.items()}
        finally:
            close(below)
        if full and found != {str(number): number for number in range(size)}:
            return f"marked as filled with {len(found)} items"
        return None if full >= acknowledged else "the mark is lost"

    return run, check


CASES: dict[str, tuple[Workload, Check]] = {
    **{f"replacing in a {kind}": replacing(kind, 4) for kind in ("directory", "log")},
    "replacing in a composite": replacing("composite", 2),
    "replacing in a compacting log": replacing("compacting log", 9),
    **{f"growing a {kind}": growing(kind, 4) for kind in ("directory", "log")},
    "growing a composite": growing("composite", 2),
    "deleting": (deleting, deleted),
    **{f"filling a {kind}": filling(kind, 3) for kind in ("directory", "log")},
}


@pytest.mark.parametrize("case", CASES)
def test_a_power_cut_at_every_step_keeps_the_promise(case: str) -> None:
    run, check = CASES[case]
    report = crashsim.explore(run, check, limit=24)
    figures.explored(report)


@pytest.mark.parametrize("case", [case for case in CASES if case != "deleting"])
def test_nothing_is_built_on_what_a_killed_process_never_synced(case: str) -> None:
    run, check = CASES[case]
    report = crashsim.explore(run, check, models=["posix"], recover=run, kill_restart=True, limit=3)
    figures.explored(report)


@pytest.mark.parametrize("case", ["replacing in a directory", "replacing in a compacting log", "filling a directory"])
def test_recovery_itself_survives_a_power_cut(case: str) -> None:
    run, check = CASES[case]
    report = crashsim.explore(run, check, models=["ext4"], recover=run, nested=True, limit=8)
    figures.explored(report)


@pytest.mark.crash
@pytest.mark.parametrize("case", CASES)
def test_power_cuts_at_length(case: str, crash_seconds: float) -> None:
    run, check = CASES[case]
    deadline = time.monotonic() + crash_seconds
    seed = 0
    while (left := deadline - time.monotonic()) > 0:
        nested, restart = (seed % 3 == 1, seed % 3 == 2) if case != "deleting" else (False, False)
        report = crashsim.explore(
            run, check, recover=run, nested=nested, kill_restart=restart, limit=400 if seed % 3 == 0 else 20, seed=seed,
            seconds_max=left,
        )  # fmt: skip
        figures.explored(report, f"seed {seed}")
        seed += 1


# ---- the test of the tests -------------------------------------------------------------------------------------------


class Careless(Fs):
    """Does everything but one thing."""

    def __init__(self, inner: Fs, without: str) -> None:
        self._inner = inner
        self._without = without

    def __getattribute__(self, name: str) -> Any:
        if name in ("_inner", "_without") or name.startswith("__"):
            return object.__getattribute__(self, name)
        if name == self._without:
            return lambda *_: None
        if name in ("sync", "sync_names", "open", "close", "write", "rename", "unlink", "mkdir", "link", "truncate"):
            return getattr(self._inner, name)
        return object.__getattribute__(self, name)


@pytest.mark.mistake
@pytest.mark.parametrize("without", ["sync", "sync_names"])
@pytest.mark.parametrize("case", ["replacing in a directory", "growing a directory", "filling a directory"])
def test_leaving_out_a_sync_is_found(case: str, without: str) -> None:
    run, check = CASES[case]
    report = crashsim.explore(
        lambda directory, fs, log: run(directory, Careless(fs, without), log), check, models=["posix"], limit=24
    )
    figures.found(f"stash: no {without}", report.failures)


def test_numbers_are_never_given_twice(tmp_path: Path) -> None:
    def run(directory: str, fs: Fs, log: Log) -> None:
        stash = IncrementKeyDirectoryStash(Path(directory) / "stash", fs=fs)
        for number in range(3):
            log.tried(number + 1)
            stash.dump(number)
            log.acknowledged(number + 1)

    def check(directory: str, acknowledged: int, tried: int) -> str | None:
        found = dict(IncrementKeyDirectoryStash(Path(directory) / "stash"))
        whole = all(found.get(str(number)) == number for number in range(acknowledged))
        return None if whole and len(found) <= tried else f"{found}"

    report = crashsim.explore(run, check, limit=24)
    figures.explored(report)
    assert os.listdir(tmp_path) == []
