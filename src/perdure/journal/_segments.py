"""The segments of a directory, and reading them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from perdure.errors import CorruptError, MissingError, StorageError
from perdure.fs import Fs
from perdure.journal._framing import Framing, SegmentHeader
from perdure.records import Chain, Entry, Scanned

_NAME = re.compile(r"journal-(\d{8})")


def segment_name(number: int) -> str:
    """The name of a segment's file."""
    return f"journal-{number:08d}"


class Segment(NamedTuple):
    """One file of the journal. ``first_offset``: where its records begin. ``chain``: for the first of them."""

    path: str
    header: SegmentHeader
    first_offset: int
    chain: Chain | None

    @property
    def number(self) -> int:
        return self.header.number

    @property
    def base_seq(self) -> int:
        return self.header.base_seq


def read_header(fs: Fs, framing: Framing, path: str, chain: Chain | None) -> Segment:
    """Raises ``CorruptError`` or ``FormatVersionError`` where the file does not begin as a segment does.

    ``MissingError`` where it is gone, ``StorageError`` where it cannot be read.
    """
    try:
        fd = fs.open_for_reading(path)
        try:
            # Most headers are small; a long description is read in a second step.
            data = fs.read_range(fd, 0, 8192)
            if len(data) == 8192:
                data = fs.read_range(fd, 0, framing.head_bytes_max)
        finally:
            fs.close(fd)
    except OSError as error:
        raise unreadable(path, error) from error
    header, first_offset, chain = framing.decode_header(data, path, chain)
    match = _NAME.fullmatch(os.path.basename(path))
    if match is None or int(match[1]) != header.number:
        raise CorruptError(f"the file says that it is segment {header.number}; was it renamed?", path=path, offset=0)
    return Segment(path, header, first_offset, chain)


def segment_numbers(fs: Fs, directory: str) -> list[int]:
    """In order. Other files in the directory are nobody's business here."""
    try:
        names = fs.names(directory)
    except OSError as error:
        raise unreadable(directory, error) from error
    return sorted(int(match[1]) for name in names if (match := _NAME.fullmatch(name)))


def needed_segments(fs: Fs, framing: Framing, directory: str, after: int, chain: Chain | None) -> list[Segment]:
    """The segments that hold entries behind ``after``, in order, and at least the last one, if there is any.

    Read from the newest backwards: files that retention has begun to delete may be there still, in any combination.

    Raises:
        MissingError: a file in between is gone, or the oldest one left begins too late.
        CorruptError, FormatVersionError: a header is damaged, foreign, or of a newer perdure.
    """
    numbers = segment_numbers(fs, directory)
    found: list[Segment] = []
    for number in reversed(numbers):
        if found and number != found[0].number - 1:
            raise _missing_segment(directory, found[0].number - 1, found[0])
        segment = read_header(fs, framing, os.path.join(directory, segment_name(number)), chain)
        if found and segment.header.log_id != found[0].header.log_id:
            raise CorruptError("the segment belongs to another journal than the one after it", path=segment.path)
        if found and segment.base_seq > found[0].base_seq:
            raise CorruptError("the segment begins later than the one after it", path=segment.path)
        found.insert(0, segment)
        if segment.base_seq <= after + 1:
            return found
    if found and found[0].base_seq > after + 1:
        if found[0].number > 1:
            raise _missing_segment(directory, found[0].number - 1, found[0])
        raise MissingError(
            f"entries {after + 1} to {found[0].base_seq - 1} are not there", path=directory, seq=after + 1
        )
    return found


def _missing_segment(directory: str, number: int, following: Segment) -> MissingError:
    return MissingError(
        f"the journal lacks {segment_name(number)}, which must hold entries up to {following.base_seq - 1}",
        path=os.path.join(directory, segment_name(number)),
        seq=following.base_seq - 1,
        hint="bring the file back from a backup, or see what can be kept with: perdure repair " + directory,
    )


def read_records(framing: Framing, segment: Segment, data: bytes) -> tuple[Scanned, Chain | None]:
    """All good records of a segment whose bytes are ``data``, and where the chain stands behind them."""
    chain = None if segment.chain is None else segment.chain.at(segment.chain.value)
    scanned = framing.scan(data, segment.first_offset, segment.base_seq - 1, chain=chain, salt=segment.header.salt)
    return scanned, chain


def entries_of(
    fs: Fs, framing: Framing, segments: list[Segment], after: int, last_seq: int
) -> Iterator[tuple[Segment, list[Entry]]]:
    """The entries with ``after < seq <= last_seq``, a list per segment.

    A segment counts up to where the next one begins: what stands behind that was cut after a crash.

    Raises:
        CorruptError: an entry that must be there is damaged; all before it have been yielded.
    """
    for position, segment in enumerate(segments):
        following = segments[position + 1] if position + 1 < len(segments) else None
        end_seq = last_seq if following is None else min(last_seq, following.base_seq - 1)
        if end_seq <= after or segment.base_seq > end_seq:
            continue
        try:
            data = fs.read_all(segment.path)
        except OSError as error:
            raise unreadable(segment.path, error, segment.base_seq) from error
        scanned, chain = read_records(framing, segment, data)
        yield segment, scanned.entries[max(0, after + 1 - segment.base_seq) : end_seq - segment.base_seq + 1]
        if scanned.seq < end_seq:
            raise damaged(segment.path, scanned.end, scanned.seq + 1, scanned.problem or "the file ends too early")
        if following is not None and chain is not None and chain.value != following.header.chain_start:
            raise damaged(following.path, 0, following.base_seq, "its chain of authentication codes begins elsewhere")


def unreadable(path: str, error: OSError, seq: int | None = None) -> StorageError:
    if isinstance(error, FileNotFoundError):
        return MissingError("the segment was deleted", path=path, seq=seq)
    return StorageError(f"it cannot be read: {error.strerror}", path=path, seq=seq)


def damaged(path: str, offset: int, seq: int, problem: str) -> CorruptError:
    """The error for an entry that had been durable and is not whole."""
    directory = os.path.dirname(path)
    return CorruptError(
        f"entry {seq} had been durable and is damaged: {problem}",
        path=path,
        offset=offset,
        seq=seq,
        hint=f"bring the file back from a backup, or see what can be kept with: perdure repair {directory}",
    )
