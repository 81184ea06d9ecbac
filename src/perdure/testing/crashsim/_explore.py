"""Cutting the power at every moment of a recording, and asking whether the promise still holds."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from perdure.fs import Fs
from perdure.testing.crashsim._changes import Fill, Tree
from perdure.testing.crashsim._choices import choices
from perdure.testing.crashsim._disk import Disk
from perdure.testing.crashsim._events import Event, Log
from perdure.testing.crashsim._models import MODELS, Posix
from perdure.testing.crashsim._record import RecordingFs
from perdure.testing.crashsim._report import Failure, ModelReport, Report
from perdure.testing.crashsim._trees import digest_of, workspace, write_tree

Workload = Callable[[str, Fs, Log], None]
"""Runs operations in a directory through the given file system, and logs what it promises."""
Check = Callable[[str, int, int], str | None]
"""Opens a directory after a crash: (directory, acknowledged, tried) → what is wrong, or ``None``. May raise, too."""

_NESTED_LIMIT = 60


def explore(
    workload: Workload,
    check: Check,
    *,
    models: Sequence[str] = ("posix", "btrfs", "ext4"),
    recover: Workload | None = None,
    nested: bool = False,
    kill_restart: bool = False,
    limit: int = 1024,
    seed: int = 0,
    seconds_max: float | None = None,
    failures_max: int = 20,
) -> Report:
    """Runs ``workload`` once in an empty directory, then cuts the power after each of its steps.

    For each step and each model of ``models``, ``check`` is called on every directory that the cut may have left, and
    on at most ``limit`` of them where there are more; ``seed`` decides which. 1024 are all ways to lose ten changes.

    ``recover``: what a restarted process does, for the two that follow; ``workload`` itself by default. What it logs as
    acknowledged must survive the second cut, so it should log at once what it found. ``nested``: on each of those
    directories ``recover`` is run and the power is cut again during it. ``kill_restart``: the process, not the machine,
    dies after each step, ``recover`` is run on what it left, and the power is cut during or after that: this finds
    programs that build on what they read and never synced.

    ``seconds_max``: stop after so long, for all models together. ``failures_max``: stop a model after so many.
    """
    deadline = None if seconds_max is None else time.monotonic() + seconds_max
    with workspace() as work:
        events, initial = record(workload, os.path.join(work, "recorded"), {})
        reports: dict[str, ModelReport] = {}
        for position, name in enumerate(models):
            started = time.monotonic()
            # An equal share of what is left, so that no model is starved by the one before.
            share = None if deadline is None else started + (deadline - started) / (len(models) - position)
            run = _Run(MODELS[name], check, recover or workload, work, limit, seed, failures_max, share)
            try:
                run.cut_everywhere(events, initial, nested=nested)
                if kill_restart:
                    run.kill_everywhere(events, initial)
            except _EnoughError:
                run.report.complete = False
            run.report.seconds = time.monotonic() - started
            reports[name] = run.report
    return Report(reports, len(events))


def record(
    workload: Workload, directory: str, tree: Tree, acknowledged: int = 0, tried: int = 0
) -> tuple[list[Event], Tree]:
    """Runs a workload in a directory that holds ``tree``, and returns what it did, and ``tree``."""
    write_tree(tree, directory)
    events: list[Event] = []
    fs = RecordingFs(directory, events=events)
    workload(directory, fs, Log(events, acknowledged, tried, before=fs.collect))
    fs.collect()
    return events, tree


class _EnoughError(Exception):
    """Time or patience is over."""


@dataclass
class _Moment:
    """A point at which power may fail."""

    disk: Disk
    after: str
    acknowledged: int
    tried: int
    stale: bytes


class _Run:
    """The exploration under one model."""

    def __init__(
        self,
        model: Posix,
        check: Check,
        recover: Workload,
        work: str,
        limit: int,
        seed: int,
        failures_max: int,
        deadline: float | None,
    ) -> None:
        self.report = ModelReport(model.name)
        self._model = model
        self._check = check
        self._recover = recover
        self._state_directory = os.path.join(work, "state")
        self._recovery_directory = os.path.join(work, "recovery")
        self._limit = limit
        self._rng = random.Random(seed)
        self._failures_max = failures_max
        self._deadline = deadline
        self._seen: set[bytes] = set()

    # ---- the three scenarios ----------------------------------------------------------------------------------------

    def cut_everywhere(self, events: Sequence[Event], initial: Tree, *, nested: bool) -> None:
        """A power cut after each event and, ``nested``, another one during the recovery from it."""
        for moment in self._moments(events, initial):
            for tree, lost, fill in self._states(moment, self._model.fills, self._limit):
                ok = self._judge(tree, moment, "", lost, fill)
                if ok and nested:
                    self._cut_during_recovery(tree, moment)

    def _cut_during_recovery(self, tree: Tree, first: _Moment) -> None:
        scenario = f"power cut after: {first.after}; restarted; "
        events = self._recorded_recovery(tree, first, scenario)
        for moment in self._moments(events, tree, promises=(first.acknowledged, first.tried)):
            for second, lost, fill in self._states(moment, ("zeros",), min(self._limit, _NESTED_LIMIT)):
                self.report.nested += 1
                self._judge(second, moment, scenario, lost, fill)

    def kill_everywhere(self, events: Sequence[Event], initial: Tree) -> None:
        """The process is killed after each event, restarted, and the power is cut from then on."""
        for end, first in enumerate(self._moments(events, initial)):
            if end and events[end - 1].kind == "promise":
                continue
            scenario = f"killed after: {first.after}; restarted; "
            more = self._recorded_recovery(first.disk.live_tree(), first, scenario)
            moments = self._moments([*events[:end], *more], initial, skip=end)
            for moment in moments:
                for tree, lost, fill in self._states(moment, ("zeros",), min(self._limit, _NESTED_LIMIT)):
                    self._judge(tree, moment, scenario, lost, fill)

    def _recorded_recovery(self, tree: Tree, first: _Moment, scenario: str) -> list[Event]:
        try:
            return record(self._recover, self._recovery_directory, tree, first.acknowledged, first.tried)[0]
        except Exception as error:
            # Whatever a program under test raises here is a finding about that program.
            self._fail(f"the restart raised {_described(error)}", tree, first, scenario, [], "zeros")
            return []

    # ---- moments and states -----------------------------------------------------------------------------------------

    def _moments(
        self, events: Sequence[Event], initial: Tree, *, promises: tuple[int, int] = (0, 0), skip: int = 0
    ) -> Iterator[_Moment]:
        """Before the first event and after each, but for the first ``skip`` events."""
        disk = Disk(self._model, initial)
        stale = next((event.data for event in events if event.kind == "write" and len(event.data) > 8), b"")
        moment = _Moment(disk, "the start", *promises, stale)
        if not skip:
            self.report.points += 1
            yield moment
        for index, event in enumerate(events):
            if event.kind == "promise":
                moment.acknowledged, moment.tried = event.acknowledged, event.tried
            else:
                disk.feed(index, event)
            moment.after = str(event)
            if index + 1 >= skip:
                self.report.points += 1
                yield moment

    def _states(self, moment: _Moment, fills: Sequence[str], limit: int) -> Iterator[tuple[Tree, list[str], str]]:
        """The trees that were not seen before, each with the steps that were lost, and the filling."""
        pending = moment.disk.pending()
        for kept in choices(self._model, pending, limit, self._rng):
            survivors = {id(pending[index]) for index in kept}
            for fill in fills:
                tree = moment.disk.tree(survivors, _filling(fill, moment.stale))
                digest = digest_of(tree, moment.acknowledged, moment.tried)
                if digest in self._seen:
                    continue
                self._seen.add(digest)
                lost = [str(change) for index, change in enumerate(pending) if index not in kept]
                yield tree, lost, fill

    def _judge(self, tree: Tree, moment: _Moment, scenario: str, lost: list[str], fill: str) -> bool:
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise _EnoughError
        self.report.states += 1
        write_tree(tree, self._state_directory)
        try:
            problem = self._check(self._state_directory, moment.acknowledged, moment.tried)
        except Exception as error:
            # Whatever a program under test raises here is a finding about that program.
            problem = f"the check raised {_described(error)}"
        if problem is not None:
            self._fail(problem, tree, moment, scenario, lost, fill)
        return problem is None

    def _fail(self, problem: str, tree: Tree, moment: _Moment, scenario: str, lost: list[str], fill: str) -> None:
        failure = Failure(
            self._model.name, problem, scenario, moment.after, lost, fill, moment.acknowledged, moment.tried, tree
        )
        self.report.failures.append(failure)
        if len(self.report.failures) >= self._failures_max:
            raise _EnoughError


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _filling(name: str, stale: bytes) -> Fill:
    if name == "ones":
        return lambda _, size_bytes: b"\xff" * size_bytes
    if name == "stale" and stale:
        return lambda _, size_bytes: (stale * (size_bytes // len(stale) + 1))[:size_bytes]
    return lambda _, size_bytes: bytes(size_bytes)
