"""Snapshots of a cluster, and the nodes' look at each other.

Taking one: a *mark* is appended; every node digests its state exactly there, and the one that asked writes a snapshot,
proves that it loads, stores it for all, reads it back, and announces it with its digest. So every announcement is a
check: a node whose digest at the mark is another one says so with a *vote*, and those who agree with the announcement
vote, too. The node that finds more votes for another digest than for its own stops (``DivergedError``); where only two
disagree, the one that did not take the snapshot stops after ``_TIE_S`` seconds. A snapshot that the majority is against
is forgotten by all.

The log is trimmed below the second newest announced snapshot, when the next one is announced: by then the votes on the
older ones are in.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

from perdure.cluster._entries import (
    MARK,
    VOTE,
    Announcement,
    Head,
    Mark,
    Vote,
    decode_body,
    encode_body,
)
from perdure.cluster._snapshots import Place
from perdure.cluster._waiting import Batch, Waiting
from perdure.engines import LogEntry
from perdure.errors import DivergedError, PerdureError, StorageError
from perdure.limits import SNAPSHOT_INLINE_BYTES_MAX, SNAPSHOT_JOURNAL_BYTES_MIN, SNAPSHOTS_KEPT
from perdure.machine import BoundedWriter, Child, TooLargeError, can_fork, collector_off, fork_writer
from perdure.records import SNAPSHOT
from perdure.snapshots import Snapshot, SnapshotHeader, Writer

if TYPE_CHECKING:
    from perdure.cluster._node import Node

_log = logging.getLogger("perdure")
_LOOK_S = 0.5
_TIE_S = 5.0
_OWN_TURN_S = 60.0  # A mark whose snapshot is not announced within this time keeps nobody from taking another.


class _Election:
    """Votes on the state at one mark. ``digest``: this node's, or the child that computes it."""

    def __init__(self, seq: int, digest: bytes | Child) -> None:
        self.seq = seq
        self.digest = digest
        self.announced: Announcement | None = None
        self.votes: dict[bytes, bytes] = {}
        self.voted = False
        self.tie_since: float | None = None

    def settle(self) -> bytes:
        """This node's digest, once it is there."""
        if isinstance(self.digest, Child):
            self.digest = bytes.fromhex(self.digest.wait())
        return self.digest


