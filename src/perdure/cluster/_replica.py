"""A state that is made by applying a log's entries, and by nothing else: the same on every node.

What is counted and remembered here is a function of the log alone: seqs, times, receipts, who may write. A command's
outcome is, too: each node runs it and sees for itself, so no outcomes are written down.

One thread at a time applies, under ``order``; each command runs under ``state_lock``, which is what queries take.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from perdure.clock import Moment, running
from perdure.cluster._entries import (
    BARRIER,
    Head,
    Request,
    Term,
    code_of,
    decode_body,
    decode_group,
    decode_head,
)
from perdure.cluster._snapshots import BlobSnapshots, Place
from perdure.cluster._waiting import Batch, Waiting
from perdure.engines import Log, LogEntry
from perdure.errors import (
    CodecError,
    CorruptError,
    LockedError,
    MissingError,
    OutcomeUnknownError,
    PerdureError,
    ReplayError,
    StorageError,
    UnreachableError,
)
from perdure.machine import (
    INTERRUPTING,
    Companion,
    Outcome,
    Receipts,
    State,
    collector_off,
    name_of,
    replay,
    store_error,
    store_result,
)
from perdure.records import COMMAND, GENESIS, GROUP, TERM, Entry
from perdure.snapshots import Snapshot

_log = logging.getLogger("perdure")
_READ_COUNT = 1_000
_WAIT_S = 0.2
_SKEW_NS = 10_000_000_000
_WHOLE_ENTRY = -1

Subscriber = Callable[[Entry, Outcome | None], None]


class OvertakenError(Exception):
    """The state has been replaced, in the middle of an entry, by a snapshot from behind it: the entry is in there."""


class Replica:
    """See above. ``position``: of the last entry applied; ``seq``: of the last command."""

    def __init__(self, log: Log, state: State, snapshots: BlobSnapshots) -> None:
        self.log = log
        self.state = state
        self.snapshots = snapshots
        self.companion: Companion | None = None
        self.moment: Moment = Moment(log.log_id)
        self.receipts: Receipts = Receipts()
        self.order: Any = threading.RLock()
        self.state_lock: Any = threading.RLock()
        self.seq: int = 0
        self.position: int = 0
        self.last_id: bytes = b""
        self.last_at_ns: int = 0
        self.term: bytes = b""
        self.term_position: int = 0
        self.code: int = code_of(state.description)
        self.other_code: bool = False
        self.outcomes: dict[int, Outcome] = {}
        """Of the commands that did not simply return, as far back as ``waymarks`` reach."""
        self.waymarks: list[tuple[int, int, int]] = []
        """Seqs, the positions where they stand, and their times: where reading may begin."""
        self._passed_over: set[tuple[int, int]] = set()
        self._subscribers: list[Subscriber] = []
        self._skew_told = False

    # ---- taking over a snapshot

    def take_over(self, snapshot: Snapshot) -> None:
        """Becomes what a snapshot holds. The caller holds the locks. Raises like ``SnapshotStore.load``."""
        place = Place.found_in(snapshot.header, snapshot.name)
        if snapshot.header.log_id != self.log.log_id:
            raise CorruptError("the snapshot belongs to another log", path=snapshot.name)
        self.state.check(snapshot.header.description, self.log.url)
        with collector_off():
            value, _ = self.snapshots.load(snapshot, self.state.read)
        self.receipts.load(snapshot.header.receipts)
        self.state.take_over(value)
        self.seq, self.last_at_ns = snapshot.seq, snapshot.header.at_ns
        self.position, self.last_id, self.term, self.term_position = place
        self.outcomes.clear()
        self._passed_over.clear()
        self.waymarks = [(self.seq, self.position, self.last_at_ns)]
        if self.companion is not None:
            self.companion.replaced()

    def place(self) -> Place:
        """Where the state stands."""
        return Place(self.position, self.last_id, self.term, self.term_position)

    # ---- applying

    def apply(self, entry: LogEntry, batch: Batch | None = None) -> None:
        """Applies the entry behind ``position``. ``batch``: who waits for it here. The caller holds ``order``.

        Raises:
            CorruptError, FormatVersionError, CodecError, ReplayError: this node cannot go on.
        """
        head = decode_head(entry.data, entry.position)
        self._look_at_clock(head)
        if head.kind == GROUP:
            self.other_code = self.other_code or head.code != self.code
            self._apply_group(entry, head, batch)
        elif head.kind == TERM:
            self.term = decode_body(entry.data, Term, entry.position).session
            self.term_position = entry.position
        elif head.kind != GENESIS:
            self.apply_other(entry, head, batch)
        self.position, self.last_id = entry.position, entry.id
        if batch is not None:
            batch.applied, batch.at = True, entry.position
            for each in batch.waiting:
                each.position = entry.position

    def apply_other(self, entry: LogEntry, head: Head, batch: Batch | None) -> None:
        """An entry that changes no state."""

    def _look_at_clock(self, head: Head) -> None:
        self.last_at_ns = max(self.last_at_ns, head.at_ns)
        if not self._skew_told and self.last_at_ns - time.time_ns() > _SKEW_NS:
            self._skew_told = True
            ahead_s = (self.last_at_ns - time.time_ns()) / 1e9
            _log.warning("%s: another node's clock is %.0f s ahead of this one's", self.log.url, ahead_s)

    def _apply_group(self, entry: LogEntry, head: Head, batch: Batch | None) -> None:
        session, counter = entry.id[:16], int.from_bytes(entry.id[16:], "big")
        waiting = batch.waiting if batch is not None and not batch.applied else []
        if self.receipts.has_run(session, counter):
            # Its writer had no answer and appended it again.
            self._passed_over.add((entry.position, _WHOLE_ENTRY))
            self.tell_unknown(waiting)
            return
        if self.term and session != self.term:
            self._passed_over.add((entry.position, _WHOLE_ENTRY))
            for each in waiting:
                each.error = self.not_leading()
        else:
            for index, request in enumerate(decode_group(entry.data, entry.position)):
                self._apply_request(entry, index, head, request, waiting[index] if index < len(waiting) else None)
        self.receipts.note(session, counter, self.seq, None)

    def tell_unknown(self, waiting: list[Waiting]) -> None:
        """For those whose entry is in a snapshot that this node went on from: nobody here saw what came of it."""
        said = "this node had fallen behind and went on from a snapshot; what came of the command is not known here"
        hint = "it has had its turn: it does not run any more"
        for each in waiting:
            if each.kind != BARRIER:
                each.error = OutcomeUnknownError(said, path=self.log.url, hint=hint)

    def not_leading(self) -> LockedError:
        """What is said to commands that the log's term does not allow."""
        return LockedError(
            f"another node leads since position {self.term_position}; nothing happened",
            path=self.log.url,
            hint="open it with leader=True to take over",
        )

    def _apply_request(
        self, entry: LogEntry, index: int, head: Head, request: Request, waiting: Waiting | None
    ) -> None:
        receipts, client, counter = self.receipts, request.client, request.counter
        if client and receipts.has_run(client, counter):
            self._passed_over.add((entry.position, index))
            if waiting is not None:
                waiting.result, waiting.error = receipts.answer(client, counter, self.state.answers)
            return
        seq = self.seq + 1
        result, error = self._run(seq, head, request, waiting)
        self.seq = seq
        if waiting is not None:
            waiting.seq, waiting.at_ns, waiting.result = seq, self.last_at_ns, result
            waiting.error = waiting.error or error
        if client:
            codec = self.state.answers
            receipts.note(client, counter, seq, store_error(error, codec) if error else store_result(result, codec))
        if self._subscribers:
            self._tell(Entry(seq, self.last_at_ns, COMMAND, request.payload, head.utc_offset_min, client, counter))

    def _run(self, seq: int, head: Head, request: Request, waiting: Waiting | None) -> tuple[Any, Exception | None]:
        """Runs one command: its result, or what it raised."""
        moment, companion, before = self.moment, self.companion, running.moment
        pending = waiting or Waiting(COMMAND, request.payload)
        if companion is not None:
            pending.seq, pending.at_ns, pending.utc_offset_min = seq, self.last_at_ns, head.utc_offset_min
        with self.state_lock:
            if companion is not None:
                companion.before(pending)
            moment.set(seq, self.last_at_ns, head.utc_offset_min)
            result, raised = None, None
            try:
                running.moment = moment
                if waiting is not None and waiting.context is not None:
                    result = waiting.context.run(self.state.run, waiting.call)
                else:
                    result = self.state.execute(request.payload)
            except BaseException as error:  # Whatever the method raises is its outcome, or ended it.
                running.moment = before
                raised = self._judged(seq, request, error)
            finally:
                running.moment = before
            if companion is not None and (raised is None or self.outcomes[seq].status == "raised"):
                self._accompany(companion, pending, raised)
        return result, raised

    def _accompany(self, companion: Companion, pending: Waiting, raised: Exception | None) -> None:
        before = running.moment
        pending.error = raised
        try:
            running.moment = self.moment
            self.moment.set(pending.seq, pending.at_ns, pending.utc_offset_min)
            companion.after(pending)
        except PerdureError as error:
            pending.error = error
        finally:
            running.moment = before

    def _judged(self, seq: int, request: Request, error: BaseException) -> Exception:
        """What a raising command leaves; the exception for its caller."""
        try:
            call = self.state.decode(request.payload)
        except PerdureError as refused:
            # Not the command raised: nobody here can tell what it is.
            raise self._unreadable(seq, refused) from error
        if isinstance(error, ReplayError):
            raise self._unreadable(seq, error) from error
        if isinstance(error, MemoryError):
            # The other nodes may have had enough.
            raise StorageError("this node ran out of memory within a command", seq=seq, hint="open it again") from error
        if isinstance(error, INTERRUPTING) or not isinstance(error, Exception):
            self._roll_back(seq)
            self.outcomes[seq] = Outcome(seq, "interrupted", name_of(error))
            return ReplayError(f"the command was ended by {name_of(error)}: {error}", seq=seq)
        verdict = self.state.verdict(call, error)
        if verdict == "restore":
            self._roll_back(seq)
        self.outcomes[seq] = Outcome(seq, "raised" if verdict == "keep" else "aborted", name_of(error))
        return error

    def _unreadable(self, seq: int, error: PerdureError) -> PerdureError:
        kind = type(error) if isinstance(error, (CodecError, ReplayError)) else ReplayError
        hint = error.hint or "does every node run the same code? open it with the code that wrote it"
        return kind(f"an entry cannot be applied here: {error.message}", path=self.log.url, seq=seq, hint=hint)

    # ---- going back

    def _roll_back(self, seq: int) -> None:
        companion = self.companion
        if companion is not None and companion.roll_back():
            return
        self._restore(seq - 1)
        if companion is not None:
            companion.rolled_back()

    def _restore(self, seq: int) -> None:
        """Makes the state what it was after ``seq``. Needs the engine; while that does not answer, it waits.

        Raises what ``no_way_back`` raises, where others have trimmed the log and forgotten the snapshot.
        """
        while True:
            try:
                value, entries = self._restored(seq)
            except UnreachableError:
                self.check_going_on()
                time.sleep(_WAIT_S)
            except MissingError as error:
                self.no_way_back(error)
            else:
                self.state.take_over(value)
                moment = Moment(self.log.log_id)
                replay(self.state, moment, entries, self.outcomes, settled_before=1 << 63, owe=_nothing_owed)
                return

    def _restored(self, seq: int) -> tuple[Any, list[Entry]]:
        """The newest snapshot up to ``seq``, and what to apply to it."""
        for snapshot in self.snapshots.newest_first():
            if snapshot.seq <= seq:
                with collector_off():
                    value, _ = self.snapshots.load(snapshot, self.state.read)
                place = Place.found_in(snapshot.header, snapshot.name)
                start = (snapshot.seq, place.position, snapshot.header.at_ns)
                return value, list(self.entries_behind(start, seq))
        raise MissingError("no snapshot to go back to is left", path=self.log.url, seq=seq)

    def no_way_back(self, error: MissingError) -> NoReturn:
        """The state of before the running command cannot be had any more."""
        raise error

    def check_going_on(self) -> None:
        """Raises ``ClosedError`` once nobody wants the state any more."""

    # ---- what the log says

    def entries_behind(self, start: tuple[int, int, int], last_seq: int) -> Iterator[Entry]:
        """The commands behind a waymark, up to ``last_seq``: those that were applied.

        Raises ``MissingError`` where they were trimmed.
        """
        seq, position, at_ns = start
        while seq < last_seq:
            found = self.log.read(position, _READ_COUNT)
            if not found:
                raise UnreachableError("the engine's answer is an old one", path=self.log.url, seq=seq + 1)
            for entry in found:
                position = entry.position
                head = decode_head(entry.data, position)
                at_ns = max(at_ns, head.at_ns)
                if head.kind != GROUP or (position, _WHOLE_ENTRY) in self._passed_over:
                    continue
                for index, request in enumerate(decode_group(entry.data, position)):
                    if seq < last_seq and (position, index) not in self._passed_over:
                        seq += 1
                        yield Entry(seq, at_ns, COMMAND, request.payload, head.utc_offset_min, *request[1:])
                if seq >= last_seq:
                    return

    def commands(self, after: int, before: int | None = None) -> Iterator[Entry]:
        """Applied commands with ``after < seq < before``. Raises ``MissingError`` where they were trimmed."""
        last_seq = self.seq if before is None else min(self.seq, before - 1)
        start = max((mark for mark in list(self.waymarks) if mark[0] <= after), default=None)
        if start is None:
            if last_seq <= after:
                return
            raise MissingError(f"the commands behind seq {after} were trimmed", path=self.log.url, seq=after + 1)
        yield from (entry for entry in self.entries_behind(start, last_seq) if entry.seq > after)

    def add_waymark(self, seq: int, position: int, at_ns: int, *, keep: int) -> None:
        """Remembers where reading may begin, and forgets the outcomes before the oldest of the last ``keep``."""
        if self.waymarks and self.waymarks[-1][:2] == (seq, position):
            return  # This replica began there.
        self.waymarks.append((seq, position, at_ns))
        if keep and len(self.waymarks) > keep:
            self.waymarks = self.waymarks[-keep:]
            first_seq, first_position, _ = self.waymarks[0]
            self.outcomes = {seq: outcome for seq, outcome in self.outcomes.items() if seq > first_seq}
            self._passed_over = {each for each in self._passed_over if each[0] > first_position}

    def drop_waymark(self, seq: int, position: int) -> None:
        """Forgets one whose snapshot was found wrong, unless reading begins there."""
        self.waymarks[1:] = [mark for mark in self.waymarks[1:] if mark[:2] != (seq, position)]

    # ---- listeners

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """See ``Machine.subscribe``."""
        self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)

        return unsubscribe

    def _tell(self, entry: Entry) -> None:
        outcome = self.outcomes.get(entry.seq)
        for subscriber in list(self._subscribers):
            try:
                subscriber(entry, outcome)
            except Exception:
                # The command has happened; a listener's mistake must not look like the command's.
                _log.exception("a subscriber raised at seq %d", entry.seq)


class Commands:
    """What ``history`` and ``at`` ask of a journal, read from the log."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self.log_id: bytes = replica.log.log_id

    @property
    def last_seq(self) -> int:
        """Of the last command applied here."""
        return self._replica.seq

    def read(self, after: int = 0, before: int | None = None) -> Iterator[Entry]:
        """See ``Replica.commands``."""
        return self._replica.commands(after, before)


def outcomes_until(outcomes: Mapping[int, Outcome], seq: int) -> dict[int, Outcome]:
    """Those of commands up to ``seq``, in a dict of its own."""
    return {each: outcome for each, outcome in list(outcomes.items()) if each <= seq}


def _nothing_owed(seq: int, status: Any, error: BaseException, answer: Any) -> None:
    return
