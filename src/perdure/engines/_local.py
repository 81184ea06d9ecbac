"""A journal as a log, and a directory as blobs: one machine, no server."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote

from perdure.engines._protocol import ID_BYTES, Bounds, ConflictError, Level, LogCapabilities, LogEntry
from perdure.errors import ClosedError, MissingError, RecordTooLargeError, UsageError
from perdure.fs import Fs, is_own_temporary
from perdure.journal import Draft, Journal
from perdure.limits import SNAPSHOT_BLOCK_BYTES
from perdure.records import GROUP

_POLL_S = 0.02


class MemoryBlobs:
    """Blobs in a dict."""

    bytes_max = 1 << 30

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}

    def put(self, key: str, chunks: Iterable[bytes]) -> None:
        """See ``Blobs.put``."""
        self._held[key] = b"".join(chunks)

    def get(self, key: str) -> Iterator[bytes]:
        """See ``Blobs.get``."""
        try:
            yield self._held[key]
        except KeyError:
            raise MissingError("there is no such blob", path=key) from None

    def keys(self, prefix: str) -> list[str]:
        """See ``Blobs.keys``."""
        return sorted(key for key in list(self._held) if key.startswith(prefix))

    def delete(self, key: str) -> None:
        """See ``Blobs.delete``."""
        self._held.pop(key, None)

    def close(self) -> None:
        """See ``Blobs.close``."""


class DirectoryBlobs:
    """Blobs as files of one directory, which may be one that several machines share."""

    bytes_max = 1 << 40

    def __init__(self, directory: str, *, fs: Fs | None = None) -> None:
        self._fs = fs or Fs()
        self._directory = os.path.abspath(directory)
        self._fs.make_directory(self._directory)

    def _path(self, key: str) -> str:
        return os.path.join(self._directory, quote(key, safe=""))

    def put(self, key: str, chunks: Iterable[bytes]) -> None:
        """See ``Blobs.put``."""
        self._fs.write_atomically(self._path(key), chunks)

    def get(self, key: str) -> Iterator[bytes]:
        """See ``Blobs.get``."""
        try:
            fd = self._fs.open_for_reading(self._path(key))
        except FileNotFoundError:
            raise MissingError("there is no such blob", path=self._path(key)) from None
        try:
            offset = 0
            while part := self._fs.read_range(fd, offset, SNAPSHOT_BLOCK_BYTES):
                yield part
                offset += len(part)
        finally:
            self._fs.close(fd)

    def keys(self, prefix: str) -> list[str]:
        """See ``Blobs.keys``."""
        names = [unquote(name) for name in self._fs.names(self._directory) if not is_own_temporary(name)]
        return sorted(name for name in names if name.startswith(prefix))

    def delete(self, key: str) -> None:
        """See ``Blobs.delete``."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.unlink(self._path(key))

    def close(self) -> None:
        """See ``Blobs.close``."""


class JournalLog:
    """A ``Log`` on a local journal. Any thread may call; all writers are of this process."""

    def __init__(self, journal: Journal, blobs: MemoryBlobs | DirectoryBlobs, *, url: str = "memory") -> None:
        level: Level = "memory" if "memory" in journal.capabilities.durability else "fsync"
        self._journal = journal
        self._changed = threading.Condition()
        self._first = 1
        self._closed = False
        self.url = url
        self.blobs = blobs
        self.log_id: bytes = journal.log_id
        self.capabilities: LogCapabilities = LogCapabilities(
            min(journal.capabilities.entry_bytes_max - ID_BYTES, 1 << 26),
            journal.capabilities.durability,
            level,
            "local",
        )

    def append(self, data: bytes, id: bytes, *, expected: int | None = None) -> int:
        """See ``Log.append``."""
        if len(data) > self.capabilities.entry_bytes_max:
            raise RecordTooLargeError(f"an entry of {len(data)} bytes; at most {self.capabilities.entry_bytes_max}")
        draft = Draft(GROUP, id + data)
        with self._changed:
            self._check_open()
            try:
                self._journal.append([draft], expected=expected)
            except ClosedError:
                raise
            except UsageError as error:
                raise ConflictError(
                    f"the log is at {self._journal.last_seq}, not at {expected}", seq=self._journal.last_seq
                ) from error
            self._journal.sync()
            self._changed.notify_all()
        return draft.seq

    def confirm(self, position: int) -> None:
        """See ``Log.confirm``: whatever is here was synced."""

    def read(self, after: int, count_max: int) -> list[LogEntry]:
        """See ``Log.read``."""
        self._check_open()
        last = min(self._journal.last_seq, after + count_max)
        if last <= after:
            return []
        if after + 1 < self._first:
            raise MissingError(f"entries before {self._first} were trimmed", seq=after + 1)
        found = self._journal.read(after, last + 1)
        return [LogEntry(entry.seq, entry.payload[:ID_BYTES], entry.payload[ID_BYTES:]) for entry in found]

    def follow(self, after: int, *, idle_s: float) -> Iterator[list[LogEntry]]:
        """See ``Log.follow``."""
        while True:
            found = self.read(after, 1000)
            if not found:
                until = time.monotonic() + idle_s
                with self._changed:
                    while self._journal.last_seq <= after and time.monotonic() < until and not self._closed:
                        # Another log may stand on the same journal.
                        self._changed.wait(_POLL_S)
                found = self.read(after, 1000)
            yield found
            if found:
                after = found[-1].position

    def bounds(self) -> Bounds:
        """See ``Log.bounds``."""
        self._check_open()
        return Bounds(self._first, self._journal.last_seq)

    def trim(self, before: int) -> None:
        """See ``Log.trim``."""
        with self._changed:
            self._first = max(self._first, min(before, self._journal.last_seq + 1))
            self._journal.trim(self._first)

    def check(self) -> None:
        """See ``Log.check``."""
        self._check_open()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the log is closed", path=self.url)

    def close(self) -> None:
        """See ``Log.close``."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._journal.close()
