"""What lies in a directory, looked at without changing anything and without the user's classes."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from perdure.errors import CorruptError, FormatVersionError, MissingError, PerdureError, StorageError, UsageError
from perdure.fs import Fs, existing_directory, is_own_temporary
from perdure.journal import (
    BINARY,
    CUT_DIRECTORY,
    Framing,
    Segment,
    SegmentHeader,
    read_header,
    read_records,
    recover,
    segment_name,
    segment_numbers,
)
from perdure.machine import QUARANTINE_DIRECTORY
from perdure.mapping import LinesFraming, LinesSnapshotStore, WrongLineError
from perdure.records import HEAD_BYTES, MAC_BYTES, Chain
from perdure.snapshots import FileSnapshotStore, Snapshot, snapshot_name

_OWN_NAME = re.compile(r"journal-\d{8}|snapshot-\d{20}")
_ATTEMPTS = 5
_DICT_STARTS = (b'{"perdure":"dict ', b"\x1f\x8b")
"""Of the files of a dict; snapshots may be gzipped."""


@dataclass
class SegmentFile:
    """One file of the journal.

    ``error``: its header is not usable. ``last_seq``: of the last good record that can be read from its start, or one
    less than its first; ``end``: the offset behind that record; ``problem``: why reading stopped there, if not at the
    end. ``torn``: what stands there never became durable as a whole. ``tail_error``: it did, and is damaged.
    ``marked``: a mark is the last record.
    ``chain_end``: where its authentication codes end. ``scanned``: its records were read, not only its header.
    """

    number: int
    path: str
    size_bytes: int = 0
    segment: Segment | None = None
    error: CorruptError | None = None
    last_seq: int = 0
    entry_count: int = 0
    end: int = 0
    watermark: int = 0
    sealed: bool = False
    marked: bool = False
    problem: str | None = None
    torn: bool = False
    tail_error: CorruptError | None = None
    chain_end: bytes | None = None
    last_at_ns: int = 0
    scanned: bool = False

    @property
    def name(self) -> str:
        return os.path.basename(self.path)

    @property
    def header(self) -> SegmentHeader | None:
        return None if self.segment is None else self.segment.header

    @property
    def base_seq(self) -> int:
        return 0 if self.segment is None else self.segment.base_seq


@dataclass
class SnapshotFile:
    """One snapshot. ``error``: it is damaged. ``digest``: of its state, known once its whole content was read."""

    seq: int
    path: str
    size_bytes: int = 0
    snapshot: Snapshot | None = None
    error: CorruptError | None = None
    digest: bytes | None = None

    @property
    def name(self) -> str:
        return os.path.basename(self.path)


@dataclass
class Survey:
    """A directory. ``snapshots``: newest first. ``segments``: in order. ``cuts``: what stands in the side folder,
    name → bytes. ``quarantine``: names there. ``temporaries``: left by an interrupted write. ``foreign``: nobody's.
    ``framing``: how its journal is laid out.
    """

    path: str
    framing: Framing = BINARY
    snapshots: list[SnapshotFile] = field(default_factory=list)
    segments: list[SegmentFile] = field(default_factory=list)
    cuts: dict[str, int] = field(default_factory=dict)
    quarantine: list[str] = field(default_factory=list)
    temporaries: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    @property
    def good_snapshots(self) -> list[SnapshotFile]:
        return [file for file in self.snapshots if file.error is None]

    @property
    def is_dict(self) -> bool:
        """Whether it holds a ``PersistentDict``, whose files are lines of text."""
        return self.framing is not BINARY

    @property
    def description(self) -> dict[str, object]:
        """Class, codec and kind, as the newest file that can be read has them."""
        for snapshot in self.good_snapshots:
            assert snapshot.snapshot is not None
            return dict(snapshot.snapshot.header.description)
        for segment in reversed(self.segments):
            if segment.header is not None:
                return dict(segment.header.description)
        return {}


def survey(
    directory: str, *, fs: Fs | None = None, secrets: Sequence[bytes] = (), deep: bool = True, dicts: bool = False
) -> Survey:
    """Looks at everything in a directory; also beside a writer. Writes nothing.

    ``deep``: read every record and every block. Otherwise headers, ends, and the last segment. ``dicts``: look at a
    ``PersistentDict``, too.

    Raises:
        UsageError: it holds a ``PersistentDict``, and whoever asks can do nothing with one.
        MissingError: there is no such directory, or nothing of perdure's in it.
        FormatVersionError: a newer perdure writes here. It would be wrong to call that damaged.
        CorruptError: the files carry authentication codes, and the secret is missing or another one.
        StorageError: something cannot be read at all.
    """
    fs = fs or Fs()
    path = existing_directory(directory)
    framing: Framing = BINARY
    if _holds_dict(path, fs):
        if not dicts:
            raise UsageError(
                "this holds a PersistentDict",
                path=path,
                hint="perdure info, verify and log look at one; PersistentDict opens it; its files are lines of text",
            )
        framing = LinesFraming()
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            found = _look(path, fs, tuple(secrets), framing, deep)
        except (FileNotFoundError, MissingError, _ChangedError) as error:
            # A writer beside us takes a snapshot and prunes while we read: look again.
            if attempt == _ATTEMPTS:
                raise MissingError("the files change faster than they can be read", path=path) from error
        except OSError as error:
            raise _unreadable(error, path) from error
        else:
            return _checked(found)
    raise AssertionError("unreachable")


def _look(path: str, fs: Fs, secrets: tuple[bytes, ...], framing: Framing, deep: bool) -> Survey:
    found = Survey(path, framing)
    for name in sorted(fs.names(path)):
        if name == CUT_DIRECTORY:
            folder = os.path.join(path, name)
            found.cuts = {inner: fs.stat(os.path.join(folder, inner)).st_size for inner in sorted(fs.names(folder))}
        elif name == QUARANTINE_DIRECTORY:
            found.quarantine = sorted(fs.names(os.path.join(path, name)))
        elif is_own_temporary(name):
            found.temporaries.append(name)
        elif not _OWN_NAME.fullmatch(name):
            found.foreign.append(name)
    # Snapshots first: what a snapshot covers was in the journal before it was published.
    store = LinesSnapshotStore(path, fs=fs) if found.is_dict else FileSnapshotStore(path, fs=fs, secrets=secrets)
    seqs = store.seqs()
    found.snapshots = [_look_at_snapshot(store, seq, fs, deep=deep) for seq in seqs]
    chain = Chain(secrets) if secrets else None
    numbers = segment_numbers(fs, path)
    for position, number in enumerate(numbers):
        last = position == len(numbers) - 1
        found.segments.append(_look_at_segment(path, number, fs, framing, chain, deep=deep or last, last=last))
    if not deep:
        _conclude_from_followers(found.segments, fs, framing)
    if store.seqs() != seqs:
        raise _ChangedError
    return found


def _unreadable(error: OSError, path: str) -> StorageError:
    return StorageError(f"it cannot be read: {error.strerror}", path=error.filename or path)


def _holds_dict(path: str, fs: Fs) -> bool:
    """Judged by the first file that looks like one or the other: some may be damaged."""
    try:
        names = sorted(filter(_OWN_NAME.fullmatch, fs.names(path)), reverse=True)
        for name in names:
            # A writer beside us may prune it.
            with contextlib.suppress(FileNotFoundError):
                start = _start_of(os.path.join(path, name), fs)
                if start.startswith((*_DICT_STARTS, b"PERD")):
                    return start.startswith(_DICT_STARTS)
    except OSError as error:
        raise _unreadable(error, path) from error
    return False


def _start_of(path: str, fs: Fs) -> bytes:
    fd = fs.open_for_reading(path)
    try:
        return fs.read_range(fd, 0, len(_DICT_STARTS[0]))
    finally:
        fs.close(fd)


class _ChangedError(Exception):
    """Somebody took a snapshot meanwhile."""


# ---- snapshots


def _look_at_snapshot(store: FileSnapshotStore, seq: int, fs: Fs, *, deep: bool) -> SnapshotFile:
    file = SnapshotFile(seq, os.path.join(store.directory, snapshot_name(seq)))
    file.size_bytes = fs.stat(file.path).st_size
    try:
        file.snapshot = store.snapshot_at(seq)
        if deep:
            # Nothing is decoded: the content is only compared with its checksums.
            _, file.digest = store.load(file.snapshot, lambda _: None)
    except CorruptError as error:
        file.error = error
    except WrongLineError as wrong:
        file.error = wrong.error
    return file


# ---- segments


def _look_at_segment(
    directory: str, number: int, fs: Fs, framing: Framing, chain: Chain | None, *, deep: bool, last: bool
) -> SegmentFile:
    file = SegmentFile(number, os.path.join(directory, segment_name(number)))
    file.size_bytes = fs.stat(file.path).st_size
    try:
        file.segment = read_header(fs, framing, file.path, chain)
    except FormatVersionError:
        raise
    except CorruptError as error:
        file.error = error
        return file
    file.last_seq = file.segment.base_seq - 1
    file.last_at_ns = file.segment.header.created_ns
    if deep:
        _scan(file, file.segment, directory, fs, framing, chain, last=last)
    return file


def _scan(
    file: SegmentFile, segment: Segment, directory: str, fs: Fs, framing: Framing, chain: Chain | None, *, last: bool
) -> None:
    data = fs.read_all(file.path)
    scanned, chain_end = read_records(framing, segment, data)
    file.scanned = True
    file.size_bytes = len(data)
    file.last_seq, file.end, file.entry_count = scanned.seq, scanned.end, len(scanned.entries)
    file.watermark, file.sealed, file.problem = scanned.watermark, scanned.sealed, scanned.problem
    file.marked = scanned.marked
    file.chain_end = None if chain_end is None else chain_end.value
    if scanned.entries:
        file.last_at_ns = scanned.entries[-1].at_ns
    if not last or scanned.end == len(data):
        return
    try:
        # Whether this is a torn tail is for recovery to say.
        recovered = recover(fs, framing, directory, (1 << 63) - 2, chain, writer=False)
        # Where there is nothing to cut, a writer beside us has finished meanwhile what was half written.
        file.torn = recovered.last_number == file.number and recovered.cut is not None
    except CorruptError as error:
        file.tail_error = error


def _conclude_from_followers(segments: list[SegmentFile], fs: Fs, framing: Framing) -> None:
    """What is known of a segment from the next one's header, without reading its records."""
    for file, following in itertools.pairwise(segments):
        if file.segment is None or following.segment is None or file.scanned:
            continue
        file.last_seq = following.base_seq - 1
        file.entry_count = max(0, following.base_seq - file.base_seq)
        file.end = file.size_bytes
        size_bytes = HEAD_BYTES + (MAC_BYTES if file.segment.chain is not None else 0)
        fd = fs.open_for_reading(file.path)
        try:
            tail = fs.read_range(fd, max(0, file.size_bytes - size_bytes), size_bytes)
        finally:
            fs.close(fd)
        file.sealed = framing.scan(tail, 0, file.last_seq, salt=file.segment.header.salt).sealed


def _checked(found: Survey) -> Survey:
    if not found.snapshots and not found.segments:
        raise MissingError(
            "there is nothing of perdure's in this directory", path=found.path, hint="is it the right one?"
        )
    # Without the right secret nothing can be told from damaged; then nothing is called damaged.
    errors: list[PerdureError] = [file.error for file in found.snapshots if file.error is not None]
    errors += [file.error for file in found.segments if file.error is not None]
    usable = any(file.segment is not None for file in found.segments) or bool(found.good_snapshots)
    for error in errors:
        if not usable and error.hint is not None and "secret=" in error.hint:
            raise error
    return found
