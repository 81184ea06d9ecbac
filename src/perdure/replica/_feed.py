"""One replica's feed, as its primary makes it: entries as they settle, and word of how things stand."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from perdure.errors import MissingError, PerdureError
from perdure.journal import DirectoryFollower
from perdure.limits import FEED_CHUNK_BYTES, FOLLOW_POLL_MS
from perdure.machine import Machine
from perdure.records import Entry
from perdure.replica._frames import (
    CHECK,
    DIGEST,
    END,
    HEARTBEAT,
    HELLO,
    VERSION,
    Digested,
    End,
    Heartbeat,
    Hello,
    encode_entries,
    encode_message,
    salt_of,
)

_log = logging.getLogger("perdure")
CONTENT_TYPE = "application/vnd.perdure.feed"


class Feed:
    """Goes through a primary's journal behind a seq, without end. One thread or one task at a time goes through it.

    It reads the journal's files, so a slow replica costs its primary no memory.
    """

    def __init__(
        self,
        machine: Machine,
        follower: DirectoryFollower,
        *,
        checks: Mapping[int, bytes | None],
        heartbeat_s: float,
        closed: Callable[[Feed], None],
    ) -> None:
        """``checks``: seqs at which the state is digested, and the digests once they are known."""
        self.sent_seq: int = follower.after
        self._machine = machine
        self._follower = follower
        self._log_id = machine.journal.log_id
        self._salt = salt_of(self._log_id)
        self._checks = checks
        self._checked_seq = follower.after - 1
        self._undigested: list[int] = []
        self._heartbeat_s = heartbeat_s
        self._when_closed = closed
        self._stop = threading.Event()

    @property
    def headers(self) -> dict[str, str]:
        return {
            "content-type": CONTENT_TYPE,
            "cache-control": "no-store",
            "perdure-log": self._log_id.hex(),
            "perdure-term": str(self._machine.term),
        }

    def close(self) -> None:
        """Ends it, from any thread: whoever goes through it gets what is left to say. Idempotent."""
        if not self._stop.is_set():
            self._stop.set()
            self._when_closed(self)

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._frames()
        except MissingError as error:
            yield encode_message(END, End("trimmed", error.message))
        except (PerdureError, OSError) as error:
            _log.error("a feed ends: %s", error)
            yield encode_message(END, End("closed", str(error)))
        finally:
            self.close()

    async def stream(self) -> AsyncIterator[bytes]:
        """The same for an event loop; a thread of its own reads the files and ends with it."""
        loop = asyncio.get_running_loop()
        frames = iter(self)
        with_thread = ThreadPoolExecutor(1, "perdure-feed")
        try:
            while (chunk := await loop.run_in_executor(with_thread, next, frames, b"")) != b"":
                yield chunk
        finally:
            self.close()
            with_thread.shutdown(wait=False)

    def _frames(self) -> Iterator[bytes]:
        machine = self._machine
        settled_seq = machine.settled_seq
        yield encode_message(
            HELLO, Hello(VERSION, self._log_id, machine.term, settled_seq, dict(machine.state.description))
        )
        spoken = 0.0
        while not self._stop.is_set() and not machine.closed:
            settled_seq = machine.settled_seq
            data = b""
            if settled_seq > self.sent_seq:
                data = self._entries(self._follower.poll(until=settled_seq, bytes_max=FEED_CHUNK_BYTES))
            else:
                data = self._entries([])
            data += self._digests()
            now = time.monotonic()
            if now - spoken >= self._heartbeat_s:
                spoken = now
                data += encode_message(HEARTBEAT, Heartbeat(settled_seq, time.time_ns()))
            if data:
                yield data
            if settled_seq <= self.sent_seq:
                self._stop.wait(FOLLOW_POLL_MS / 1000)
        yield encode_message(END, End("closed", "the primary ends the feed"))

    def _entries(self, entries: list[Entry]) -> bytes:
        """Frames of entries that have settled, with a request for a digest behind each entry that has one.

        The checks are looked at after the entries were read: one that is asked for now lies behind them all.
        """
        data = b""
        for seq in sorted(seq for seq in list(self._checks) if seq > self._checked_seq):
            if seq > (entries[-1].seq if entries else self.sent_seq):
                break
            self._checked_seq = seq
            if seq >= self.sent_seq:
                count = seq - self.sent_seq
                data += self._send(entries[:count])
                entries = entries[count:]
                data += encode_message(CHECK, seq)
                self._undigested.append(seq)
        return data + self._send(entries)

    def _send(self, entries: list[Entry]) -> bytes:
        if not entries:
            return b""
        self.sent_seq = entries[-1].seq
        return encode_entries(entries, self._salt, settled=True)

    def _digests(self) -> bytes:
        data = b""
        for seq in list(self._undigested):
            digest = self._checks.get(seq)
            if digest is not None or seq not in self._checks:
                self._undigested.remove(seq)
            if digest is not None:
                data += encode_message(DIGEST, Digested(seq, digest))
        return data
