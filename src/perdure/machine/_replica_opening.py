"""Opening a replica's machine: as any other, except that the end of its journal may have to wait for the primary."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import tempfile
import time
from collections.abc import Iterable
from typing import Any

from perdure.errors import MissingError, PerdureError, UsageError, WriteError
from perdure.fs import DirectoryLock
from perdure.journal import FileJournal, segment_name, segment_numbers
from perdure.limits import SNAPSHOT_BLOCK_BYTES
from perdure.machine._opening import Place, RecoveryReport, begin_in_memory, load_snapshot, make_ready, set_aside
from perdure.machine._replay import collector_off, with_outcomes
from perdure.machine._replica import ReplicaMachine
from perdure.machine._role import Role, read_role, remove_role, write_role
from perdure.machine._state import State
from perdure.records import Entry
from perdure.snapshots import FileSnapshotStore, MemorySnapshotStore, SnapshotHeader, receive


def has_snapshot(place: Place) -> bool:
    """Whether a replica can begin without its primary. Raises ``StorageError`` where nobody can tell."""
    return place.directory is not None and os.path.isdir(place.directory) and bool(place.store().seqs())


def create_replica(place: Place, url: str, chunks: Iterable[bytes]) -> None:
    """Makes a directory a replica's, and puts the primary's snapshot there.

    What a crash leaves: a directory that says that it is a replica's, perhaps with a temporary file; then the whole
    snapshot.

    Raises:
        UsageError: something else is kept there.
        CorruptError, FormatVersionError: the bytes are no whole snapshot.
        WriteError, LockedError, StorageError: as ``open_machine`` does.
    """
    assert place.directory is not None
    fs, directory = place.fs, place.directory
    chunks = iter(chunks)
    first = next(chunks, b"")  # Before anything is made: whether there is a primary at all.
    make_ready(fs, directory)
    lock = DirectoryLock(fs, directory)
    try:
        store = place.store()
        if store.seqs():
            raise UsageError("something is kept there already", path=directory, hint="name an empty directory")
        fs.remove_temporaries(directory)
        try:
            write_role(fs, directory, Role("replica", url=url))
        except OSError as error:
            raise WriteError(f"the directory cannot be made ready: {error.strerror}", path=directory) from error
        try:
            draft, header = receive(store, itertools.chain((first,), chunks))
            store.publish(draft, header)
        except PerdureError:
            with contextlib.suppress(OSError):
                remove_role(fs, directory)
            raise
    finally:
        lock.release()


def clear_unused(place: Place) -> None:
    """Deletes what opening made of a system that never had a command; nobody has it open.

    What a crash leaves: some of it; the rest is deleted at the next attempt, or opens as a new system.
    """
    assert place.directory is not None
    fs, directory = place.fs, place.directory
    try:
        # The segments first: a journal without its snapshot would be damage, a snapshot without a journal is new.
        for number in segment_numbers(fs, directory):
            fs.unlink(os.path.join(directory, segment_name(number)))
        for seq in place.store().seqs():
            fs.unlink(place.store().path_of(seq))
        fs.sync_directory(directory)
    except OSError as error:
        raise WriteError(f"it cannot be made empty: {error.strerror}", path=directory) from error


def load_received(
    state: State, place: Place, store: FileSnapshotStore | None, chunks: Iterable[bytes]
) -> tuple[str | None, SnapshotHeader, Any]:
    """A snapshot of the primary for a machine that has none, or an older one: draft, header and value.

    ``store``: where the draft stays; ``None``: nowhere, for a replica in memory.

    Raises:
        CorruptError, FormatVersionError, WriteError: like ``receive``.
        UsageError: it is of another class. CodecError: it cannot be loaded here.
    """
    with contextlib.ExitStack() as stack:
        if store is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="perdure-"))
            place = Place(folder, secrets=place.secrets, fs=place.fs)
        receiving = store or place.store()
        draft, header = receive(receiving, chunks)
        try:
            state.check(header.description, None)
            with collector_off(), receiving.reader(draft) as reader:
                value = state.read(io.BufferedReader(reader, SNAPSHOT_BLOCK_BYTES))
        except BaseException:
            receiving.discard(draft)
            raise
        return draft if store is not None else None, header, value


def open_replica_in_memory(
    state: State, place: Place, chunks: Iterable[bytes]
) -> tuple[ReplicaMachine, RecoveryReport]:
    """A replica that lives and dies with the process. Raises like ``load_received``."""
    started = time.monotonic()
    _, header, value = load_received(state, place, None, chunks)
    state.take_over(value)
    store = MemorySnapshotStore()
    journal, newest = begin_in_memory(state, store, header, place)
    machine = ReplicaMachine(state, journal, store, newest=newest, **place.machine_options())
    return machine, RecoveryReport(snapshot_seq=header.seq, seconds=time.monotonic() - started)


def open_replica(state: State, place: Place, url: str) -> tuple[ReplicaMachine, RecoveryReport]:
    """A replica as far as its own files go. Its directory was made by ``create_replica``.

    Raises:
        UsageError: the directory is a writer's.
        and what ``open_machine`` raises.
    """
    assert place.directory is not None
    fs, directory = place.fs, place.directory
    make_ready(fs, directory)
    lock: DirectoryLock | None = None
    journal: FileJournal | None = None
    try:
        lock = DirectoryLock(fs, directory)
        started = time.monotonic()
        _check_role(place, directory, url)
        fs.remove_temporaries(directory)
        store = place.store()
        newest, damaged_paths = load_snapshot(state, store, directory)
        if newest is None:
            raise MissingError("there is no snapshot to begin with", path=directory)
        journal = place.journal(newest, state.description, copied=True)
        quarantined = [set_aside(fs, directory, path) for path in damaged_paths]
        journal.last_at_ns = max(journal.last_at_ns, newest.header.at_ns)
        cut = journal.cut
        machine = ReplicaMachine(
            state, journal, store, newest=newest, place_lock=lock, path=directory, **place.machine_options()
        )
        try:
            replayed = _replay_settled(machine, journal, newest.seq)
        except BaseException:
            machine.close(snapshot=False)
            raise
    except BaseException as error:
        if journal is not None:
            with contextlib.suppress(PerdureError):
                journal.close()
        if lock is not None:
            lock.release()
        if isinstance(error, PerdureError):
            error.path = error.path or directory
        raise
    return machine, RecoveryReport(
        snapshot_seq=newest.seq,
        replayed=replayed,
        cut_bytes=cut.size_bytes if cut is not None else 0,
        quarantined=tuple(quarantined),
        seconds=time.monotonic() - started,
        cut_path=cut.side_path if cut is not None else None,
    )


def _check_role(place: Place, directory: str, url: str) -> None:
    role = read_role(place.fs, directory)
    if role is None or role.role != "replica":
        raise UsageError(
            "this directory is a writer's, not a replica's",
            path=directory,
            hint="name an empty directory to follow into",
        )
    if role.url != url:
        # It may have moved, or another replica was promoted; whether the journal continues is asked there.
        try:
            write_role(place.fs, directory, Role("replica", role.term, url))
        except OSError as error:
            raise WriteError(f"it cannot be written down: {error.strerror}", path=directory) from error


def _replay_settled(machine: ReplicaMachine, journal: FileJournal, after: int) -> int:
    """Applies what is known to have settled, and holds the rest; how many entries were applied."""
    tail = journal.recovered.tail if journal.recovered is not None else None
    # A mark at the end says it of everything. (An empty segment says nothing: it may have been begun after a cut.)
    everything = tail is not None and bool(tail.entries) and tail.marked
    held: list[Entry] = []
    count = 0
    for _, entries, outcomes, settled_before in with_outcomes(journal.read_recovered(after)):
        settled = entries
        if held:
            settled = []
        elif not everything:
            settled = [entry for entry in entries if entry.seq < settled_before]
        held += entries[len(settled) :]
        if settled:
            with collector_off():
                machine.replay(settled, outcomes, settled_before=settled[-1].seq + 1)
            count += len(settled)
    machine.hold(held)
    return count
