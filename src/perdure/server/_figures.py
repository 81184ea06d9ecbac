"""Where a system stands: the numbers on the page and in /metrics."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from perdure.clock import from_ns
from perdure.errors import PerdureError
from perdure.fs import Fs
from perdure.machine import Outcome
from perdure.records import Entry
from perdure.server._counts import Counts, Rate
from perdure.snapshots import Snapshot
from perdure.system import Command, Control, System, command_of

_REMEMBERED = 50


class Now(NamedTuple):
    """One look. ``oldest_seq``: the earliest moment that can still be looked at."""

    seq: int
    durable_seq: int
    rate: float
    snapshots: Sequence[Snapshot]
    snapshot_seq: int
    oldest_seq: int
    disk_bytes: int
    replicas: Sequence[Any]


class Figures:
    """Any thread may ask. ``replicas``: tells which ones are connected."""

    def __init__(self, system: System, counts: Counts, replicas: Callable[[], Sequence[Any]]) -> None:
        self._system = system
        self._control = Control(system)
        self._replicas = replicas
        self._rate = Rate()
        self._last: deque[tuple[Entry, Outcome | None]] = deque(maxlen=_REMEMBERED)
        self._is_filled = False
        self._unsubscribe: Callable[[], None] = lambda: None
        self.counts = counts
        if system.machine is not None:
            # Raw entries: what nobody looks at is never decoded.
            self._unsubscribe = system.machine.subscribe(lambda entry, outcome: self._last.append((entry, outcome)))

    def close(self) -> None:
        self._unsubscribe()

    def now(self) -> Now:
        """Blocks for a look at the disk."""
        control = self._control
        seq = control.seq
        snapshots = self._system.engine.snapshots.newest_first()
        return Now(
            seq,
            control.durable_seq,
            self._rate.sample(seq),
            snapshots,
            snapshots[0].seq if snapshots else 0,
            snapshots[-1].seq if snapshots else seq,
            _size_of(control.path),
            self._replicas(),
        )

    def last_commands(self, count: int) -> list[Command]:
        """The newest ones first, as far as they are remembered or still in the journal."""
        seen = list(self._last)
        found = [self._command(entry, outcome) for entry, outcome in seen[-count:]]
        if len(found) < count and not self._is_filled:
            first = seen[0][0].seq if seen else self._control.seq + 1
            found = [*self._earlier(first, count - len(found)), *found]
        return found[::-1]

    def _earlier(self, before: int, count: int) -> list[Command]:
        """From the journal: those before the server began to remember."""
        try:
            return list(deque(self._control.history(max(0, before - 1 - 2 * count), before), maxlen=count))
        except PerdureError:
            return []  # Pruned, or not decodable with today's code: the page shows what there is.

    def _command(self, entry: Entry, outcome: Outcome | None) -> Command:
        try:
            return command_of(self._system.state, entry, outcome)
        except PerdureError as error:
            return Command(entry.seq, from_ns(entry.at_ns), "?", (), {}, "returned", error.message)


def _size_of(path: str | None) -> int:
    if path is None:
        return 0
    fs = Fs()
    total = 0
    for name in fs.names(path):
        try:
            total += fs.stat(os.path.join(path, name)).st_size
        except FileNotFoundError:
            continue  # A segment that was trimmed a moment ago.
    return total
