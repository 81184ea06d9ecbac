"""What a primary gives its replicas: snapshots, feeds, digests to compare with; and what it learns from them."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from perdure.errors import MissingError, PerdureError, StorageError, UsageError
from perdure.journal import FileJournal
from perdure.limits import FEED_DIGEST_INTERVAL_S, FEED_HEARTBEAT_S, FEEDS_MAX
from perdure.machine import Machine, fenced
from perdure.replica._feed import Feed
from perdure.replica._frames import mark_of
from perdure.replica._refused import FeedRefusedError
from perdure.snapshots import FileSnapshotStore, SnapshotBytes, send

_log = logging.getLogger("perdure")
_CHECKS_KEPT = 8
_PATTERNS = {
    "after": r"\d{1,19}",
    "seq": r"\d{1,19}",
    "durable_seq": r"\d{1,19}",
    "term": r"\d{1,9}",
    "log": r"[0-9a-f]{32}",
    "last": r"[0-9a-f]{16}",
    "replica": r"[0-9a-f]{32}",
}


class ReplicaInfo(NamedTuple):
    """A replica that is connected.

    ``id``: of its own choosing. ``peer``: where it calls from. ``sent_seq``: of the last entry on its way to it.
    ``seq``, ``durable_seq``: as it said last, or ``None``. ``lag_entries``: how many it has not applied, as far as is
    known.
    """

    id: str
    peer: str
    connected_s: float
    sent_seq: int
    seq: int | None
    durable_seq: int | None
    lag_entries: int


class _Connection:
    def __init__(self, id: str, peer: str) -> None:
        self.id = id
        self.peer = peer
        self.since = time.monotonic()
        self.seq: int | None = None
        self.durable_seq: int | None = None


class PublishedSnapshot:
    """The newest snapshot, as it is stored. To be closed."""

    def __init__(self, content: SnapshotBytes, term: int) -> None:
        self._content = content
        header = content.header
        self.headers: dict[str, str] = {
            "content-type": "application/vnd.perdure.snapshot",
            "content-length": str(content.size_bytes),
            "perdure-log": header.log_id.hex(),
            "perdure-seq": str(header.seq),
            "perdure-digest": content.digest.hex(),
            "perdure-term": str(term),
        }

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._content)

    def close(self) -> None:
        """Idempotent."""
        self._content.close()

    def __enter__(self) -> PublishedSnapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Publisher:
    """Serves the replicas of one machine. Any thread may call; what the methods take is a request's query.

    One thread of its own asks for digests while somebody follows.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        digest_interval_s: float = FEED_DIGEST_INTERVAL_S,
        heartbeat_s: float = FEED_HEARTBEAT_S,
    ) -> None:
        """Raises ``UsageError`` where the machine keeps no files that could be given away."""
        if not isinstance(machine.journal, FileJournal) or not isinstance(machine.snapshots, FileSnapshotStore):
            raise UsageError("only a system in a directory can be followed", path=machine.path)
        self._machine = machine
        self._digest_interval_s = digest_interval_s
        self._heartbeat_s = heartbeat_s
        self._lock = threading.Lock()
        self._feeds: dict[Feed, _Connection] = {}
        self._checks: dict[int, bytes | None] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    # ---- what replicas ask for

    def snapshot(self) -> PublishedSnapshot:
        """Raises ``FeedRefusedError``, and ``CorruptError`` where the newest one is damaged."""
        store = self._machine.snapshots
        assert isinstance(store, FileSnapshotStore)
        for _ in range(3):
            newest = self._machine.newest_snapshot
            if newest is None:
                break
            try:
                return PublishedSnapshot(send(store, newest), self._machine.term)
            except StorageError:
                # Pruned since; then there is a newer one.
                if newest is self._machine.newest_snapshot:
                    raise
        raise FeedRefusedError("no-snapshot", "there is no snapshot yet")

    def feed(self, query: Mapping[str, str], *, peer: str = "", may_fence: bool = False) -> Feed:
        """Everything behind the entry ``after``. ``may_fence``: whether the caller may say that it has a newer writer.

        ``query``: ``after``, and where they are known ``last`` (``mark_of`` that entry), ``log``, ``term``,
        ``replica``.

        Raises:
            FeedRefusedError: it cannot be followed from there.
        """
        asked = _parsed(query)
        machine = self._machine
        after = int(asked.get("after", "0"))
        if self._stop.is_set() or machine.closed:
            raise FeedRefusedError("closed", "the primary is closing")
        self._check_log(asked)
        self._check_term(asked, may_fence)
        if after > machine.settled_seq:
            raise FeedRefusedError("ahead", f"the journal here ends before entry {after}", seq=machine.seq)
        journal = machine.journal
        assert isinstance(journal, FileJournal)
        try:
            if after and "last" in asked:
                entry = next(journal.read(after - 1, after + 1), None)
                if entry is None or mark_of(entry) != asked["last"]:
                    raise FeedRefusedError("diverged", f"entry {after} is another one here", seq=after)
            follower = journal.follow(after)
        except MissingError as error:
            raise FeedRefusedError("trimmed", f"the entries behind {after} are not kept any more", seq=after) from error
        feed = Feed(machine, follower, checks=self._checks, heartbeat_s=self._heartbeat_s, closed=self._forget)
        id = asked.get("replica", "")
        with self._lock:
            # One that connects again has lost its old connection, whatever the system still thinks of that.
            replaced = [other for other, connection in self._feeds.items() if id and connection.id == id]
            if len(self._feeds) - len(replaced) >= FEEDS_MAX:
                raise FeedRefusedError("too-many", f"{FEEDS_MAX} replicas follow already")
            self._feeds[feed] = _Connection(id, peer)
            self._begin_digesting()
        for other in replaced:
            other.close()
        return feed

    def report(self, query: Mapping[str, str]) -> None:
        """Notes what a connected replica says of itself: ``replica``, ``seq``, ``durable_seq``.

        Raises ``FeedRefusedError`` where that is malformed.
        """
        asked = _parsed(query)
        with self._lock:
            for connection in self._feeds.values():
                if connection.id and connection.id == asked.get("replica"):
                    connection.seq = int(asked["seq"]) if "seq" in asked else None
                    connection.durable_seq = int(asked["durable_seq"]) if "durable_seq" in asked else None

    def fence(self, query: Mapping[str, str]) -> None:
        """Takes no further commands if the writer of ``term`` is a newer one: it says so itself.

        Raises:
            FeedRefusedError: the query is malformed, or of another log.
            WriteError: it is fenced, and that could not be written down.
        """
        asked = _parsed(query)
        if "term" not in asked or "log" not in asked:
            raise FeedRefusedError("malformed", "term and log are needed")
        self._check_log(asked)
        if int(asked["term"]) > self._machine.term:
            self._machine.fence(int(asked["term"]))

    def replicas(self) -> list[ReplicaInfo]:
        """Those that are connected, in the order in which they came."""
        now, last_seq = time.monotonic(), self._machine.seq
        with self._lock:
            return [
                ReplicaInfo(
                    connection.id,
                    connection.peer,
                    now - connection.since,
                    feed.sent_seq,
                    connection.seq,
                    connection.durable_seq,
                    max(0, last_seq - (feed.sent_seq if connection.seq is None else connection.seq)),
                )
                for feed, connection in self._feeds.items()
            ]

    def close(self) -> None:
        """Ends all feeds; each says so to its replica first. Idempotent."""
        self._stop.set()
        with self._lock:
            feeds, thread = list(self._feeds), self._thread
        for feed in feeds:
            feed.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _check_log(self, asked: Mapping[str, str]) -> None:
        if asked.get("log", self._machine.journal.log_id.hex()) != self._machine.journal.log_id.hex():
            raise FeedRefusedError("log", "this is another system: its journal has another id")

    def _check_term(self, asked: Mapping[str, str], may_fence: bool) -> None:
        machine = self._machine
        term = int(asked.get("term", "0"))
        if term > machine.term:
            if may_fence:
                machine.fence(term)
            raise FeedRefusedError("fenced", fenced(None, term, machine.term).message)

    def _forget(self, feed: Feed) -> None:
        with self._lock:
            self._feeds.pop(feed, None)

    # ---- digests

    def _begin_digesting(self) -> None:
        if self._thread is None and self._digest_interval_s > 0:
            self._thread = threading.Thread(target=self._digest_at_intervals, name="perdure-digests", daemon=True)
            self._thread.start()

    def _digest_at_intervals(self) -> None:
        seen_seq = -1
        while not self._stop.wait(self._digest_interval_s):
            seq = self._machine.seq
            if seq == seen_seq or not self._feeds or self._machine.closed:
                continue
            seen_seq = seq
            try:
                seq, digest = self._machine.begin_digest(self._announce)
                self._checks[seq] = digest()
            except PerdureError as error:
                _log.error("no digest for the replicas: %s", error)

    def _announce(self, seq: int) -> None:
        """No entry behind ``seq`` exists yet: each feed comes by here, before or behind it."""
        self._checks.setdefault(seq, None)
        for old in sorted(self._checks)[:-_CHECKS_KEPT]:
            del self._checks[old]


def _parsed(query: Mapping[str, str]) -> dict[str, str]:
    """The parts that are known, each as it must look. Raises ``FeedRefusedError``."""
    asked = {}
    for name, value in query.items():
        pattern = _PATTERNS.get(name)
        if pattern is not None:
            if re.fullmatch(pattern, value, re.ASCII) is None:
                raise FeedRefusedError("malformed", f"{name} is not what it must be")
            asked[name] = value
    return asked
