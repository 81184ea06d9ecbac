"""Who has a job, and whether that worker still lives."""

from __future__ import annotations

import functools
import os
import socket
import time
from pathlib import Path
from typing import Any

LEASE = "_lease"
"""The field of a job that somebody works on: ``{"worker": …, "until": …}``, nanoseconds since the epoch."""


def worker_id() -> str:
    """This process, by a name that no other process has: machine, boot, process id, and when it was started."""
    return _id_of(os.getpid())


@functools.cache
def _id_of(pid: int) -> str:
    return f"{_machine()}/{pid}/{_started(pid) or _STARTED}"


def is_gone(worker: str) -> bool:
    """Whether a process is known to have ended. One on another machine never is: its leases run out."""
    machine, _, process = worker.rpartition("/")[0].rpartition("/")
    if machine != _machine():
        # An earlier boot of this machine: nothing of it runs any more.
        return machine.partition("@")[0] == _machine().partition("@")[0]
    if not process.isdigit():
        return False
    pid = int(process)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    started = _started(pid)
    return started is not None and started != worker.rpartition("/")[2]


def holder_of(job: Any, now_ns: int) -> str | None:
    """The worker that has a job; ``None`` where nobody has, or no longer."""
    lease = job.get(LEASE) if isinstance(job, dict) else None
    if not isinstance(lease, dict):
        return None
    worker, until_ns = lease.get("worker"), lease.get("until")
    if not isinstance(worker, str) or not isinstance(until_ns, int) or until_ns <= now_ns:
        return None
    return worker


@functools.cache
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()}@{boot}"


def _started(pid: int) -> str | None:
    """When a process was started, in clock ticks since boot; ``None`` where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # The name of the program may hold anything, parentheses too; what follows it does not.
    fields = text.rpartition(")")[2].split()
    if fields[:1] == ["Z"]:
        return "ended"  # A zombie: nobody has asked yet how it ended.
    return fields[19] if len(fields) > 19 else None


_STARTED = str(time.time_ns())
