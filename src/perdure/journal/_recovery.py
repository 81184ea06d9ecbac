"""What a journal's files hold after a crash.

Only the last segment can be unfinished: a segment is synced before the next one is created. So all questions are about
its end, and there are three answers. It is *sealed*: the writer closed it. It is *torn*: bytes behind the last good
record never became durable as a whole; they are cut, which means: kept in a side file, and passed over from then on,
because the next segment begins with the next seq. Or it is *corrupt*: something behind the bad spot proves that the
damaged entry had been durable (``records.proves_durable``).

Nothing is changed in a segment that an earlier process wrote. If that process saw a sync fail, the page cache may show
bytes that the disk does not have: so the file is synced, the cache's opinion is dropped, and what is then read back is
believed.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from perdure.errors import MissingError, StorageError, WriteError
from perdure.fs import Fs
from perdure.journal._framing import Framing
from perdure.journal._segments import Segment, damaged, needed_segments, read_records, segment_numbers
from perdure.records import Chain, Scanned

CUT_DIRECTORY = "cut"


class Cut(NamedTuple):
    """A torn tail. ``side_path``: where its bytes are kept; ``None`` when it was only looked at."""

    path: str
    offset: int
    size_bytes: int
    side_path: str | None


class Recovered(NamedTuple):
    """The state of a journal's files.

    ``last_seq``: of the last good entry; before the first segment's ``base_seq`` it is one less. ``watermark``:
    durable as far as the files tell. ``last_at_ns``: time of the last entry, or 0. ``last_number``: of the newest
    segment, or 0. ``tail``: what the last segment holds, so that it need not be read twice.
    """

    segments: list[Segment]
    last_seq: int
    watermark: int
    last_at_ns: int
    last_number: int
    chain: Chain | None
    cut: Cut | None
    sealed: bool
    tail: Scanned | None


def recover(
    fs: Fs, framing: Framing, directory: str, after: int, chain: Chain | None, *, writer: bool, copied: bool = False
) -> Recovered:
    """Looks at all segments that hold entries behind ``after``.

    ``writer``: the caller holds the directory's lock and will append. Then the last segment is made durable before it
    is believed, and a torn tail is copied to a side file. Without it nothing is written. ``copied``: the entries up to
    ``after`` stand in another directory, and nothing of them need be here.

    Raises:
        CorruptError, MissingError, FormatVersionError: nothing was changed.
        WriteError: the disk refused to make durable what was read. Nothing was believed.
    """
    segments = needed_segments(fs, framing, directory, after, chain)
    if not segments and after > 0 and not copied:
        # Retention never deletes the newest segment: where a snapshot says that there were entries, one must be there.
        raise MissingError(
            f"the journal is gone; a snapshot says that it had {after} entries",
            path=directory,
            seq=after,
            hint=f"bring the journal-… files back from a backup, or go on without them: perdure repair {directory}",
        )
    if not segments:
        numbers = segment_numbers(fs, directory)
        return Recovered([], after, after, 0, numbers[-1] if numbers else 0, chain, None, True, None)
    last = segments[-1]
    try:
        data = _settled_bytes(fs, framing, last) if writer else fs.read_all(last.path)
    except OSError as error:
        raise WriteError(
            f"the last segment cannot be read back and synced: {error.strerror}", outcome="unknown", path=last.path
        ) from error
    scanned, chain = read_records(framing, last, data)
    cut = None
    if scanned.end < len(data):
        cut = _judge_tail(framing, last, data, scanned, after)
        if writer:
            cut = cut._replace(side_path=_keep_tail(fs, directory, cut, data))
    elif scanned.seq < after and not copied:
        # The journal is synced before a snapshot is published, so more was here, and how much nobody knows.
        raise damaged(last.path, scanned.end, scanned.seq + 1, f"the file ends there, and a snapshot holds seq {after}")
    last_at_ns = scanned.entries[-1].at_ns if scanned.entries else last.header.created_ns
    return Recovered(
        segments, scanned.seq, scanned.watermark, last_at_ns, last.number, chain, cut, scanned.sealed, scanned
    )


def _settled_bytes(fs: Fs, framing: Framing, segment: Segment) -> bytes:
    """The segment's bytes, durable, as the disk has them."""
    fd = fs.open_for_reading(segment.path)
    try:
        # Sync first, so that what is dirty is written; then drop the cache, so that what a failed sync lost is seen to
        # be lost. A sync alone reports success for pages that an earlier, failed one marked clean (verified on ext4,
        # xfs, btrfs).
        fs.sync(fd)
        fs.forget_cached(fd)
        return fs.read_range(fd, 0, fs.size(fd))
    finally:
        fs.close(fd)


def _judge_tail(framing: Framing, segment: Segment, data: bytes, scanned: Scanned, after: int) -> Cut:
    """A ``Cut`` if the bytes behind the last good record are a torn tail. ``after``: what a snapshot covers was durable
    before the snapshot was there.

    Raises:
        CorruptError: they are not.
    """
    seq = scanned.seq + 1
    problem = scanned.problem or "bytes behind the end"
    if scanned.sealed:
        raise damaged(segment.path, scanned.end, seq, problem)
    proof = framing.proves_durable(data, scanned.end, seq, salt=segment.header.salt, known_seq=after)
    if proof is not None:
        raise damaged(segment.path, scanned.end, seq, f"{problem} (byte {proof} proves it)")
    if seq <= scanned.watermark:
        raise damaged(segment.path, scanned.end, seq, problem)
    return Cut(segment.path, scanned.end, len(data) - scanned.end, None)


def _keep_tail(fs: Fs, directory: str, cut: Cut, data: bytes) -> str | None:
    """Copies a torn tail to a side file; ``None`` where the disk has no room for it (the segment still holds the
    bytes)."""
    side_directory = os.path.join(directory, CUT_DIRECTORY)
    side_path = os.path.join(side_directory, f"{os.path.basename(cut.path)}-at-{cut.offset}")
    try:
        fs.make_directory(side_directory)
        fs.write_atomically(side_path, [data[cut.offset :]])
    except OSError:
        return None
    return side_path


def check_same_log(segments: list[Segment], log_id: bytes | None, directory: str) -> None:
    """Raises ``StorageError`` where the journal in the directory is not the one that the snapshots belong to."""
    if segments and log_id is not None and segments[-1].header.log_id != log_id:
        raise StorageError(
            "the journal and the snapshots in this directory belong to different systems",
            path=directory,
            hint="was one of them copied here from another directory?",
        )
