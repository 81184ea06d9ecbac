"""Whether a system's journal leads to the state that is in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from perdure.clock import Moment
from perdure.errors import PerdureError, UsageError
from perdure.machine import Machine, Outcome, collector_off, outcomes_in, replay
from perdure.records import Entry
from perdure.snapshots import Snapshot
from perdure.system import ObjectState, system_of


def assert_replayable(system: object) -> None:
    """Replays the journal of an open system from its oldest snapshot on a second copy, and compares.

    ``system``: what ``perdure.open`` returned, opened for writing. It goes on as before; commands wait meanwhile. Open
    it with ``keep_history=True`` to have all of its life replayed.

    Raises:
        AssertionError: the replay ended in another state; the message names the first seq that does not replay, or the
            seqs between which it lies where that cannot be told.
        UsageError: this is no system opened for writing.
    """
    opened = system_of(system)
    if opened.machine is None:
        raise UsageError("only a writer can be replayed", path=opened.path)
    with opened.machine.paused():
        _Comparison(opened.machine, opened.state).run()


class _Comparison:
    def __init__(self, machine: Machine, state: ObjectState) -> None:
        self._machine = machine
        self._state = state
        self._snapshots = sorted(machine.snapshots.newest_first(), key=lambda snapshot: snapshot.seq)
        self._base = self._snapshots[0]
        self._entries = list(machine.journal.read(self._base.seq))
        self._outcomes: Mapping[int, Outcome] = {**outcomes_in(self._entries), **outcomes_in(machine.owed)}

    def run(self) -> None:
        """Compares at each later snapshot, and with memory at the end."""
        copy = self._loaded(self._base)
        agreed = self._base.seq
        for snapshot in self._snapshots[1:]:
            self._advance(copy, agreed, snapshot.seq)
            if copy.digest() != self._loaded(snapshot).digest():
                raise AssertionError(self._explain(agreed, snapshot.seq, "the snapshot"))
            agreed = snapshot.seq
        self._advance(copy, agreed, self._machine.seq)
        with self._machine.lock:
            same = copy.digest() == self._state.digest()
        if not same:
            raise AssertionError(self._explain(agreed, self._machine.seq, "memory"))

    def _loaded(self, snapshot: Snapshot) -> ObjectState:
        copy = self._state.sibling()
        with collector_off():
            value, _ = self._machine.snapshots.load(snapshot, copy.read)
        copy.take_over(value)
        return copy

    def _advance(self, copy: ObjectState, after: int, until: int) -> None:
        try:
            self._replay(copy, [entry for entry in self._entries if after < entry.seq <= until])
        except PerdureError as error:
            raise AssertionError(f"seq {error.seq} does not replay: {error}") from error

    def _replay(self, copy: ObjectState, entries: Sequence[Entry]) -> None:
        # All of them have run: an outcome that is neither written nor owed is that of a command that returned.
        moment = Moment(self._machine.journal.log_id)
        replay(copy, moment, entries, self._outcomes, settled_before=1 << 63)

    def _explain(self, agreed: int, until: int, what: str) -> str:
        """Looks for a command that comes out differently from one copy to the next."""
        one, other = self._loaded(self._base), self._loaded(self._base)
        for entry in self._entries:
            if entry.seq > until:
                break
            self._replay(one, [entry])
            self._replay(other, [entry])
            if entry.seq > agreed and one.digest() != other.digest():
                method = self._state.decode(entry.payload)[0].__name__
                return f"seq {entry.seq}: {method}() leaves another state each time it is replayed"
        return (
            f"the replay leaves another state than {what} has, from a seq between {agreed + 1} and {until} on: "
            "was something changed outside of any command, or does a method look at something outside its object? "
            "open(…, check=True) tells at the call"
        )
