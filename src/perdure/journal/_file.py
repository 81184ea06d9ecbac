"""The journal as files in a directory."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from perdure.clock import Clock, WallClock, utc_offset_min
from perdure.errors import ClosedError, Outcome, RecordTooLargeError, StorageError, UsageError, WriteError
from perdure.fs import Fs, close_in_forked_children, temporary_name
from perdure.journal._follow import DirectoryFollower
from perdure.journal._framing import BINARY, Framing, SegmentHeader
from perdure.journal._protocol import Capabilities, Draft, Durability
from perdure.journal._recovery import Cut, Recovered, check_same_log, recover
from perdure.journal._segments import Segment, entries_of, needed_segments, segment_name, segment_numbers
from perdure.limits import RECORD_BYTES_MAX, SEGMENT_BYTES_MAX
from perdure.records import NO_CLIENT, OUTCOME, SEAL, WATERMARK, Chain, Entry

_INTERRUPTED = "an append was interrupted before it was known to be whole"
_DURABILITY_NUMBER: Mapping[Durability, int] = {"always": 0, "everysec": 1, "never": 2}
_PROMISES: Mapping[Durability, str] = {
    "always": "fsync: survives a power cut",
    "everysec": "handed to the operating system at once, fsync each second: survives the process",
    "never": "handed to the operating system at once: survives the process",
}
_OFFSET_VALID_NS = 15 * 60 * 1_000_000_000  # Offsets from UTC change on quarter hours.


class FileJournal:
    """Segments in a directory whose lock the caller holds.

    One thread at a time may append, mark, trim and close; any thread may sync and read.

    What a crash leaves at each step:

    - before a record's first byte: nothing of it. Within it: a torn tail, cut at the next opening. Behind it, before
      ``sync`` returns: the record wholly or torn, and no caller has been answered.
    - while a segment ends: it was synced before its seal is written, so at worst the seal is torn.
    - while a segment begins: a temporary file that the next opening deletes, or the finished header under its final
      name.
    - while old segments are trimmed: any of them may be left; reading begins at the newest and does not need them.
    """

    def __init__(
        self,
        directory: str,
        *,
        fs: Fs | None = None,
        after: int = 0,
        log_id: bytes | None = None,
        durability: Durability = "always",
        clock: Clock | None = None,
        framing: Framing = BINARY,
        chain: Chain | None = None,
        description: Mapping[str, Any] | None = None,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        copied: bool = False,
    ) -> None:
        """Recovers what is there. ``after``: the seq that a snapshot covers; what lies before need not be readable.

        ``log_id``: what the snapshots say; ``None`` for a new journal. Entries behind ``after`` are in ``recovered``.
        ``copied``: it is a copy of another journal that may begin behind ``after``, without a file before that.

        Raises:
            CorruptError, MissingError, FormatVersionError: nothing was changed on disk.
            WriteError: the disk refused; nothing was changed but, perhaps, a side file was written.
        """
        self._fs = fs or Fs()
        self._directory = directory
        self._framing = framing
        self._encode = framing.encode
        self._write = self._fs.write
        self._time_ns: Callable[[], int] = (clock or WallClock()).time_ns
        self._durability: Durability = durability
        self._description = dict(description or {})
        self._segment_bytes_max = segment_bytes_max
        self._sync_lock = threading.Lock()
        self._fd = -1
        self._salt = 0
        self._path = ""
        self._size_bytes = 0
        self._failure: str | None = None
        # Apart from `_failure`, which an append clears at its end: a sync may fail in another thread at that moment.
        self._sync_failure: str | None = None
        self._closed = False
        self._bytes_before = 0  # In the segments that this opening has ended.
        self._marked_seq = 0
        self._offset_min = 0
        self._offset_until_ns = 0

        recovered = recover(self._fs, framing, directory, after, chain, writer=True, copied=copied)
        check_same_log(recovered.segments, log_id, directory)
        self._sync_names()
        self.recovered: Recovered | None = recovered
        self.cut: Cut | None = recovered.cut
        self.log_id: bytes = log_id or (recovered.segments[-1].header.log_id if recovered.segments else os.urandom(16))
        self.last_seq: int = max(recovered.last_seq, after)
        self.durable_seq: int = self.last_seq
        self.last_at_ns: int = recovered.last_at_ns
        self._marked_seq = self.last_seq
        # Written with the newest key from here on, whichever of them the last record was read with.
        self._chain = None if recovered.chain is None else recovered.chain.at(recovered.chain.value)
        self._last_number = recovered.last_number
        self.capabilities: Capabilities = Capabilities(RECORD_BYTES_MAX, _PROMISES[durability], shared=False)
        close_in_forked_children(self)
        if recovered.cut is not None:
            # Appending goes on in a new segment, which says by its first seq where the old one was cut. If there is no
            # room for it now, the first append tries again.
            with contextlib.suppress(WriteError):
                self._begin_segment()

    def _sync_names(self) -> None:
        """They must be durable before anything is built on them: the last process may have died before its sync."""
        try:
            self._fs.sync_directory(self._directory)
        except OSError as error:
            raise WriteError(
                f"the names of the segments cannot be made durable: {error.strerror}", path=self._directory
            ) from error

    # ---- state

    @property
    def fs(self) -> Fs:
        return self._fs

    @property
    def failure(self) -> str | None:
        return self._failure or self._sync_failure

    @property
    def bytes_written(self) -> int:
        return self._bytes_before + self._size_bytes

    # ---- appending

    def append(self, drafts: Sequence[Draft], *, expected: int | None = None) -> None:
        """See ``Journal.append``."""
        if self._failure is not None or self._sync_failure is not None:
            raise self._refusal()
        if expected is not None and expected != self.last_seq:
            raise UsageError(f"the journal is at seq {self.last_seq}, not at {expected}", seq=self.last_seq)
        # An outcome stays in the segment of its command, so that replay knows it when it comes to the command.
        if self._fd < 0 or (self._size_bytes >= self._segment_bytes_max and drafts[0].kind != OUTCOME):
            self._roll()
        now_ns = self._time_ns()
        at_ns = self.last_at_ns
        if now_ns > at_ns:
            self.last_at_ns = at_ns = now_ns
        if at_ns >= self._offset_until_ns:
            self._read_offset(at_ns)
        chain = self._chain
        chain_value = None if chain is None else chain.value
        offset_min = self._offset_min
        durable_seq = self.durable_seq
        encode = self._encode
        seq = self.last_seq
        salt = self._salt
        left = len(drafts)
        records = []  # Joined at the end: adding to bytes would copy a large batch again for each of its entries.
        for draft in drafts:
            payload = draft.payload
            if len(payload) > RECORD_BYTES_MAX:
                self._take_back_chain(chain_value)
                raise RecordTooLargeError(
                    f"an entry of {len(payload)} bytes; at most {RECORD_BYTES_MAX} go into one", path=self._path
                )
            draft.seq = seq = seq + 1
            draft.at_ns = at_ns
            draft.utc_offset_min = offset_min
            left -= 1
            draft.more = left > 0
            record = encode(
                seq,
                at_ns,
                draft.kind,
                payload,
                durable_seq,
                offset_min,
                draft.client,
                draft.counter,
                chain,
                salt,
                left > 0,
            )
            records.append(record)
        self._put(b"".join(records), seq, chain_value)

    def copy(self, entries: Sequence[Entry]) -> None:
        """See ``CopyingJournal.copy``."""
        if self._failure is not None or self._sync_failure is not None:
            raise self._refusal()
        first, last = entries[0], entries[-1]
        if first.seq != self.last_seq + 1 or last.seq != self.last_seq + len(entries):
            raise UsageError(
                f"the journal is at seq {self.last_seq}; {first.seq} to {last.seq} do not continue it", seq=first.seq
            )
        if self._fd < 0 or (self._size_bytes >= self._segment_bytes_max and first.kind != OUTCOME):
            self._roll()
        chain, salt, durable_seq, encode = self._chain, self._salt, self.durable_seq, self._encode
        chain_value = None if chain is None else chain.value
        data = b"".join(
            encode(
                entry.seq,
                entry.at_ns,
                entry.kind,
                entry.payload,
                durable_seq,
                entry.utc_offset_min,
                entry.client,
                entry.counter,
                chain,
                salt,
                entry.more,
            )
            for entry in entries
        )
        self._put(data, last.seq, chain_value)
        self.last_at_ns = max(self.last_at_ns, last.at_ns)

    def _put(self, data: bytes, seq: int, chain_value: bytes | None) -> None:
        """Writes ``data`` and counts it: wholly, or not at all, or the journal is failed."""
        # Set before the first byte and cleared after the last line: whatever leaves in between (an interrupt, no
        # memory) leaves the mark, and no handler has to be in the right place to catch it.
        self._failure = _INTERRUPTED
        try:
            taken = self._write(self._fd, data)
            if taken != len(data):
                self._fs.write_all(self._fd, memoryview(data)[taken:])
        except OSError as error:
            self._take_back(error, chain_value)
            raise WriteError(
                f"the disk refused the entry: {error.strerror}; nothing of it is left", path=self._path, seq=seq
            ) from error
        self._size_bytes += len(data)
        self.last_seq = seq
        self._failure = None

    def _take_back_chain(self, value: bytes | None) -> None:
        if self._chain is not None and value is not None:
            self._chain.value = value

    def _take_back(self, error: OSError, chain_value: bytes | None) -> None:
        """Cuts a partial record off the end, durably. If even that fails the journal stays failed."""
        try:
            self._fs.truncate(self._fd, self._size_bytes)
        except OSError as second:
            self._failure = f"a partial record could not be cut off: {second.strerror}"
            raise WriteError(
                f"the disk refused the entry ({error.strerror}) and the partial record could not be cut off",
                outcome="unknown",
                path=self._path,
                hint="close this handle and open again: recovery decides",
            ) from error
        self._take_back_chain(chain_value)
        if self._durability != "never":
            # Before anybody is told that nothing is left: a power cut could undo the cut, and bring the refused entry
            # back.
            with self._sync_lock:
                self._sync_file()
        self._failure = None

    def _refusal(self, *, outcome: Outcome = "not-written") -> WriteError | ClosedError:
        if self._closed:
            return ClosedError("it was closed", path=self._directory, hint="open it again")
        return WriteError(
            f"the journal takes no more entries: {self.failure}",
            outcome=outcome,
            path=self._path or self._directory,
            hint="close this handle and open again; nothing that was acknowledged is lost",
        )

    def _read_offset(self, at_ns: int) -> None:
        self._offset_min = utc_offset_min(at_ns)
        self._offset_until_ns = (at_ns // _OFFSET_VALID_NS + 1) * _OFFSET_VALID_NS

    # ---- durability

    def sync(self) -> int:
        """See ``Journal.sync``."""
        with self._sync_lock:
            # `_failure` may be set for a moment by an append in another thread; what that one writes is not counted
            # yet.
            if self._sync_failure is not None or (self._failure is not None and self._failure is not _INTERRUPTED):
                raise self._refusal(outcome="unknown")
            seq = self.last_seq
            if seq > self.durable_seq and self._fd >= 0:
                self._sync_file()
                self.durable_seq = seq
            return self.durable_seq

    def _sync_file(self) -> None:
        try:
            self._fs.sync(self._fd)
        except OSError as error:
            # Never again on this file: after a failed sync the kernel may report success for pages that it has lost.
            self._sync_failure = f"a sync failed: {error.strerror}"
            raise WriteError(
                f"the disk refused to make the journal durable: {error.strerror}",
                outcome="unknown",
                path=self._path,
                seq=self.last_seq,
                hint="close this handle and open again: recovery decides which of the last commands are there",
            ) from error
        except BaseException:
            self._sync_failure = "a sync was interrupted"
            raise

    def mark(self) -> None:
        """See ``Journal.mark``."""
        if self.failure is not None or self._fd < 0 or self._marked_seq == self.last_seq:
            return
        if self._durability != "never":
            # First, so that the mark can say it of all entries: it is not written again until there is another one.
            self.sync()
        self._put_mark(WATERMARK)
        if self._durability != "never":
            with self._sync_lock:
                self._sync_file()

    def _put_mark(self, kind: int) -> None:
        chain = self._chain
        chain_value = None if chain is None else chain.value
        mark = self._encode(
            self.last_seq, self.last_at_ns, kind, b"", self.durable_seq, 0, NO_CLIENT, 0, chain, self._salt
        )
        self._put(mark, self.last_seq, chain_value)
        self._marked_seq = self.last_seq

    # ---- segments

    def _roll(self) -> None:
        """Ends the segment, if there is one, and begins the next: between two records, never within one."""
        if self._fd >= 0:
            self._end_segment()
        self._begin_segment()

    def _end_segment(self) -> None:
        with self._sync_lock:
            self._sync_file()
            self.durable_seq = self.last_seq
        # A seal that finds no room is not needed: the next segment's first seq says the same.
        with contextlib.suppress(WriteError):
            self._put_mark(SEAL)
            with self._sync_lock:
                self._sync_file()
        if self.failure is not None:
            raise self._refusal()
        with self._sync_lock:
            self._let_go()

    def _begin_segment(self) -> None:
        number = self._last_number + 1
        chain = self._chain
        start = chain.value if chain is not None else bytes(16)
        header = SegmentHeader(
            number=number,
            base_seq=self.last_seq + 1,
            created_ns=max(self._time_ns(), self.last_at_ns),
            log_id=self.log_id,
            durability=_DURABILITY_NUMBER[self._durability],
            chain_start=start,
            description=self._description,
        )
        path = os.path.join(self._directory, segment_name(number))
        temporary = temporary_name(path)
        fd = -1
        self._failure = _INTERRUPTED
        try:
            # Under another name until it is durable: a segment with a damaged header is then always damage, never a
            # crash.
            fd = self._fs.create(temporary)
            data = self._framing.encode_header(header, chain)
            self._fs.write_all(fd, data)
            self._fs.sync(fd)
            self._fs.rename(temporary, path)
        except BaseException as error:
            if fd >= 0:
                self._fs.close(fd)
                with contextlib.suppress(OSError):
                    self._fs.unlink(temporary)
            if chain is not None:
                chain.value = start
            if not isinstance(error, OSError):
                raise
            self._failure = None
            raise WriteError(
                f"no new segment can be begun: {error.strerror}; nothing was written", path=path
            ) from error
        self._bytes_before += self._size_bytes
        self._fd, self._path, self._size_bytes = fd, path, len(data)
        self._last_number = number
        self._salt = header.salt
        try:
            self._fs.sync_directory(self._directory)
        except OSError as error:
            self._failure = f"the name of a new segment could not be made durable: {error.strerror}"
            raise WriteError(
                f"{self._failure}; the entry was not written", path=path, hint="close this handle and open again"
            ) from error
        self._failure = None

    # ---- reading

    def read(self, after: int = 0, before: int | None = None) -> Iterator[Entry]:
        """See ``Journal.read``."""
        last_seq = self.last_seq if before is None else min(self.last_seq, before - 1)
        if last_seq <= after:
            return
        reading = None if self._chain is None else self._chain.at(bytes(16))
        segments = needed_segments(self._fs, self._framing, self._directory, after, reading)
        for _, entries in entries_of(self._fs, self._framing, segments, after, last_seq):
            yield from entries

    def read_recovered(self, after: int) -> Iterator[tuple[Segment, list[Entry]]]:
        """Once, after opening: the entries behind ``after``, a list per segment, without reading the last one twice."""
        recovered, self.recovered = self.recovered, None
        if recovered is None or not recovered.segments or recovered.tail is None:
            return
        last = recovered.segments[-1]
        end_seq = last.base_seq - 1
        if end_seq > after:
            yield from entries_of(self._fs, self._framing, recovered.segments, after, end_seq)
        yield last, recovered.tail.entries[max(0, after + 1 - last.base_seq) :]

    def follow(self, after: int) -> DirectoryFollower:
        """A reader of what comes behind ``after``, for another thread. Raises like ``DirectoryFollower``."""
        reading = None if self._chain is None else self._chain.at(bytes(16))
        return DirectoryFollower(self._directory, fs=self._fs, framing=self._framing, after=after, chain=reading)

    # ---- retention and end

    def trim(self, before: int) -> None:
        """See ``Journal.trim``."""
        try:
            reading = None if self._chain is None else self._chain.at(bytes(16))
            segments = needed_segments(self._fs, self._framing, self._directory, before - 1, reading)
            for number in segment_numbers(self._fs, self._directory):
                if not segments or number >= segments[0].number:
                    break
                self._fs.unlink(os.path.join(self._directory, segment_name(number)))
        except (OSError, StorageError):
            # What could not be deleted is not read either; the next trim tries again.
            return

    def close(self) -> None:
        """See ``Journal.close``."""
        if self._closed and self._fd < 0:
            return
        again, self._closed = self._closed, True  # An interrupt came in between; the seal may be there already.
        try:
            if self.failure is None and self._fd >= 0:
                with self._sync_lock:
                    self._sync_file()
                    self.durable_seq = self.last_seq
                with contextlib.suppress(WriteError):
                    if not again:
                        self._put_mark(SEAL)
                    with self._sync_lock:
                        self._sync_file()
        finally:
            self._failure = self._failure or "closed"
            self._let_go()

    def _let_go(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            # Whatever had to be durable was synced before: a close that fails takes nothing with it.
            with contextlib.suppress(OSError):
                self._fs.close(fd)

    def after_fork_in_child(self) -> None:
        """The child of a fork never writes to its parent's journal."""
        self._failure = "this process was forked from the one that opened it"
        self._let_go()
