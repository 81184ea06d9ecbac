"""Looking into a log without running it, and running it beside the nodes to compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from perdure.cluster._entries import Genesis, decode_body, decode_head
from perdure.cluster._replica import Replica
from perdure.cluster._snapshots import LOG, BlobSnapshots, Place
from perdure.engines import EngineUrl, Log, open_blobs, open_log
from perdure.errors import CorruptError, MissingError, PerdureError
from perdure.machine import Outcome, State
from perdure.records import GENESIS, Entry
from perdure.snapshots import Snapshot

_COUNT = 1_000
_IDLE_S = 0.5


class Peek:
    """A log and its snapshots, opened to be looked at.

    ``description``: of what is in it. ``snapshots``: name, snapshot and place of each that is whole, the newest first.
    """

    def __init__(self, log: Log, snapshots: BlobSnapshots) -> None:
        self.log = log
        self.store = snapshots
        self.snapshots: list[tuple[str, Snapshot, Place]] = []
        for name in snapshots.names():
            try:
                snapshot = snapshots.fetched(name)
                self.snapshots.append((name, snapshot, Place.found_in(snapshot.header, name)))
            except (CorruptError, MissingError):
                continue
        self.description: dict[str, Any] = self._description()

    def _description(self) -> dict[str, Any]:
        if self.snapshots:
            header = self.snapshots[0][1].header
            return {name: value for name, value in header.description.items() if name != LOG}
        first = self.log.read(0, 1)
        if not first or decode_head(first[0].data, 1).kind != GENESIS:
            raise MissingError("neither a snapshot nor a genesis record is there", path=self.log.url)
        return decode_body(first[0].data, Genesis, 1).description

    def verified(self, blank: Callable[[], State]) -> list[dict[str, Any]]:
        """Replays from each snapshot to the next one and compares, and from the newest to the end of the log."""
        checks = []
        usable = [each for each in reversed(self.snapshots) if each[2].position + 1 >= self.log.bounds().first]
        for number, (_, snapshot, _) in enumerate(usable):
            target = usable[number + 1] if number + 1 < len(usable) else None
            checks.append(self._check(blank(), snapshot, target))
        return checks

    def _check(self, state: State, start: Snapshot, target: tuple[str, Snapshot, Place] | None) -> dict[str, Any]:
        replica = Replica(self.log, state, self.store)
        problem = None
        try:
            replica.take_over(start)
            last = self.log.bounds().last if target is None else target[2].position
            while replica.position < last:
                for entry in self.log.read(replica.position, min(_COUNT, last - replica.position)):
                    replica.apply(entry)
            if target is not None:
                expected = self.store.load(target[1], lambda _: None)[1]
                if replica.state.digest() != expected:
                    problem = f"its digest is {replica.state.digest().hex()[:16]}…, that of the snapshot "
                    problem += f"{expected.hex()[:16]}…"
        except PerdureError as error:
            problem = str(error)
        return {"from_seq": start.seq, "to_seq": replica.seq, "same": problem is None, "problem": problem}


@contextmanager
def peek(url: EngineUrl, *, snapshots: str | None = None) -> Iterator[Peek]:
    """A log that is there, to look at. Raises like ``perdure.engines.open_log``."""
    log = open_log(url)
    store: BlobSnapshots | None = None
    try:
        store = BlobSnapshots(log.blobs if snapshots is None else open_blobs(snapshots), log.log_id)
        yield Peek(log, store)
    finally:
        if store is not None:
            store.close()
        log.close()


class LogReader:
    """The commands in a log, counted as every node counts them, without running any."""

    def __init__(self, found: Peek) -> None:
        self._found = found
        self._replica = Replica(found.log, _Counting(found.description), found.store)  # type: ignore[arg-type]
        first = found.log.bounds().first
        starts = [each for each in found.snapshots if each[2].position + 1 >= first]
        if not starts:
            raise MissingError("no snapshot that the log goes on from is there", path=found.log.url)
        self._replica.take_over(starts[-1][1])
        self.first_seq: int = self._replica.seq + 1
        self._told: list[Entry] = []
        self._replica.subscribe(self._note)

    def _note(self, entry: Entry, outcome: Outcome | None) -> None:
        self._told.append(entry)

    def entries(self, *, follow: bool) -> Iterator[Entry]:
        """Those that are there; with ``follow`` also those that come, until somebody interrupts."""
        replica, log = self._replica, self._found.log
        last = log.bounds().last
        while replica.position < last:
            for entry in log.read(replica.position, _COUNT):
                replica.apply(entry)
            yield from self._taken()
        if follow:
            for entries in log.follow(replica.position, idle_s=_IDLE_S):
                for entry in entries:
                    replica.apply(entry)
                yield from self._taken()

    def _taken(self) -> list[Entry]:
        told, self._told = self._told, []
        return told


class _Counting:
    """A state that runs nothing."""

    answers: Any = None
    value = None

    def __init__(self, description: dict[str, Any]) -> None:
        self.description = description

    def check(self, description: Any, path: str | None) -> None:
        return

    def read(self, file: Any) -> None:
        return

    def take_over(self, value: Any) -> None:
        return

    def execute(self, payload: bytes) -> None:
        return
