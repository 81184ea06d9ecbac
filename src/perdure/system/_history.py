"""The commands of a journal, for people and programs to read; and the state as it was."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from typing import Any

from perdure.clock import Moment, from_ns, to_ns
from perdure.errors import MissingError, UsageError
from perdure.journal import Journal
from perdure.machine import Outcome, collector_off, read_outcome, replay
from perdure.records import COMMAND, OUTCOME, Entry
from perdure.snapshots import Snapshot, SnapshotStore
from perdure.system._command import Command, decode_command
from perdure.system._state import ObjectState


def command_of(state: ObjectState, entry: Entry, outcome: Outcome | None) -> Command:
    """Raises ``CodecError`` where the entry holds something that is not allowed or no longer exists."""
    method, args, kwargs = decode_command(state.codec, entry.payload)
    if outcome is None:
        return Command(entry.seq, from_ns(entry.at_ns), method, args, kwargs)
    return Command(entry.seq, from_ns(entry.at_ns), method, args, kwargs, outcome.status, outcome.error)


def with_outcome(entries: Iterable[Entry], owed: dict[int, Outcome]) -> Iterator[tuple[Entry, Outcome | None]]:
    """Each command with what became of it. An outcome stands behind the entries that were appended with its command."""
    waiting: list[Entry] = []
    outcomes = dict(owed)
    begins = True  # Whether the entry is the first of its append.
    later = False
    for entry in entries:
        later = later or begins
        if entry.kind == OUTCOME:
            outcome = read_outcome(entry)
            outcomes[outcome.seq] = outcome
        elif entry.kind == COMMAND:
            if later:
                yield from ((held, outcomes.pop(held.seq, None)) for held in waiting)
                waiting, later = [], False
            waiting.append(entry)
        begins = not entry.more
    yield from ((held, outcomes.pop(held.seq, None)) for held in waiting)


def state_at(
    blank: ObjectState,
    journal: Journal,
    snapshots: SnapshotStore,
    when: int | datetime.datetime,
    *,
    last_seq: int,
    owed: dict[int, Outcome],
) -> int:
    """Fills ``blank`` with the state as it was after a seq, or at a time; returns the seq.

    ``last_seq``: of the last entry that is applied, and ``owed``: outcomes that were not written at that moment.

    Raises:
        MissingError: what it takes was pruned.
        UsageError: that seq is still to come, or it is neither a seq nor a time.
    """
    if not isinstance(when, (int, datetime.datetime)):
        raise UsageError(f"{when!r} is neither a seq nor a datetime")
    # A datetime counts microseconds; all of the last one belongs to it.
    until_ns = to_ns(when) + 999 if isinstance(when, datetime.datetime) else None
    if until_ns is None and isinstance(when, int) and not 0 <= when <= last_seq:
        raise UsageError(f"the last command has seq {last_seq}", seq=when)
    base = _snapshot_for(snapshots, when, until_ns)
    with collector_off():
        value, _ = snapshots.load(base, blank.read)
    blank.take_over(value)
    entries: list[Entry] = []
    outcomes = dict(owed)
    for entry, outcome in with_outcome((entry for entry in journal.read(base.seq) if entry.seq <= last_seq), owed):
        if entry.at_ns > until_ns if until_ns is not None else entry.seq > when:  # type: ignore[operator]
            break
        entries.append(entry)
        if outcome is not None:
            outcomes[entry.seq] = outcome
    replay(blank, Moment(journal.log_id), entries, outcomes, settled_before=1 << 63)
    return entries[-1].seq if entries else base.seq


def _snapshot_for(snapshots: SnapshotStore, when: Any, until_ns: int | None) -> Snapshot:
    for snapshot in snapshots.newest_first():
        header = snapshot.header
        # Entries may share the time of the snapshot's last one, so a snapshot of that very time may hold too much.
        if header.at_ns < until_ns or header.seq == 0 if until_ns is not None else header.seq <= when:
            return snapshot
    raise MissingError(
        "no snapshot from before that moment is left",
        seq=when if isinstance(when, int) else None,
        hint="open with keep_history=True from now on: then nothing is pruned",
    )
