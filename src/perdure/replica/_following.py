"""The replica's side of a feed: a thread that keeps its machine in step with a primary."""

from __future__ import annotations

import dataclasses
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Mapping

from perdure.errors import (
    CorruptError,
    DivergedError,
    FencedError,
    PerdureError,
    RemoteError,
    ReplayError,
    UnreachableError,
)
from perdure.limits import FOLLOW_RETRY_S_MAX, FOLLOW_RETRY_S_MIN
from perdure.machine import Place, ReplicaMachine, fenced, load_received
from perdure.records import Entry
from perdure.replica._frames import (
    CHECK,
    DIGEST,
    END,
    ENTRIES,
    FLAG_SETTLED,
    HEARTBEAT,
    Digested,
    End,
    Frame,
    FrameReader,
    Heartbeat,
    check_hello,
    decode_entries,
    decode_message,
    mark_of,
    salt_of,
)
from perdure.replica._primary import Answer, Primary
from perdure.replica._refused import FeedRefusedError
from perdure.snapshots import FileSnapshotStore
from perdure.system import Lag, changed_methods

_log = logging.getLogger("perdure")
_REPORT_INTERVAL_S = 2.0
_HERALD_WAIT_S = 2.0


class TrimmedError(PerdureError):
    """The primary no longer has the entries that come next. Never leaves this package."""


