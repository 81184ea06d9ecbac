"""The journal under a ``LogStash``: changes with the places of their values."""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from perdure import records
from perdure.errors import CodecError, CorruptError, StorageError, WriteError
from perdure.fs import DirectoryLock, Fs
from perdure.journal import (
    BINARY,
    Draft,
    Durability,
    FileJournal,
    Segment,
    SegmentHeader,
    damaged,
    read_records,
    segment_name,
    segment_numbers,
)
from perdure.limits import IDLE_MARK_MS, MIB, SYNC_INTERVAL_MS
from perdure.stash._log_group import Batch, GroupSync
from perdure.stash._names import as_bytes, as_text

PUT, DELETE, CLEAR, MARK = range(1, 5)
BASE_FILE = "base"
COPY_BYTES = 1 * MIB
_BASE_DIGITS_MAX = 20  # Of a number of 64 bits.
FDS_MAX = 16
_HEAD = struct.Struct("<BI")  # kind, length of the name
_LENGTH_AT = 8  # Where a record says how long its body is, and behind it its kind: docs/format/journal-v1.md.
_KIND_AT = 12


class Change(NamedTuple):
    """One entry of the log. ``kind``: PUT (name and value), DELETE (name), CLEAR, or MARK (the note, in ``name``)."""

    kind: int
    name: str = ""
    data: bytes = b""


class Place(NamedTuple):
    """Where a record is: the segment's number, the record's offset and size, the entry's seq."""

    number: int
    offset: int
    size: int
    seq: int


