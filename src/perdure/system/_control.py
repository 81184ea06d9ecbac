"""What can be asked of an opened system beside its own methods."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

from perdure.cluster import Node
from perdure.codecs import Codec
from perdure.errors import MissingError, ReadOnlyError, UsageError
from perdure.journal import MemoryJournal
from perdure.machine import Machine, Outcome, RecoveryReport, outcomes_in
from perdure.records import OUTCOME, Entry
from perdure.snapshots import MemorySnapshotStore
from perdure.system._command import Command
from perdure.system._follower import Follower
from perdure.system._frozen import Frozen
from perdure.system._history import command_of, state_at, with_outcome
from perdure.system._lag import Lag
from perdure.system._proxy import make_proxy, system_of
from perdure.system._runtime import System
from perdure.system._state import ObjectState

Result = TypeVar("Result")


class Control:
    """What perdure itself can tell about a system, and do with it. Any thread may call any method."""

    def __init__(self, system: System) -> None:
        self._system = system

    @property
    def seq(self) -> int:
        """Of the last entry: commands, and the outcomes of those that raised. 0 when there is none yet."""
        return self._system.engine.seq

    @property
    def durable_seq(self) -> int:
        """Everything up to here survives a power cut."""
        return self._system.engine.durable_seq

    @property
    def path(self) -> str | None:
        """The directory, absolute; ``None`` in memory."""
        return self._system.path

    @property
    def closed(self) -> bool:
        return self._system.engine.closed

    @property
    def fencing_token(self) -> int | None:
        """On an engine, opened with ``leader=True``: a number that grows with each leader, for others to compare.

        ``None`` where this does not lead, or does not any more as far as it knows.
        """
        engine = self._system.engine
        return engine.fencing_token if isinstance(engine, Node) else None

    @property
    def durability(self) -> str:
        """What an acknowledged command survives, as far as it is known, in words."""
        engine = self._system.engine
        return str((engine.log if isinstance(engine, Node) else engine.journal).capabilities.durability)

    def read(
        self,
        query: Callable[[Any], Result] | None = None,
        *,
        consistency: Literal["local", "session", "linearizable"] = "local",
        seq: int | None = None,
        timeout: float | None = None,
    ) -> Result | int:
        """What ``query`` makes of the root, on a state that is as new as asked; without one the seq of that state.

        Queries on the proxy read what this process has. On an engine that is some milliseconds behind the other nodes,
        or more when the network is broken: "session" waits until ``seq`` is there, which a caller brings along from
        another node (``perdure.control(…).seq`` after its command); "linearizable" until everything is there that
        anybody was answered before this call. With a directory all three are the same.

        Raises:
            UnreachableError: it did not come to be in ``timeout`` seconds (default: that of ``open``).
            UsageError: the arguments do not make sense.
        """
        if consistency not in ("local", "session", "linearizable"):
            raise UsageError(f"consistency={consistency!r}", hint='"local", "session" or "linearizable"')
        if (consistency == "session") != (seq is not None):
            raise UsageError('consistency="session" goes with seq=, and nothing else does')
        engine = self._system.engine
        if isinstance(engine, Node):
            if consistency == "linearizable":
                engine.barrier(timeout)
            elif seq is not None:
                engine.wait_for(seq, timeout)
        elif seq is not None and seq > engine.seq:
            raise UsageError(f"the last command here has seq {engine.seq}", seq=seq)
        with engine.lock:
            return engine.seq if query is None else query(self._system.state.root)

    @property
    def report(self) -> RecoveryReport:
        """What opening found."""
        return self._system.report

    def take_snapshot(self) -> int:
        """Returns the seq of a snapshot of the present state, once it is proven to load and published.

        Blocks its caller; where the platform forks it stalls nobody else. Raises like ``Machine.snapshot``.
        """
        return self._writer("a snapshot is taken by the writer").snapshot().seq

    def sync(self) -> int:
        """Returns when everything called before is durable, with the seq. Raises ``WriteError`` like a command."""
        return self._writer("only a writer has something to sync").sync()

    def history(self, after: int = 0, before: int | None = None) -> Iterator[Command]:
        """The commands with ``after < seq < before`` that are still there, in order, decoded one at a time.

        Raises:
            MissingError: some of them were pruned; see ``keep_history=True``.
            CorruptError: some of them are damaged.
            CodecError: one holds something that is not allowed or no longer exists.
        """
        state = self._system.state
        applied_seq, owed = self._position()
        # Outcomes may stand behind `before`, and behind the last entry that is applied; they are read, too.
        read = self._system.engine.journal.read(after)
        entries = (entry for entry in read if entry.seq <= applied_seq or entry.kind == OUTCOME)
        try:
            for entry, outcome in with_outcome(entries, owed):
                if before is not None and entry.seq >= before:
                    return
                yield command_of(state, entry, outcome)
        except MissingError as error:
            error.hint = "older commands are pruned once two snapshots contain them; keep_history=True keeps them all"
            raise

    def at(self, when: int | datetime.datetime) -> Any:
        """A read-only copy of the system as it was after a seq, or at a time (a naive one is local).

        Its commands raise ``ReadOnlyError``. It stays as it is and needs no closing.

        Raises:
            MissingError: what it takes was pruned; see ``keep_history=True``.
            UsageError: that seq is still to come, or it is neither a seq nor a time.
        """
        engine, state = self._system.engine, self._system.state.sibling()
        journal, snapshots = engine.journal, engine.snapshots
        last_seq, owed = self._position()
        seq = state_at(state, journal, snapshots, when, last_seq=last_seq, owed=owed)
        frozen = Frozen(seq, self.path, journal, snapshots, owed)
        return make_proxy(System(frozen, state, path=self.path, report=RecoveryReport(snapshot_seq=seq)))

    def snapshot(self) -> Any:
        """A read-only copy of the system as it is now: ``at(seq)``."""
        return self.at(self.seq)

    def subscribe(self, subscriber: Callable[[Command], None]) -> Callable[[], None]:
        """Has ``subscriber`` called with each command after it was applied, in order, never at replay.

        It runs in the thread that applied the command, before the caller has its answer: it must be quick and must not
        call commands. What it raises is logged. Returns a function that ends it.
        """
        state = self._system.state

        def told(entry: Entry, outcome: Outcome | None) -> None:
            subscriber(command_of(state, entry, outcome))

        return self._writer("a follower has no commands of its own").subscribe(told)

    def digest(self) -> str:
        """64 hexadecimal digits, equal for equal states in any process. Takes time in proportion to the state."""
        with self._system.engine.lock:
            return self._system.state.digest().hex()

    @property
    def lag(self) -> Lag | None:
        """How far a replica is behind its primary; ``None`` for what is no replica."""
        replica = self._system.replica
        return None if replica is None else replica.lag()

    def promote(self, where: str | os.PathLike[str] | None = None) -> None:
        """Makes a replica a writer, durably, and tells the old one as soon as that can be reached: it refuses to go on.

        ``where``: a new directory for a replica that lives in memory. What the primary had acknowledged and the replica
        had not yet received is lost to it: see ``lag``. The proxy takes commands from now on.

        Raises:
            UsageError: this is no replica, or was promoted before. Nothing happened.
            WriteError, StorageError: it is a replica still, and follows on.
            DivergedError, ReplayError, CodecError: what it has cannot be applied.
        """
        replica = self._system.replica
        if replica is None:
            raise UsageError("this is not a replica", path=self.path)
        self._system.path = replica.promote(None if where is None else os.fspath(where))

    def close(self) -> None:
        """Makes everything durable, takes a snapshot if there is something to replay, and lets go. Idempotent.

        Afterwards calls raise ``ClosedError``. Raises what the last sync or the snapshot raised, after letting go.
        """
        self._system.close()

    def _writer(self, why: str) -> Machine | Node:
        writer = self._system.writer
        if writer is None:
            raise ReadOnlyError(f"this was opened for reading: {why}", path=self.path)
        return writer

    def _position(self) -> tuple[int, dict[int, Outcome]]:
        """The last entry that is applied, and the outcomes that are not in the journal yet, at one moment."""
        engine = self._system.engine
        if isinstance(engine, Node | Follower | Frozen):
            return engine.known_outcomes()
        machine = self._system.machine
        if machine is None:
            return engine.seq, {}
        if machine.is_inside() or machine.is_querying():
            return machine.seq, outcomes_in(machine.owed)
        with machine.paused():
            return machine.seq, outcomes_in(machine.owed)


def control(proxy: object) -> Control:
    """The ``Control`` of a system: what perdure itself can tell about it, and do with it.

    Raises:
        UsageError: this was not opened by perdure.
    """
    try:
        own: Control = object.__getattribute__(proxy, "_perdure_control")
    except AttributeError:
        system = system_of(proxy)
        make: Callable[[], Control] | None = getattr(system, "make_control", None)
        return Control(system) if make is None else make()
    return own


def read_only_copy(root: Any, codec: Codec, *, seq: int, path: str) -> Any:
    """A proxy of a root that came from elsewhere: queries and attributes, no commands, no history."""
    state = ObjectState(type(root), codec)
    state.root = root
    frozen = Frozen(seq, path, MemoryJournal(), MemorySnapshotStore(), {})
    return make_proxy(System(frozen, state, path=path, report=RecoveryReport(snapshot_seq=seq)))