class Keeper:
    """Takes snapshots when they are due, and compares digests, in a thread of its own."""

    def __init__(self, node: Node, *, snapshot: str | float, keep_history: bool) -> None:
        self._node = node
        self._automatic = snapshot == "auto"
        self._interval_s = None if isinstance(snapshot, str) else float(snapshot)
        self._keep_history = keep_history
        self._turn = threading.Lock()
        self._taken: dict[bytes, tuple[SnapshotHeader, str | Child]] = {}
        self._elections: dict[bytes, _Election] = {}
        self._news: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._bytes = 0
        self._size_bytes = 0
        self._last_mark_s = 0.0
        self._last_s = time.monotonic()
        self._last_seq = 0

    def start(self) -> None:
        """From here on marks are digested: before, this node was only catching up."""
        self._last_seq = self._node.seq
        self._thread = threading.Thread(target=self._run, name="perdure-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when the thread has ended."""
        self._news.put(None)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(10)
        for election in self._elections.values():
            if isinstance(election.digest, Child):
                with contextlib.suppress(PerdureError):
                    election.digest.wait()

    def set_interval(self, seconds: float | None) -> None:
        """One each so many seconds in which something changed; ``None``: no longer."""
        self._interval_s = seconds

    # ---- taking one

    def snapshot(self) -> Snapshot:
        """Takes one and announces it. Blocks its caller; stalls nobody else where the platform forks.

        Raises:
            CodecError: the state holds something that cannot be stored.
            StorageError, WriteError: the disk, the child process or the place for snapshots refused; or it is too large
                for the engine.
            and what ``Node.handle`` raises. All goes on as before.
        """
        node = self._node
        with self._turn:
            mark = os.urandom(16)
            node.submit(Waiting(MARK, encode_body(Mark(mark, node.session))))
            header, draft = self._taken.pop(mark)
            if isinstance(draft, Child):
                draft = draft.wait()
            local = node.snapshots.publish(draft, header)
            digest = node.snapshots.load(local, lambda _: None)[1]
            name = node.snapshots.upload(local, digest)
            self._size_bytes = local.size_bytes
            # Of the one that is there: an earlier one of the same state stays.
            position = Place.found_in(node.snapshots.fetched(name).header, name).position
            body = Announcement(mark, node.session, header.seq, position, digest, name, local.size_bytes)
            node.submit(Waiting(SNAPSHOT, encode_body(body)))
            self._forget_old()
            return Snapshot(header, name, local.size_bytes)

    def _forget_old(self) -> None:
        """What the second newest snapshot makes superfluous."""
        node = self._node
        if self._keep_history or len(node.waymarks) < SNAPSHOTS_KEPT:
            return
        seq = node.waymarks[-SNAPSHOTS_KEPT][0]
        # Of one seq there is one snapshot, from whichever of its marks.
        position = min(position for each, position, _ in node.waymarks if each == seq)
        try:
            if not node.snapshots.has(seq):
                return  # It was found wrong, or somebody took it away.
            node.log.trim(position + 1)
            node.snapshots.prune_before(seq)
            node.snapshots.prune(SNAPSHOTS_KEPT)
        except PerdureError as error:
            _log.warning("%s: trimming is left for the next time: %s", node.path, error.message)

    # ---- what is met in the log, by the thread that applies and holds the order lock

    def meet(self, entry: LogEntry, head: Head, batch: Batch | None) -> None:
        """An entry that is no command."""
        if head.kind == MARK:
            self._meet_mark(entry, decode_body(entry.data, Mark, entry.position), batch)
        elif head.kind == SNAPSHOT:
            self._meet_announcement(decode_body(entry.data, Announcement, entry.position))
        elif head.kind == VOTE:
            vote = decode_body(entry.data, Vote, entry.position)
            election = self._elections.get(vote.mark)
            if election is not None:
                election.votes[vote.node] = vote.digest
                self._news.put(vote.mark)

    def _meet_mark(self, entry: LogEntry, mark: Mark, batch: Batch | None) -> None:
        self._last_mark_s = time.monotonic()
        self._bytes = 0
        if self._thread is None or mark.mark in self._taken or mark.mark in self._elections:
            return  # Only catching up; or its writer had no answer and appended it again.
        node = self._node
        try:
            with node.state_lock:
                if mark.node == node.session and batch is not None:
                    place = node.place()._replace(position=entry.position, id=entry.id)
                    header = SnapshotHeader(
                        node.seq,
                        node.last_at_ns,
                        node.log.log_id,
                        place.described(node.state.description),
                        node.receipts.dump(),
                    )
                    self._taken[mark.mark] = (header, self._written(header))
                else:
                    self._elections[mark.mark] = _Election(node.seq, self._digested())
        except PerdureError as error:
            # The state is what it was; only nobody gets a snapshot or a digest of it here.
            if batch is not None and batch.waiting:
                batch.waiting[0].error = error
            else:
                _log.warning("%s: no digest could be made: %s", node.path, error)

    def _written(self, header: SnapshotHeader) -> str | Child:
        """A draft, or the child that writes it."""
        if not can_fork():
            return self._draft(header, None)
        if self._size_bytes <= SNAPSHOT_INLINE_BYTES_MAX:
            try:
                return self._draft(header, SNAPSHOT_INLINE_BYTES_MAX)
            except TooLargeError:
                pass
        return fork_writer(lambda: self._draft(header, None))

    def _draft(self, header: SnapshotHeader, bytes_max: int | None) -> str:
        state = self._node.state

        def dump(file: Writer) -> None:
            state.dump(file if bytes_max is None else BoundedWriter(file, bytes_max))

        with collector_off():
            return self._node.snapshots.write(header, dump, state.digest, lambda file: state.digest(state.read(file)))

    def _digested(self) -> bytes | Child:
        state = self._node.state
        if self._size_bytes <= SNAPSHOT_INLINE_BYTES_MAX or not can_fork():
            return state.digest()
        return fork_writer(lambda: state.digest().hex())

    def _meet_announcement(self, announced: Announcement) -> None:
        node = self._node
        self._size_bytes = announced.size_bytes
        self._last_mark_s = 0.0
        if announced.position <= node.position and announced.seq <= node.seq:
            at_ns = node.last_at_ns
            node.add_waymark(announced.seq, announced.position, at_ns, keep=0 if self._keep_history else SNAPSHOTS_KEPT)
        election = self._elections.get(announced.mark)
        if election is None and announced.node == node.session:
            election = self._elections[announced.mark] = _Election(announced.seq, announced.digest)
        if election is not None:
            election.announced = announced
            election.votes[announced.node] = announced.digest
            election.voted = election.voted or announced.node == node.session
            self._news.put(announced.mark)

    # ---- the thread

    def _run(self) -> None:
        node = self._node
        while node.failure is None and not node.closed:
            try:
                news: bytes | None = self._news.get(timeout=_LOOK_S)
                if news is None:
                    return
            except queue.Empty:
                news = b""
            try:
                if news:
                    self._judge(news)
                else:
                    self._look()
            except PerdureError as error:
                # Whoever calls a command is told by the node itself; here there is nobody to tell.
                if not node.closed:
                    _log.warning("%s: %s", node.path, error)

    def _look(self) -> None:
        for mark, election in list(self._elections.items()):
            if election.tie_since is not None:
                self._judge(mark)
        if not self._is_due():
            return
        # Not all nodes at once: whose mark comes first sets the others' counts back.
        time.sleep(random.random() * _LOOK_S)
        if self._is_due():
            self._last_s = time.monotonic()
            self._last_seq = self._node.seq
            self.snapshot()

    def _is_due(self) -> bool:
        now = time.monotonic()
        if self._last_mark_s and now - self._last_mark_s < _OWN_TURN_S:
            return False
        if self._interval_s is not None and now - self._last_s >= self._interval_s:
            return self._node.seq > self._last_seq
        return self._automatic and self._bytes >= max(SNAPSHOT_JOURNAL_BYTES_MIN, self._size_bytes)

    def count(self, size_bytes: int) -> None:
        """So much was applied."""
        self._bytes += size_bytes

    # ---- the votes

    def _judge(self, mark: bytes) -> None:
        """Looks at the votes on a mark, and adds this node's where they differ."""
        election = self._elections.get(mark)
        if election is None or election.announced is None:
            return
        own = election.settle()
        node, announced = self._node, election.announced
        counts = Counter(election.votes.values())
        if set(counts) == {own}:
            self._drop_elections_before(election.seq)
            return
        if not election.voted:
            election.voted = True
            vote = Vote(mark, node.session, election.seq, own)
            node.submit(Waiting(VOTE, encode_body(vote)))
            counts = Counter(election.votes.values())
        others, most = max(
            ((digest, count) for digest, count in counts.items() if digest != own), key=lambda each: each[1]
        )
        if most > counts[own]:
            stop_diverged(node, election.seq, own, others, f"{most} nodes have another state, {counts[own]} this one")
        elif most < counts[own]:
            if announced.digest != own:
                node.snapshots.refuse(announced.snapshot)
                node.drop_waymark(announced.seq, announced.position)
            election.tie_since = None
        elif election.tie_since is None:
            election.tie_since = time.monotonic()
        elif time.monotonic() - election.tie_since > _TIE_S and announced.node != node.session:
            stop_diverged(node, election.seq, own, others, "the node that took a snapshot has another state")

    def _drop_elections_before(self, seq: int) -> None:
        for mark in [mark for mark, election in self._elections.items() if election.seq < seq]:
            election = self._elections.pop(mark)
            if isinstance(election.digest, Child):
                with contextlib.suppress(StorageError):
                    election.digest.wait()


def stop_diverged(node: Node, seq: int, own: bytes, other: bytes, why: str) -> None:
    """Stops a node whose state is another one than the others'."""
    node.fail(
        DivergedError(
            f"{why}: digest {own.hex()[:16]}… here, {other.hex()[:16]}… there",
            seq=seq,
            hint="do all nodes run the same code, and does nothing change the state outside of commands? "
            "open it again: it is then rebuilt from snapshot and log",
        )
    )