class LogFile:
    """Segments and a file ``base`` in a directory whose lock it holds.

    ``base`` holds the seq before which everything is outdated. A compaction copies what counts to the end and syncs
    it; then it replaces ``base``, durably; then it deletes segments. A crash in between leaves both copies, of which
    either counts.

    ``lock``: held by whoever appends or compacts; any thread may sync.
    """

    def __init__(
        self, fs: Fs, directory: str, *, lock: threading.RLock, durability: Durability, segment_bytes_max: int
    ) -> None:
        self._fs = fs
        self._directory = directory
        self._lock = lock
        self._durability = durability
        self._directory_lock = DirectoryLock(fs, directory)
        self._fds: dict[int, int] = {}
        self._keeper: threading.Thread | None = None
        self._wake = threading.Event()
        self._stop = threading.Event()
        try:
            fs.remove_temporaries(directory)
            self._after = self._read_base()
            self._journal = FileJournal(
                directory, fs=fs, after=self._after, durability=durability, segment_bytes_max=segment_bytes_max
            )
        except BaseException:
            self._directory_lock.release()
            raise
        self._group = GroupSync(self._journal.sync, lambda: self._journal.durable_seq)
        self.size_bytes = 0
        self._tail_number = 0
        self._tail_bytes = 0
        self._written_bytes = self._journal.bytes_written

    def _read_base(self) -> int:
        path = os.path.join(self._directory, BASE_FILE)
        try:
            text = self._fs.read_all(path)
        except FileNotFoundError:
            return 0
        if not text.isdigit() or len(text) > _BASE_DIGITS_MAX:
            raise CorruptError("this does not say where the log begins", path=path, hint="bring it back from a backup")
        return int(text)

    # ---- reading -----------------------------------------------------------------------------------------------------

    def changes(self) -> Iterator[tuple[Change, Place]]:
        """Once, after opening: everything that is not outdated, in order, without the values."""
        recovered, self._journal.recovered = self._journal.recovered, None
        segments = recovered.segments if recovered is not None else []
        for position, segment in enumerate(segments):
            last = position + 1 == len(segments)
            end_seq = self._journal.last_seq if last else segments[position + 1].base_seq - 1
            yield from self._changes_in(segment, end_seq)

    def _changes_in(self, segment: Segment, end_seq: int) -> Iterator[tuple[Change, Place]]:
        data = self._fs.read_all(segment.path)
        self.size_bytes += len(data)
        scanned, _ = read_records(BINARY, segment, data)
        if scanned.seq < end_seq:
            raise damaged(segment.path, scanned.end, scanned.seq + 1, scanned.problem or "the file ends too early")
        offset = segment.first_offset
        for entry in scanned.entries:
            while data[offset + _KIND_AT] >= records.MARKS:
                offset += records.HEAD_BYTES
            size = records.HEAD_BYTES + int.from_bytes(data[offset + _LENGTH_AT : offset + _LENGTH_AT + 4], "little")
            if self._after < entry.seq <= end_seq:
                change = _unpack(entry.payload, segment.path, offset)
                yield change._replace(data=b""), Place(segment.number, offset, size, entry.seq)
            offset += size

    def read(self, place: Place, name: str) -> memoryview:
        """The value of a PUT, checked.

        Raises:
            CorruptError: the record is damaged, or another one.
        """
        payload = self._payload(place)
        change_head, name_bytes = _HEAD.unpack_from(payload)
        end = _HEAD.size + name_bytes
        if change_head != PUT or payload[_HEAD.size : end] != as_bytes(name):
            raise CorruptError(
                f"the record is not that of {name!r}", path=self._path(place.number), offset=place.offset
            )
        return memoryview(payload)[end:]

    def _payload(self, place: Place) -> bytes:
        path = self._path(place.number)
        try:
            data = self._fs.read_range(self._fd(place.number), place.offset, place.size)
        except OSError as error:
            raise StorageError(f"the log cannot be read: {error.strerror}", path=path, offset=place.offset) from error
        salt = SegmentHeader(place.number, 0, 0, self._journal.log_id).salt
        scanned = records.scan(data, 0, place.seq - 1, salt=salt)
        if scanned.problem is not None or len(scanned.entries) != 1:
            raise damaged(path, place.offset, place.seq, scanned.problem or "the record is incomplete")
        return scanned.entries[0].payload

    def _fd(self, number: int) -> int:
        fd = self._fds.get(number)
        if fd is None:
            while len(self._fds) >= FDS_MAX:
                self._fs.close(self._fds.pop(next(iter(self._fds))))
            fd = self._fds[number] = self._fs.open_for_reading(self._path(number))
        return fd

    def _path(self, number: int) -> str:
        return os.path.join(self._directory, segment_name(number))

    # ---- writing -----------------------------------------------------------------------------------------------------

    def append(self, changes: Sequence[Change]) -> list[Place]:
        """Put changes at the end, all or none, and say where they are. The caller holds the lock.

        Raises:
            RecordTooLargeError, WriteError: see ``Journal.append``.
        """
        return self._append([_pack(change) for change in changes])

    def _append(self, payloads: Sequence[bytes]) -> list[Place]:
        drafts = [Draft(records.COMMAND, payload) for payload in payloads]
        self._journal.append(drafts)
        sizes = [records.HEAD_BYTES + len(payload) for payload in payloads]
        end = self._end_of_tail(sum(sizes))
        offset = end - sum(sizes)
        places = []
        for draft, size in zip(drafts, sizes, strict=True):
            places.append(Place(self._tail_number, offset, size, draft.seq))
            offset += size
        self._need_keeper()
        return places

    def _end_of_tail(self, appended_bytes: int) -> int:
        """Where the last segment ends now. The journal begins a new one between two appends, never within one."""
        written = self._journal.bytes_written
        grown_bytes = written - self._written_bytes
        self._written_bytes = written
        self.size_bytes += grown_bytes
        if grown_bytes == appended_bytes and self._tail_number:
            self._tail_bytes += grown_bytes
        else:
            self._tail_number = segment_numbers(self._fs, self._directory)[-1]
            self._tail_bytes = self._fs.stat(self._path(self._tail_number)).st_size
        return self._tail_bytes

    def join(self) -> tuple[Batch, bool]:
        """After ``append``, still under the lock: what to hand to ``wait``."""
        return self._group.join()

    def wait(self, batch: Batch, leads: bool, seq: int) -> int:
        """Returns when everything up to ``seq`` is durable, with the seq up to which it is. The caller holds no lock.

        Raises:
            WriteError: see ``Journal.sync``.
        """
        return self._group.wait(batch, leads, seq)

    def sync(self) -> int:
        """Returns when everything is durable, with the seq up to which it is. The caller may hold the lock.

        Raises:
            WriteError: see ``Journal.sync``.
        """
        return self._group.sync_all()

    def compact(self, index: dict[str, Place], mark: str | None) -> dict[str, Place]:
        """Copy the values of ``index`` to the end and forget what lies before; the new index. The caller holds the
        lock.
        """
        first_seq = self._journal.last_seq + 1
        names, places, batch, batch_bytes = list(index), [], [], 0
        if mark is not None:
            self._append([_pack(Change(MARK, mark))])
        for place in index.values():
            batch.append(self._payload(place))
            batch_bytes += place.size
            if batch_bytes >= COPY_BYTES:
                places += self._append(batch)
                batch, batch_bytes = [], 0
        if batch:
            places += self._append(batch)
        self._journal.sync()
        try:
            self._fs.write_atomically(os.path.join(self._directory, BASE_FILE), [str(first_seq - 1).encode()])
        except OSError as error:
            raise WriteError(
                f"the compaction could not be noted: {error.strerror}; nothing is lost", path=self._directory
            ) from error
        self._after = first_seq - 1
        self._forget_segments(first_seq)
        return dict(zip(names, places, strict=True))

    def _forget_segments(self, first_seq: int) -> None:
        for fd in self._fds.values():
            self._fs.close(fd)
        self._fds.clear()
        self._journal.trim(first_seq)
        numbers = segment_numbers(self._fs, self._directory)
        self.size_bytes = sum(self._fs.stat(self._path(number)).st_size for number in numbers)

    # ---- the thread that syncs each second and marks when idle -------------------------------------------------------

    def _need_keeper(self) -> None:
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, name="perdure-log", daemon=True)
            self._keeper.start()
        if not self._wake.is_set():
            self._wake.set()

    def _keep(self) -> None:
        while True:
            self._wake.wait()
            if self._stop.is_set():
                return
            self._wake.clear()
            # Within a second in "everysec"; and when no change has come for a moment a mark is written, so that the
            # last entries can be told from a torn tail.
            waited_ms, seq = 0, self._journal.last_seq
            while not self._stop.wait(IDLE_MARK_MS / 1000):
                waited_ms += IDLE_MARK_MS
                idle, seq = seq == self._journal.last_seq, self._journal.last_seq
                if self._durability == "everysec" and (idle or waited_ms >= SYNC_INTERVAL_MS):
                    waited_ms = 0
                    self._quietly_sync()
                if idle:
                    break
            self._quietly_mark()

    def _quietly_sync(self) -> None:
        # The journal remembers a failure and refuses the next change with it.
        with contextlib.suppress(WriteError):
            self._journal.sync()

    def _quietly_mark(self) -> None:
        with self._lock, contextlib.suppress(WriteError, OSError):
            if not self._stop.is_set():
                self._journal.mark()
                written = self._journal.bytes_written
                self._tail_bytes += written - self._written_bytes
                self.size_bytes += written - self._written_bytes
                self._written_bytes = written

    def close(self) -> None:
        """Make everything durable and let go. Idempotent."""
        self._stop.set()
        self._wake.set()
        if self._keeper is not None and self._keeper is not threading.current_thread():
            self._keeper.join()
        try:
            self._journal.close()
        finally:
            for fd in self._fds.values():
                self._fs.close(fd)
            self._fds.clear()
            self._directory_lock.release()


def _pack(change: Change) -> bytes:
    name = as_bytes(change.name)
    return _HEAD.pack(change.kind, len(name)) + name + change.data


def _unpack(payload: bytes, path: str, offset: int) -> Change:
    try:
        kind, name_bytes = _HEAD.unpack_from(payload)
        end = _HEAD.size + name_bytes
        if not PUT <= kind <= MARK or end > len(payload):
            raise CodecError("unknown kind of change")
        return Change(kind, as_text(payload[_HEAD.size : end]))
    except (struct.error, UnicodeDecodeError, CodecError) as error:
        raise CorruptError(
            "the entry is none of a LogStash", path=path, offset=offset, hint="is this the directory of another system?"
        ) from error
