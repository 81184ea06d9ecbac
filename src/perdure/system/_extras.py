"""What a proxy can do beside its class's own methods, where the class has no such name: as coopy had it."""

from __future__ import annotations

import importlib
from typing import Any

from perdure.cluster import Node
from perdure.errors import ReadOnlyError, UsageError
from perdure.machine import Machine
from perdure.system._runtime import System


def _machine_of(system: System) -> Machine | Node:
    if system.writer is None:
        raise ReadOnlyError("this was opened for reading", path=system.path)
    return system.writer


def take_snapshot(self: Any) -> int:
    """Returns the seq of a snapshot of the present state, once it is proven to load and published."""
    return _machine_of(self._perdure_system).snapshot().seq


def close(self: Any) -> None:
    """Makes everything durable, takes a snapshot if there is something to replay, and lets go. Idempotent."""
    self._perdure_system.close()


def basedir_abspath(self: Any) -> str | None:
    """The directory, absolute; ``None`` in memory."""
    path: str | None = self._perdure_system.path
    return path


def start_snapshot_manager(self: Any, seconds: float) -> None:
    """Takes a snapshot each so many seconds in which something changed."""
    if seconds <= 0:
        raise UsageError(f"{seconds} seconds between two snapshots", hint="more than 0")
    _machine_of(self._perdure_system).set_snapshot_interval(seconds)


def start_master(self: Any, port: int = 5466, password: str | None = None, host: str = "127.0.0.1") -> str:
    """Serves the system beside everything else this process does, until it is closed; returns the URL."""
    return str(_seeds().start_master(self, port, password, host))


def start_slave(self: Any, host: str, port: int = 5466, password: str | None = None) -> None:
    """Makes a system without any commands of its own a replica of the master at ``host`` and ``port``."""
    _seeds().start_slave(self, host, port, password)


def _seeds() -> Any:
    # It stands on the server and on replicas, and they on this: so it is asked for by name, when somebody calls.
    return importlib.import_module("perdure.seeds")


def enter(self: Any) -> Any:
    return self


def leave(self: Any, *_: object) -> None:
    self._perdure_system.close()


_NAMED = {
    "take_snapshot": take_snapshot,
    "close": close,
    "basedir_abspath": basedir_abspath,
    "start_snapshot_manager": start_snapshot_manager,
    "start_master": start_master,
    "start_slave": start_slave,
}


def extras_for(cls: type) -> dict[str, Any]:
    """The methods that a proxy of ``cls`` gets beside those of the class."""
    extras: dict[str, Any] = {name: method for name, method in _NAMED.items() if not hasattr(cls, name)}
    if not hasattr(cls, "__enter__"):
        extras.update(__enter__=enter, __exit__=leave)
    return extras
