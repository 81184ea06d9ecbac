"""A power cut at every step of a replica's life: beginning, copying, snapshots, promotion.

No network: what a primary sends is prepared, and handed to the machine as the feed does. After each cut the replica
opens, has at least what it had told to be durable, and ends in the primary's state once the rest has come.
"""

from __future__ import annotations

import contextlib
import os
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.codecs import get_codec
from perdure.fs import Fs
from perdure.machine import Place, create_replica, has_snapshot, open_machine, open_replica
from perdure.records import OUTCOME, Entry
from perdure.system import ObjectState, system_of
from perdure.testing import crashsim
from perdure.testing.crashsim import Log
from tests.crash import _figures as figures
from tests.unit.replica.models import Wiki

URL = "http://primary"


class Run:
    """``batches``: what a feed gives, each with the outcomes of its commands."""

    def __init__(self, folder: Path, *, in_one: bool) -> None:
        with perdure.open(Wiki, folder, snapshot="manual") as wiki:
            for number in range(4):
                wiki.put(str(number), "x" * 30)
                with contextlib.suppress(ValueError):
                    wiki.put("raises", None)
                with contextlib.suppress(KeyError):
                    wiki.put_and_fail("aborted")
            wiki.put("last", 1)
            machine = system_of(wiki).machine
            assert machine is not None
            self.entries: list[Entry] = list(machine.journal.read())
            self.digest = perdure.control(wiki).digest()
        self.snapshot = (folder / f"snapshot-{0:020d}").read_bytes()
        batches: list[list[Entry]] = []
        for entry in self.entries:
            if batches and (in_one or entry.kind == OUTCOME):
                batches[-1].append(entry)
            else:
                batches.append([entry])
        self.batches = batches
        self.promoted_at = len(batches) + 2

    @cached_property
    def codec(self) -> Any:
        return get_codec("pickle", package="tests", allow=(Wiki,))

    def place(self, directory: str, fs: Fs | None = None) -> Place:
        return Place(os.path.join(directory, "replica"), snapshot="manual", fs=fs or Fs(), forks=False)

    def workload(self, directory: str, fs: Fs, log: Log) -> None:
        place = self.place(directory, fs)
        log.tried(1)
        create_replica(place, URL, [self.snapshot])
        log.acknowledged(1)
        machine, _ = open_replica(ObjectState(Wiki, self.codec), place, URL)
        try:
            for number, batch in enumerate(self.batches, 2):
                log.tried(number)
                machine.copy(batch)
                log.acknowledged(number)
                if number % 4 == 0:
                    machine.snapshot()
            log.tried(self.promoted_at)
            machine.promote()
            log.acknowledged(self.promoted_at)
        finally:
            machine.close()

    def check(self, directory: str, acknowledged: int, tried: int) -> str | None:
        place = self.place(directory)
        if not has_snapshot(place):
            return "there is no snapshot" if acknowledged else None
        state = ObjectState(Wiki, self.codec)
        role = os.path.exists(os.path.join(directory, "replica", "role.json"))
        if not role:
            if tried < self.promoted_at:
                return "it is taken for a writer's"
            machine, _ = open_machine(state, Wiki, place)
            try:
                return None if machine.term == 1 and self._is_final(state) else "not what was promoted"
            finally:
                machine.close()
        if acknowledged >= self.promoted_at:
            return "it is a replica still"
        replica, _ = open_replica(state, place, URL)
        try:
            told = self.batches[acknowledged - 2][-1].seq if acknowledged >= 2 else 0
            if replica.journaled_seq < told:
                return f"the journal ends at {replica.journaled_seq}; {told} was durable"
            replica.copy(self.entries[replica.journaled_seq :])
            return None if self._is_final(state) else "another state than the primary's"
        finally:
            replica.close()

    def _is_final(self, state: ObjectState) -> bool:
        return state.digest().hex() == self.digest


@pytest.mark.parametrize("in_one", [False, True], ids=["batches", "one batch"])
def test_a_power_cut_leaves_a_replica_that_goes_on(tmp_path: Path, in_one: bool) -> None:
    run = Run(tmp_path / "primary", in_one=in_one)
    figures.explored(crashsim.explore(run.workload, run.check, limit=24, seconds_max=5))


@pytest.mark.crash
@pytest.mark.parametrize("in_one", [False, True], ids=["batches", "one batch"])
def test_power_cuts_over_replicas_at_length(tmp_path: Path, in_one: bool, crash_seconds: float) -> None:
    run = Run(tmp_path / "primary", in_one=in_one)
    deadline = time.monotonic() + crash_seconds
    seed = 0
    while seed == 0 or time.monotonic() < deadline:
        figures.explored(
            crashsim.explore(run.workload, run.check, limit=256, seed=seed, seconds_max=max(5, crash_seconds))
        )
        seed += 1
