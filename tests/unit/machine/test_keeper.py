"""The background thread: what fails in it does not end it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.machine import Machine
from perdure.system import system_of
from perdure.testing import WrappingFs


class Box:
    def __init__(self) -> None:
        self.held: list[Any] = []

    def put(self, number: int) -> None:
        self.held.append(number)

    def put_a_function(self) -> None:
        self.held.append(lambda: None)

    def clear(self) -> None:
        self.held.clear()


class CountingFs(WrappingFs):
    """Counts syncs; with ``full`` no new file can be made."""

    def __init__(self) -> None:
        super().__init__()
        self.syncs = 0
        self.refused = 0
        self.full = False

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        if self.full and flags & os.O_CREAT:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().open(path, flags, mode)

    def sync(self, fd: int) -> None:
        self.syncs += 1
        super().sync(fd)


def machine_of(box: Box) -> Machine:
    machine = system_of(box).machine
    assert machine is not None
    return machine


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_snapshot_that_fails_does_not_end_the_keeper(tmp_path: Path) -> None:
    with perdure.open(Box, tmp_path, snapshot=0.05) as box:
        machine = machine_of(box)
        box.put_a_function()  # From here on no snapshot is possible.
        failed: list[BaseException] = []
        take = machine.snapshot

        def counted() -> Any:
            try:
                return take()
            except perdure.CodecError as error:
                failed.append(error)
                raise

        machine.snapshot = counted  # type: ignore[method-assign]
        box.put(1)
        wait_until(lambda: len(failed) >= 2)
        assert machine.newest_snapshot is not None
        assert machine.newest_snapshot.seq == 0
        box.clear()  # Now one is, and it comes by itself.
        box.put(2)
        wait_until(lambda: machine.newest_snapshot.seq >= 3)  # type: ignore[union-attr]
    with perdure.open(Box, tmp_path) as box:
        assert box.held == [2]


def test_each_second_is_synced_although_snapshots_fail(tmp_path: Path) -> None:
    fs = CountingFs()
    with perdure.open(Box, tmp_path, durability="everysec", snapshot=0.05, fs=fs) as box:
        control = perdure.control(box)
        box.put(0)
        fs.full = True
        try:
            for number in range(1, 3):
                box.put(number)
                seq, syncs = control.seq, fs.syncs
                wait_until(lambda: control.durable_seq >= seq and fs.syncs > syncs)  # noqa: B023
            wait_until(lambda: fs.refused > 1)
        finally:
            fs.full = False
        box.put(3)
        wait_until(lambda: machine_of(box).newest_snapshot.seq >= 4)  # type: ignore[union-attr]
    with perdure.open(Box, tmp_path) as box:
        assert box.held == [0, 1, 2, 3]


@pytest.mark.parametrize("durability", ["everysec", "never"])
def test_an_idle_journal_says_how_far_it_is_durable(tmp_path: Path, durability: Any) -> None:
    with perdure.open(Box, tmp_path, durability=durability, snapshot="manual") as box:
        box.put(1)
        journal = machine_of(box).journal
        # A mark behind the last entry, so that a reader beside it has not to wait for the next command.
        with perdure.open(Box, tmp_path, mode="r") as reader:
            wait_until(lambda: reader.held == [1])
        assert journal.failure is None
