"""``init_system`` on two machines, as coopy and copycat spell it, over a server that really runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import uvloop

import perdure
from perdure import init_system
from tests.unit.replica.models import Wiki
from tests.unit.replica.test_follow import free_port, in_step

uvloop.run(asyncio.sleep(0))  # Libuv opens one pipe per process for signals, and keeps it.


def test_a_master_and_its_slaves(tmp_path: Path) -> None:
    port = free_port()
    master: Any = init_system(Wiki, tmp_path / "m", master=True, port=port, password="short")
    master.put("a", 1)
    for password in ("wrong", None):
        with pytest.raises(perdure.UnauthorizedError):
            init_system(Wiki, tmp_path / "s", replication=True, port=port, password=password)
    slave: Any = init_system(Wiki, tmp_path / "s", replication=True, port=port, password="short")
    other: Any = init_system(Wiki(), tmp_path / "t")
    other.start_slave("127.0.0.1", port, "short")
    master.put("b", 2)
    in_step(master, slave, other)
    assert master.pages == slave.pages == other.pages == {"a": 1, "b": 2}
    for replica in (slave, other):
        with pytest.raises(perdure.ReadOnlyError):
            replica.put("c", 3)
    other.close()
    again: Any = init_system(Wiki, tmp_path / "t", replication=True, port=port, password="short")
    assert again.pages == master.pages
    for system in (again, slave, master):
        system.close()
    with pytest.raises(perdure.UnreachableError):
        perdure.follow(Wiki, f"http://127.0.0.1:{port}")


def test_start_master_on_an_opened_system(tmp_path: Path) -> None:
    wiki: Any = init_system(Wiki, tmp_path / "w", snapshot_time=100)
    url = wiki.start_master(0, "short")
    wiki.put("a", 1)
    with pytest.raises(perdure.UsageError, match="cannot listen"):
        wiki.start_master(int(url.rpartition(":")[2]), "short")
    with pytest.raises(perdure.UsageError, match="no token"):
        wiki.start_master(0, host="0.0.0.0")
    wiki.close()


def test_what_makes_no_sense_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(perdure.UsageError, match="not both"):
        init_system(Wiki, tmp_path / "w", master=True, replication=True)
    with pytest.raises(perdure.UnreachableError):
        init_system(Wiki, tmp_path / "w", replication=True, port=free_port())
    wiki: Any = init_system(Wiki, tmp_path / "w")
    with pytest.raises(perdure.UnreachableError):
        wiki.start_slave("127.0.0.1", free_port())
    wiki.put("a", 1)
    with pytest.raises(perdure.UsageError, match="commands of its own"):
        wiki.start_slave("127.0.0.1", free_port())
    assert wiki.pages == {"a": 1}
    wiki.close()
    in_memory: Any = perdure.open(Wiki, perdure.MEMORY)
    with pytest.raises(perdure.UsageError, match="in a directory"):
        in_memory.start_slave("127.0.0.1", free_port())
