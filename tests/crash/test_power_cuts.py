"""A power cut at every step of a ledger's life, under three models of what a disk may lose."""

from __future__ import annotations

import os
import time

import pytest

from perdure.fs import Fs
from perdure.testing import crashsim
from perdure.testing.crashsim import Log, Workload
from tests.crash import _figures as figures
from tests.crash._mistakes import CarelessFs, make
from tests.crash._workloads import SCRIPTS, check, restart, workload

MODELS = ("posix", "btrfs", "ext4")


@pytest.mark.parametrize("name", SCRIPTS)
def test_acknowledged_entries_survive_a_power_cut_at_every_step(name: str) -> None:
    report = crashsim.explore(workload(SCRIPTS[name]), check, limit=16)
    figures.explored(report)
    assert report.complete


@pytest.mark.parametrize("model", ["btrfs", "ext4"])
@pytest.mark.parametrize("name", ["batches", "snapshots", "reopened"])
def test_recovery_itself_survives_a_power_cut(name: str, model: str) -> None:
    report = crashsim.explore(workload(SCRIPTS[name]), check, models=[model], recover=restart, nested=True, limit=24)
    figures.explored(report)


@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_built_on_what_a_killed_process_never_synced(model: str) -> None:
    report = crashsim.explore(
        workload(SCRIPTS["everything"][:7]), check, models=[model], recover=restart, kill_restart=True, limit=2
    )
    figures.explored(report)


def test_authenticated_journal_survives_a_power_cut_at_every_step() -> None:
    secret = b"kept elsewhere"
    report = crashsim.explore(
        workload(SCRIPTS["reopened"], secret=secret),
        lambda *promise: check(*promise, secret=secret),
        models=["posix", "ext4"],
        limit=8,
    )
    figures.explored(report)


@pytest.mark.crash
@pytest.mark.parametrize("name", SCRIPTS)
def test_power_cuts_at_length(name: str, crash_seconds: float) -> None:
    """Everything at once, with other samples in each round, for as long as there is time."""
    deadline = time.monotonic() + crash_seconds
    seed = 0
    while (left := deadline - time.monotonic()) > 0:
        report = crashsim.explore(
            workload(SCRIPTS[name]),
            check,
            recover=restart,
            nested=seed % 3 == 1,
            kill_restart=seed % 3 == 2,
            limit=1024 if seed % 3 == 0 else 30,
            seed=seed,
            seconds_max=left,
        )
        figures.explored(report, f"seed {seed}")
        seed += 1


# --- the test of the tests ---


def careless(run: Workload, mistake: str) -> Workload:
    def run_careless(directory: str, fs: Fs, log: Log) -> None:
        run(directory, CarelessFs(fs, {mistake}), log)

    return run_careless


@pytest.mark.mistake
@pytest.mark.parametrize(
    ("mistake", "model", "script"),
    [
        ("no sync", "ext4", "single"),
        ("no sync", "btrfs", "single"),
        ("no directory sync", "btrfs", "rotation"),
        ("no directory sync", "posix", "single"),
    ],
)
def test_missing_syncs_are_found(mistake: str, model: str, script: str) -> None:
    report = crashsim.explore(
        careless(workload(SCRIPTS[script]), mistake), check, models=[model], limit=100, failures_max=1
    )
    figures.found(mistake, report.failures)
    assert "lost" in str(report) or "refused" in str(report)


@pytest.mark.mistake
@pytest.mark.parametrize("mistake", ["parent synced once", "no sync"])
def test_missing_syncs_at_the_restart_are_found(mistake: str) -> None:
    report = crashsim.explore(
        workload("11"),
        check,
        models=["posix"],
        recover=careless(restart, mistake),
        kill_restart=True,
        limit=12,
        failures_max=1,
    )
    figures.found(mistake, report.failures)


@pytest.mark.mistake
@pytest.mark.parametrize(
    ("mistake", "model", "script", "kill"),
    [
        ("served unsynced", "posix", "2", True),
        ("any good record proves", "posix", "5", False),
        ("segment created in place", "posix", "1", False),
        ("snapshot unsynced", "ext4", "1s1s", False),
        ("checksum ignored", "posix", "3", False),
    ],
)
def test_mistakes_of_the_library_are_found(
    mistake: str, model: str, script: str, kill: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(mistake, monkeypatch)
    report = crashsim.explore(
        workload(script), check, models=[model], recover=restart, kill_restart=kill, limit=100, failures_max=1
    )
    figures.found(mistake, report.failures)


def test_a_failure_can_be_looked_at(tmp_path: object) -> None:
    report = crashsim.explore(careless(workload("1"), "no sync"), check, models=["ext4"], failures_max=1)
    (failure,) = report.failures
    directory = os.path.join(str(tmp_path), "state")
    failure.write_to(directory)
    assert crashsim.read_tree(directory) == failure.tree
    assert check(directory, failure.acknowledged, failure.tried) is not None
    assert failure.after in str(report)
