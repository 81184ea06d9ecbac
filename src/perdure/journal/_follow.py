"""Reading a journal beside the process that writes it."""

from __future__ import annotations

import os

from perdure.fs import Fs
from perdure.journal._framing import Framing
from perdure.journal._protocol import start_of_last_append
from perdure.journal._segments import Segment, damaged, needed_segments, read_header, segment_name
from perdure.records import OUTCOME, Chain, Entry, Scanned


class DirectoryFollower:
    """New entries of a directory that somebody else writes, as they settle. Writes nothing; one thread at a time.

    An entry has settled when what it left behind is known, too: whether it is durable in the mode that the writer
    promises, and its outcome. Both are known when something written later stands behind it; an idle writer puts a mark
    there.
    """

    def __init__(self, directory: str, *, fs: Fs, framing: Framing, after: int, chain: Chain | None = None) -> None:
        """``after``: the seq that is known already.

        Raises:
            MissingError, CorruptError, FormatVersionError: see ``needed_segments``.
        """
        self._fs = fs
        self._directory = directory
        self._framing = framing
        self._chain = chain
        self._segment: Segment | None = None
        self._segment_chain: Chain | None = None
        self._offset = 0
        self._scanned_seq = after
        self._watermark = 0
        self._at_mark = False
        self._pending: list[Entry] = []
        self._window_bytes = 0
        self.after: int = after
        self._locate()

    @property
    def pending(self) -> list[Entry]:
        """Entries that have been read and have not settled."""
        return list(self._pending)

    def _locate(self) -> None:
        segments = needed_segments(self._fs, self._framing, self._directory, self.after, self._chain)
        if segments:
            self._enter(segments[0])

    def _enter(self, segment: Segment) -> None:
        self._segment = segment
        self._segment_chain = None if segment.chain is None else segment.chain.at(segment.chain.value)
        self._offset = segment.first_offset
        self._scanned_seq = segment.base_seq - 1

    def poll(self, *, until: int = 0, bytes_max: int = 0) -> list[Entry]:
        """The entries that have settled since the last call, in order; empty where there are none.

        ``until``: the writer says that everything up to this seq has settled, outcomes included; then no more than that
        is given, and never a command without its outcome. ``bytes_max``: read about so many bytes
        at most, so that what there is comes in parts; 0 for everything at once.

        Raises:
            CorruptError: an entry that had been durable is damaged.
            MissingError: the writer trimmed what was not read yet: begin again from a newer snapshot.
            OSError: a file could not be read; nothing is lost by calling again.
        """
        if self._segment is None:
            self._locate()
        while self._segment is not None:
            following = self._following()
            if not self._read_on(following, bytes_max) or following is None:
                break
            if self._scanned_seq < following.base_seq - 1:
                raise damaged(self._segment.path, self._offset, self._scanned_seq + 1, "the segment ends too early")
            self._enter(following)
        settled = self._take_settled(until)
        if settled:
            self.after = settled[-1].seq
        return settled

    def _following(self) -> Segment | None:
        assert self._segment is not None
        path = os.path.join(self._directory, segment_name(self._segment.number + 1))
        if not self._fs.exists(path):
            return None
        return read_header(self._fs, self._framing, path, self._chain)

    def _read_on(self, following: Segment | None, bytes_max: int) -> bool:
        """Scans what was added to the segment, and says whether that was all of it. Behind the next one's first seq
        stands what was cut after a crash.
        """
        assert self._segment is not None
        fd = self._fs.open_for_reading(self._segment.path)
        try:
            size_bytes = left_bytes = self._fs.size(fd) - self._offset
            if bytes_max:
                # Where not even one record fits in, the next look is a wider one.
                self._window_bytes = max(self._window_bytes, bytes_max)
                size_bytes = min(left_bytes, self._window_bytes)
            data = self._fs.read_range(fd, self._offset, size_bytes)
        finally:
            self._fs.close(fd)
        chain = self._segment_chain
        chain_value = b"" if chain is None else chain.value
        scanned = self._scan(data)
        if following is None and scanned.whole_end < scanned.end:
            # A part of an append. Its writer may be told at this moment that the disk is full, take the part back and
            # put another entry in its place.
            if chain is not None:
                chain.value = chain_value
            scanned = self._scan(data[: scanned.whole_end])
        self._offset += scanned.end
        self._scanned_seq = scanned.seq
        self._watermark = max(self._watermark, scanned.watermark)
        self._pending += scanned.entries
        self._window_bytes = 0 if scanned.end or size_bytes == left_bytes else 2 * self._window_bytes
        if scanned.end:
            self._at_mark = scanned.marked
        if following is not None:
            self._pending = [entry for entry in self._pending if entry.seq < following.base_seq]
            self._scanned_seq = min(scanned.seq, following.base_seq - 1)
        return size_bytes == left_bytes

    def _scan(self, data: bytes) -> Scanned:
        assert self._segment is not None
        return self._framing.scan(
            data,
            0,
            self._scanned_seq,
            watermark=self._watermark,
            chain=self._segment_chain,
            salt=self._segment.header.salt,
        )

    def _take_settled(self, until: int) -> list[Entry]:
        """Everything before a mark; else everything before the last append that has a command in it.

        That a later append is there proves both: it was begun when the earlier one was as durable as the writer
        promises, and it has the outcomes of the earlier one's commands in front.
        """
        pending = self._pending
        count = len(pending)
        if until:
            count = self._count_told(until)
        elif not self._at_mark:
            start = start_of_last_append(pending)
            count = sum(1 for entry in pending if entry.seq < start)
        settled, self._pending = pending[:count], pending[count:]
        return [entry for entry in settled if entry.seq > self.after]

    def _count_told(self, until: int) -> int:
        """How many entries have settled, and their outcomes are among them, where the writer tells."""
        pending = self._pending
        count = sum(1 for entry in pending if entry.seq <= until)
        if pending and pending[-1].seq < until:
            # Not all of it was read: the outcomes of the last append may be in the next part.
            start = start_of_last_append(pending)
            count = sum(1 for entry in pending if entry.seq < start)
            while count < len(pending) and pending[count].kind == OUTCOME:
                count += 1
        return count
