"""Bringing a machine back: the newest snapshot that verifies, and every entry behind it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perdure.clock import Clock
from perdure.errors import CodecError, CorruptError, MissingError, PerdureError, WriteError
from perdure.fs import DirectoryLock, Fs, check_private
from perdure.journal import BINARY, Durability, FileJournal, Framing, MemoryJournal
from perdure.limits import SEGMENT_BYTES_MAX
from perdure.machine._machine import Machine
from perdure.machine._replay import collector_off, with_outcomes
from perdure.machine._role import refuse_fenced, refuse_replica
from perdure.machine._state import State
from perdure.records import Chain
from perdure.snapshots import FileSnapshotStore, MemorySnapshotStore, Snapshot, SnapshotHeader, SnapshotStore

QUARANTINE_DIRECTORY = "quarantine"

_PROGRESS_ENTRIES = 20_000

Progress = Callable[[int, int], None]
"""Told now and then during a long restore: entries applied, entries in all."""


@dataclass(frozen=True)
class RecoveryReport:
    """What opening found.

    ``snapshot_seq``: the seq of the snapshot that it began with. ``replayed``: how many commands were run after that.
    ``cut_bytes``: the size of a torn tail, which is kept in a side file. ``quarantined``: damaged files that were set
    aside, whole. ``seconds``: how long opening took. ``changed_methods``: methods whose code has changed since the
    commands that were replayed were journaled.
    """

    snapshot_seq: int = 0
    replayed: int = 0
    cut_bytes: int = 0
    quarantined: tuple[str, ...] = ()
    seconds: float = 0.0
    changed_methods: tuple[str, ...] = ()
    cut_path: str | None = None


@dataclass
class Place:
    """How a machine keeps its files: everything ``open_machine`` needs beside the state.

    ``secrets``: keys for authentication codes; the first one writes. ``clock``: where the time of entries comes from.
    """

    directory: str | None
    durability: Durability = "always"
    snapshot: str | float = "auto"
    keep_history: bool = False
    secrets: Sequence[bytes] = ()
    clock: Clock | None = None
    fs: Fs = field(default_factory=Fs)
    framing: Framing = BINARY
    segment_bytes_max: int = SEGMENT_BYTES_MAX
    forks: bool = True

    def chain(self) -> Chain | None:
        return Chain(self.secrets) if self.secrets else None

    def machine_options(self) -> dict[str, Any]:
        """What the machine itself is told."""
        return {
            "durability": self.durability,
            "automatic_snapshots": self.snapshot != "manual",
            "snapshot_interval_s": float(self.snapshot) if not isinstance(self.snapshot, str) else None,
            "keep_history": self.keep_history,
            "forks": self.forks,
        }

    def journal(self, newest: Snapshot | None, description: Mapping[str, Any], *, copied: bool = False) -> FileJournal:
        """The journal behind a snapshot, recovered. Raises what ``FileJournal`` raises."""
        assert self.directory is not None
        return FileJournal(
            self.directory,
            fs=self.fs,
            after=newest.seq if newest is not None else 0,
            log_id=newest.header.log_id if newest is not None else None,
            durability=self.durability,
            clock=self.clock,
            framing=self.framing,
            chain=self.chain(),
            description=description,
            segment_bytes_max=self.segment_bytes_max,
            copied=copied,
        )

    def store(self) -> FileSnapshotStore:
        assert self.directory is not None
        return FileSnapshotStore(self.directory, fs=self.fs, secrets=self.secrets)


def open_machine(
    state: State, initial: Callable[[], Any], place: Place, *, progress: Progress | None = None
) -> tuple[Machine, RecoveryReport]:
    """A machine whose state is what it was when the last command before was acknowledged, or ``initial()`` if it is
    new.

    What a crash leaves while it is created: a directory, perhaps with a temporary file; then a whole snapshot of seq 0.

    Raises:
        LockedError, StorageError: somebody else writes there, or could. Nothing was changed.
        CorruptError, MissingError: what is there is damaged or incomplete. Nothing was changed.
        CodecError, ReplayError: it cannot be loaded with today's code. Nothing was changed.
        WriteError: the disk refused.
    """
    if place.directory is None:
        return _open_in_memory(state, initial, place), RecoveryReport()
    fs, directory = place.fs, place.directory
    make_ready(fs, directory)
    lock: DirectoryLock | None = None
    journal: FileJournal | None = None
    try:
        lock = DirectoryLock(fs, directory)
        started = time.monotonic()
        refuse_replica(fs, directory)
        fs.remove_temporaries(directory)
        store = place.store()
        newest, damaged_paths = load_snapshot(state, store, directory)
        journal = place.journal(newest, state.description)
        quarantined = [set_aside(fs, directory, path) for path in damaged_paths]
        if newest is None:
            newest = _create(state, initial, journal, store)
        journal.last_at_ns = max(journal.last_at_ns, newest.header.at_ns)
        machine = Machine(
            state,
            journal,
            store,
            newest=newest,
            place_lock=lock,
            path=directory,
            **place.machine_options(),
        )
        try:
            replayed, descriptions = _replay_recovered(machine, journal, newest.seq, progress)
            refuse_fenced(fs, directory, machine.term)
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
    cut = journal.cut
    return machine, RecoveryReport(
        snapshot_seq=newest.seq,
        replayed=replayed,
        cut_bytes=cut.size_bytes if cut is not None else 0,
        quarantined=tuple(quarantined),
        seconds=time.monotonic() - started,
        changed_methods=tuple(_changed_methods(descriptions, state)),
        cut_path=cut.side_path if cut is not None else None,
    )


def make_ready(fs: Fs, directory: str) -> None:
    """A private directory at that path. Raises ``WriteError`` and what ``check_private`` raises."""
    try:
        fs.make_directory(directory)
        check_private(fs, directory)
    except OSError as error:
        raise WriteError(
            f"the directory cannot be made ready: {error.strerror}",
            path=directory,
            hint="is there room, and may this user write here? mode='r' only reads",
        ) from error


def _open_in_memory(state: State, initial: Callable[[], Any], place: Place) -> Machine:
    store = MemorySnapshotStore()
    journal = MemoryJournal(clock=place.clock)
    newest = _create(state, initial, journal, store)
    return Machine(state, journal, store, newest=newest, **place.machine_options())


def _create(
    state: State,
    initial: Callable[[], Any],
    journal: FileJournal | MemoryJournal,
    store: FileSnapshotStore | MemorySnapshotStore,
) -> Snapshot:
    """Stores the initial state as the snapshot of seq 0: nothing says that making it again would give the same."""
    if journal.last_seq > 0:
        raise MissingError(
            "there are entries, but the snapshot that they build on is gone",
            path=getattr(store, "directory", None),
            seq=0,
            hint="bring a snapshot-… file back from a backup",
        )
    state.take_over(initial())
    header = SnapshotHeader(0, journal.last_at_ns, journal.log_id, state.description)
    draft = store.write(header, state.dump, state.digest, lambda file: state.digest(state.read(file)))
    return store.publish(draft, header)


def begin_in_memory(
    state: State, store: SnapshotStore, header: SnapshotHeader, place: Place
) -> tuple[MemoryJournal, Snapshot]:
    """A journal that continues another one behind ``header.seq``, and a snapshot of ``state``, which is that far."""
    journal = MemoryJournal(clock=place.clock, after=header.seq, log_id=header.log_id)
    journal.last_at_ns = header.at_ns
    draft = store.write(header, state.dump, state.digest, lambda file: state.digest(state.read(file)))
    return journal, store.publish(draft, header)


def load_snapshot(state: State, store: FileSnapshotStore, directory: str) -> tuple[Snapshot | None, list[str]]:
    """Takes over the newest snapshot that verifies, and names the damaged ones before it. Changes nothing on disk.

    Raises:
        CorruptError: there are snapshots, and none of them verifies.
        CodecError, UsageError: it verifies, but is not loadable here.
    """
    damaged: list[tuple[int, CorruptError]] = []
    for seq in store.seqs():
        path = store.path_of(seq)
        try:
            snapshot = store.snapshot_at(seq)
            state.check(snapshot.header.description, path)
            with collector_off():
                value, _ = store.load(snapshot, state.read)
        except CorruptError as error:
            damaged.append((seq, error))
            continue
        except CodecError as error:
            error.path, error.seq = error.path or path, seq
            error.hint = error.hint or (
                "open it with the code that wrote it; or, if a class has moved: renames={old: new}, or allow=[…]"
            )
            raise
        state.take_over(value)
        return snapshot, [store.path_of(damaged_seq) for damaged_seq, _ in damaged]
    if damaged:
        first = damaged[0][1]
        first.hint = first.hint or (
            "no snapshot is whole: bring one back from a backup, or see what can be kept with: "
            f"perdure repair {directory}"
        )
        raise first
    return None, []


def set_aside(fs: Fs, directory: str, path: str) -> str:
    """Moves a damaged file to the quarantine folder; where that fails it stays, and the next opening meets it again."""
    folder = os.path.join(directory, QUARANTINE_DIRECTORY)
    target = os.path.join(folder, f"{os.path.basename(path)}-{time.time_ns()}")
    try:
        fs.make_directory(folder)
        fs.rename_durably(path, target)
    except OSError:
        return path
    return target


def _replay_recovered(
    machine: Machine, journal: FileJournal, after: int, progress: Progress | None
) -> tuple[int, list[dict[str, Any]]]:
    """Applies what the journal holds behind the snapshot; how many entries, and the descriptions of their segments."""
    count = 0
    total = journal.last_seq - after
    descriptions = []
    for segment, entries, outcomes, settled_before in with_outcomes(journal.read_recovered(after)):
        descriptions.append(segment.header.description)
        for start in range(0, len(entries), _PROGRESS_ENTRIES):
            part = entries[start : start + _PROGRESS_ENTRIES]
            # For one part at a time: should the commands make garbage, it is collected in between.
            with collector_off():
                machine.replay(part, outcomes, settled_before=settled_before)
            count += len(part)
            if progress is not None:
                progress(count, total)
    return count, descriptions


def _changed_methods(descriptions: list[dict[str, Any]], state: State) -> list[str]:
    changed: dict[str, None] = {}
    now = state.description.get("methods", {})
    for description in descriptions:
        for name, fingerprint in description.get("methods", {}).items():
            if now.get(name) != fingerprint:
                changed[name] = None
    return list(changed)