class Following:
    """Follows until it is stopped, the replica is dropped, or something is found that no repetition mends.

    ``place``: how the replica keeps its files, also for the directory that it may be promoted into.
    """

    def __init__(self, machine: ReplicaMachine, primary: Primary, place: Place) -> None:
        self.primary = primary
        self.failure: PerdureError | None = None
        self._machine = machine
        self._place = place
        self._id = os.urandom(16).hex()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._herald: threading.Thread | None = None
        self._answer: Answer | None = None
        self._reader = FrameReader()
        self.greeted = False
        self._batch: list[Entry] = []
        self._last: Entry | None = None
        self._own: tuple[int, Callable[[], bytes]] | None = None
        self._heard: tuple[int, int, float] | None = None
        self._reported_s = 0.0

    # ---- begin and end

    def start(self) -> None:
        """Follows from now on, in a thread that keeps nothing alive."""
        self._thread = threading.Thread(
            target=_follow, args=(weakref.ref(self), self._stop), name="perdure-replica", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended. Idempotent."""
        self._stop.set()
        answer = self._answer
        if answer is not None:
            answer.cut()
        for thread in (self._thread, self._herald):
            if thread is not None and thread is not threading.current_thread():
                thread.join()

    def __del__(self) -> None:
        # The thread holds no reference to this; told to stop, it ends by itself.
        self._stop.set()

    # ---- where it stands

    @property
    def connected(self) -> Answer | None:
        """The feed that is open."""
        return self._answer

    @property
    def journaled_seq(self) -> int:
        """Of the last entry that need not be sent again."""
        return self._machine.journaled_seq

    def lag(self) -> Lag:
        """How far the replica is behind, as far as it has heard."""
        heard = self._heard
        machine = self._machine
        if heard is None:
            return Lag(None, None, False)
        seq, now_ns, heard_s = heard
        behind = max(0, seq - machine.seq)
        since_s = time.monotonic() - heard_s
        if behind:
            since_s += max(0.0, (now_ns - machine.journal.last_at_ns) / 1e9)
        return Lag(behind, since_s, self._answer is not None)

    # ---- one connection

    def connect(self) -> Answer:
        """Asks for the feed. Raises what ``Primary.feed`` raises, in the words of ``_understood``."""
        machine = self._machine
        query = {
            "after": str(machine.journaled_seq),
            "log": machine.journal.log_id.hex(),
            "term": str(machine.term),
            "replica": self._id,
        }
        last = self._last_entry()
        if last is not None:
            query["last"] = mark_of(last)
        self._reader, self.greeted, self._batch = FrameReader(), False, []
        try:
            self._answer = self.primary.feed(query)
        except FeedRefusedError as error:
            raise self._understood(error) from error
        return self._answer

    def _last_entry(self) -> Entry | None:
        seq = self._machine.journaled_seq
        if self._last is None or self._last.seq != seq:
            try:
                self._last = next(self._machine.journal.read(seq - 1, seq + 1), None) if seq else None
            except PerdureError:
                # Right behind a snapshot there is none.
                self._last = None
        return self._last

    def disconnect(self) -> None:
        """By the thread that reads."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()
        own, self._own = self._own, None
        if own is not None:
            try:
                own[1]()  # A child may be at work on it, and must not be left behind.
            except PerdureError as error:
                _log.error("no digest of the replica: %s", error)

    def _understood(self, error: FeedRefusedError) -> PerdureError:
        """What a refusal means here."""
        url = self.primary.url
        if error.reason == "trimmed":
            return TrimmedError(error.message)
        if error.reason == "fenced":
            return FencedError(
                f"the writer at {url} was replaced: {error.message}", hint="follow the new one, with the same directory"
            )
        if error.reason in ("log", "ahead", "diverged"):
            return DivergedError(
                f"this is not a replica of what is at {url}: {error.message}",
                path=self._machine.path,
                seq=error.seq,
                hint="was the primary brought back from a backup? set the replica's directory aside and follow again",
            )
        return UnreachableError(f"{url} gives no feed: {error.message}")

    # ---- what comes

    def take(self, data: bytes) -> None:
        """Deals with a part of the stream.

        Raises:
            CorruptError, UnreachableError: connect again. TrimmedError: begin again.
            DivergedError, ReplayError, FencedError, FormatVersionError, WriteError …: there is no going on.
        """
        for frame in self._reader.feed(data):
            if not self.greeted:
                self._greet(frame)
            elif frame.kind == ENTRIES:
                self._take_entries(frame)
            elif frame.kind == HEARTBEAT:
                beat: Heartbeat = decode_message(frame, Heartbeat)
                self._heard = beat.seq, beat.now_ns, time.monotonic()
                self._report()
            elif frame.kind == CHECK:
                self._begin_digest(decode_message(frame, int))
            elif frame.kind == DIGEST:
                self._compare(decode_message(frame, Digested))
            elif frame.kind == END:
                end: End = decode_message(frame, End)
                if end.reason == "trimmed":
                    raise TrimmedError(end.message)
                raise UnreachableError(f"{self.primary.url} ended the feed: {end.message}")

    def _greet(self, frame: Frame) -> None:
        hello = check_hello(frame)
        machine, url = self._machine, self.primary.url
        if hello.log_id != machine.journal.log_id:
            raise DivergedError(f"what is at {url} is another system: its journal has another id", path=machine.path)
        if hello.term < machine.term:
            raise FencedError(
                fenced(None, machine.term, hello.term).message, hint="follow the new one, with the same directory"
            )
        machine.state.check(hello.description, url)
        changed = changed_methods(hello.description.get("methods", {}), machine.state.description.get("methods", {}))
        if changed:
            raise ReplayError(
                f"the primary at {url} runs another version of the class: {', '.join(changed)}",
                hint="run the same code on both, and follow again with the same directory",
            )
        self.greeted = True
        self._heard = hello.seq, time.time_ns(), time.monotonic()

    def _take_entries(self, frame: Frame) -> None:
        batch = self._batch
        after = batch[-1].seq if batch else self._machine.journaled_seq
        batch += decode_entries(frame.body, after, salt_of(self._machine.journal.log_id))
        if frame.flags & FLAG_SETTLED and batch:
            self._batch = []
            self._machine.copy(batch)
            self._last = batch[-1]

    def _begin_digest(self, seq: int) -> None:
        if self._machine.seq == seq and self._own is None:
            self._own = self._machine.begin_digest()

    def _compare(self, digested: Digested) -> None:
        if self._own is None or self._own[0] != digested.seq:
            return
        (seq, digest), self._own = self._own, None
        if digest() != digested.digest:
            raise DivergedError(
                "the state here is not the primary's",
                path=self._machine.path,
                seq=seq,
                hint="a method does something else in another process: perdure verify on the primary's directory tells "
                "which; then set the replica's directory aside and follow again",
            )

    def _report(self) -> None:
        now = time.monotonic()
        if now - self._reported_s < _REPORT_INTERVAL_S:
            return
        self._reported_s = now
        machine = self._machine
        told = {"replica": self._id, "seq": str(machine.seq), "durable_seq": str(machine.durable_seq)}
        try:
            self.primary.tell("/replica", told)
        except (RemoteError, FeedRefusedError) as error:
            _log.debug("the primary was not told: %s", error)

    def begin_again(self) -> None:
        """From a newer snapshot. Raises what ``load_received`` and ``ReplicaMachine.rebase`` raise."""
        machine = self._machine
        store = machine.snapshots if isinstance(machine.snapshots, FileSnapshotStore) else None
        draft, header, value = load_received(machine.state, self._place, store, self.primary.snapshot())
        if header.log_id != machine.journal.log_id or header.seq <= machine.seq:
            if draft is not None and store is not None:
                store.discard(draft)
            raise DivergedError(
                f"the snapshot at {self.primary.url} does not continue what is here", path=machine.path, seq=header.seq
            )
        machine.rebase(draft, header, value, self._place)
        self._last = None

    def fail(self, error: PerdureError) -> None:
        """There is no going on: queries raise ``error`` from now on."""
        _log.error("%s", error)
        self.failure = error
        self._machine.stop(error)

    # ---- becoming a writer

    def promote(self, where: str | None) -> str | None:
        """See ``Control.promote``; returns the directory."""
        machine = self._machine
        if self.failure is not None:
            raise self.failure
        self.stop()
        place = None if where is None else dataclasses.replace(self._place, directory=os.path.abspath(where))
        try:
            term = machine.promote(place)
        except BaseException:
            if not machine.promoted:
                self._stop = threading.Event()
                self.start()
            raise
        self._stop = threading.Event()
        message = {"term": str(term), "log": machine.journal.log_id.hex()}
        tried = threading.Event()
        self._herald = threading.Thread(
            target=_tell_of_term, args=(self.primary, message, self._stop, tried), name="perdure-herald", daemon=True
        )
        self._herald.start()
        # A writer that is there is told before the first command here; one that is not must not keep it waiting.
        tried.wait(_HERALD_WAIT_S)
        return machine.path


_COME_AGAIN = (UnreachableError, CorruptError, RemoteError)


def _follow(reference: weakref.ref[Following], stop: threading.Event) -> None:
    """The thread. Between two parts of the stream it holds no reference to what it works for."""
    delay_s = FOLLOW_RETRY_S_MIN
    while not stop.is_set():
        following = reference()
        if following is None:
            return
        before_seq = following.journaled_seq
        try:
            answer = following.connected or following.connect()
            del following
            _read(reference, answer, stop)
        except TrimmedError as error:
            _log.warning("the replica begins again from a snapshot: %s", error.message)
            try:
                following = reference()
                if following is not None:
                    following.begin_again()
            except _COME_AGAIN as again:
                _log.warning("%s", again)
            except PerdureError as fatal:
                _fail(reference, fatal)
                return
        except _COME_AGAIN as again:
            _log.info("the replica connects again: %s", again)
        except PerdureError as fatal:
            if not stop.is_set():
                _fail(reference, fatal)
            return
        except BaseException as error:  # Nobody sees a thread end; queries must not go on as if it had not.
            _fail(reference, ReplayError(f"following ended: {error!r}"))
            raise
        finally:
            following = reference()
            if following is not None:
                following.disconnect()
                if following.journaled_seq > before_seq:
                    delay_s = FOLLOW_RETRY_S_MIN
            following = None
        # Not all at once: a primary that comes back must not be met by all of its replicas in the same moment.
        stop.wait(delay_s * random.uniform(0.5, 1.0))
        delay_s = min(2 * delay_s, FOLLOW_RETRY_S_MAX)


def _fail(reference: weakref.ref[Following], error: PerdureError) -> None:
    following = reference()
    if following is not None:
        following.fail(error)


def _read(reference: weakref.ref[Following], answer: Answer, stop: threading.Event) -> None:
    while not stop.is_set():
        data = answer.read()
        if not data:
            raise UnreachableError("the primary closed the connection")
        following = reference()
        if following is None:
            answer.close()
            return
        following.take(data)
        del following


def _tell_of_term(primary: Primary, message: Mapping[str, str], stop: threading.Event, tried: threading.Event) -> None:
    """Tells the writer that was replaced, once it can be reached: should it come back, it must not go on."""
    delay_s = FOLLOW_RETRY_S_MIN
    while not stop.is_set():
        try:
            primary.tell("/fence", message)
            return
        except FeedRefusedError as error:
            _log.warning("the old writer at %s is not fenced: %s", primary.url, error.message)
            return
        except RemoteError as error:
            _log.info("the old writer is not fenced yet: %s", error)
        finally:
            tried.set()
        stop.wait(delay_s)
        delay_s = min(2 * delay_s, FOLLOW_RETRY_S_MAX)
