"""Snapshots as lines of JSON: a header, one line a key, an end. Gzipped where that is asked for.

The layout is that of ``docs/format/dict-v1.md``. The end holds a checksum of the whole file, so that a file that
nobody touched is verified at once; where it differs, somebody has edited the file or it is damaged, and each line is
looked at by itself.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import msgspec

from perdure.errors import CodecError, CorruptError, FormatVersionError, StorageError, UsageError, WriteError
from perdure.fs import Fs, temporary_name
from perdure.limits import RECEIPTS_BYTES_MAX, SNAPSHOT_BLOCK_BYTES
from perdure.mapping._line import Times, is_intact, sealed
from perdure.snapshots import Digest, Dump, FileSnapshotStore, Snapshot, SnapshotHeader, Source, snapshot_name

Value = TypeVar("Value")
FORMAT_VERSION = 1
_FORMAT = "dict snapshot"
_GZIP = b"\x1f\x8b"
_FIRST_LINE_BYTES_MAX = SNAPSHOT_BLOCK_BYTES + 2 * RECEIPTS_BYTES_MAX
_encode = msgspec.json.Encoder().encode


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    perdure: str
    version: int
    seq: int
    at: str
    log: str
    description: dict[str, Any] = {}
    receipts: bytes = b""
    check: str | None = None


class _End(msgspec.Struct, forbid_unknown_fields=True):
    end: str
    lines: int | None = None
    digest: str = ""
    whole: str | None = None
    check: str | None = None


_decode_header = msgspec.json.Decoder(_Header).decode
_decode_end = msgspec.json.Decoder(_End).decode


class _Read(NamedTuple):
    header: SnapshotHeader
    content: bytes
    digest: bytes
    size_bytes: int


class WrongLineError(StorageError):
    """A snapshot is damaged, or was edited wrongly. ``error`` says where; whoever opens the dict raises that.

    It is no ``CorruptError``, because a machine meets such a one by setting the file aside and taking the snapshot
    before it. That would be safe, and would throw away without a word what somebody has just edited.
    """

    def __init__(self, error: CorruptError) -> None:
        super().__init__(error.message, path=error.path, offset=error.offset, hint=error.hint)
        self.error = error


class LinesSnapshotStore(FileSnapshotStore):
    """The ``SnapshotStore`` of a dict: what ``FileSnapshotStore`` is, in a layout that people can read and edit."""

    def __init__(self, directory: str, *, fs: Fs | None = None, gzipped: bool = False) -> None:
        super().__init__(directory, fs=fs)
        self._fs = fs or Fs()
        self._gzipped = gzipped
        self._times = Times()
        self._checked: tuple[str, _Read] | None = None

    def write(self, header: SnapshotHeader, dump: Dump, digest: Digest, prove: Callable[[Source], bytes]) -> str:
        """See ``SnapshotStore.write``."""
        path = os.path.join(self.directory, snapshot_name(header.seq))
        draft = temporary_name(path)
        try:
            fd = self._fs.create(draft)
            try:
                writer = _Writer(self._fs, fd, gzipped=self._gzipped)
                writer.write(self._header_line(header))
                dump(writer)
                expected = digest()
                writer.finish(expected)
                # Before the rename: without it a power cut could leave the name with nothing behind it.
                self._fs.sync(fd)
            finally:
                self._fs.close(fd)
            got = prove(io.BytesIO(self._read(draft).content))
            if got != expected:
                raise CodecError("the dict does not come back as it was stored", path=path, seq=header.seq)
        except OSError as error:
            self.discard(draft)
            raise WriteError(
                f"the disk refused the snapshot: {error.strerror}",
                path=path,
                seq=header.seq,
                hint="make room and retry",
            ) from error
        except BaseException:
            self.discard(draft)
            raise
        return draft

    def snapshot_at(self, seq: int) -> Snapshot:
        """See ``FileSnapshotStore.snapshot_at``."""
        path = self.path_of(seq)
        found = self._read(path)
        self._checked = path, found  # Loading it is what comes next.
        return Snapshot(found.header, path, found.size_bytes)

    def newest_first(self) -> list[Snapshot]:
        """See ``SnapshotStore.newest_first``. Only the first line of each is looked at."""
        found = []
        for seq in self.seqs():
            path = self.path_of(seq)
            try:
                data, size_bytes = self._first_bytes(path)
                header = self._read_header(_unzipped(data, path, limit=_FIRST_LINE_BYTES_MAX), path)
            except (CorruptError, OSError):
                continue
            found.append(Snapshot(header, path, size_bytes))
        return found

    def load(self, snapshot: Snapshot, load: Callable[[Source], Value]) -> tuple[Value, bytes]:
        """See ``SnapshotStore.load``."""
        checked, self._checked = self._checked, None
        path = snapshot.name
        try:
            found = checked[1] if checked is not None and checked[0] == path else self._read(path)
        except OSError as error:
            raise StorageError(f"the snapshot cannot be read: {error.strerror}", path=path) from error
        try:
            return load(io.BytesIO(found.content)), found.digest
        except CorruptError as error:
            error.path = error.path or path
            raise WrongLineError(error) from error

    # ---- reading

    def _header_line(self, header: SnapshotHeader) -> bytes:
        fields = {
            "perdure": _FORMAT,
            "version": FORMAT_VERSION,
            "seq": header.seq,
            "at": self._times.text(header.at_ns, 0).decode(),
            "log": header.log_id.hex(),
            "description": header.description,
        }
        if header.receipts:
            fields["receipts"] = header.receipts
        return sealed(_encode(fields)[:-1])

    def _first_bytes(self, path: str) -> tuple[bytes, int]:
        fd = self._fs.open_for_reading(path)
        try:
            data = self._fs.read_range(fd, 0, SNAPSHOT_BLOCK_BYTES)
            if b"\n" not in data:
                # Receipts make a long first line. (In a gzipped file the byte says nothing, and costs a longer read.)
                data += self._fs.read_range(fd, len(data), _FIRST_LINE_BYTES_MAX - len(data))
            return data, self._fs.size(fd)
        finally:
            self._fs.close(fd)

    def _read_header(self, data: bytes, path: str) -> SnapshotHeader:
        line = data[: max(0, data.find(b"\n"))]
        if data.startswith(b"PERDSNAP"):
            raise UsageError(
                "this holds a system, not a dict",
                path=path,
                hint="give the dict a directory of its own; perdure.open opens this one",
            )
        if not line.startswith(b'{"perdure":"') or is_intact(line) is False:
            raise CorruptError("line 1 is not the header of a dict snapshot, or it is damaged", path=path, offset=0)
        try:
            found = _decode_header(line)
            at_ns, _ = self._times.read(found.at)
            log_id = bytes.fromhex(found.log)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise CorruptError(f"line 1: the header cannot be read: {error}", path=path, offset=0) from error
        if found.perdure != _FORMAT or found.version > FORMAT_VERSION:
            raise FormatVersionError(
                f"{found.perdure}, format {found.version}; this perdure reads {_FORMAT}s up to {FORMAT_VERSION}",
                path=path,
                hint="upgrade perdure",
            )
        return SnapshotHeader(found.seq, at_ns, log_id, found.description, found.receipts)

    def _read(self, path: str) -> _Read:
        """A whole file, verified. Raises ``WrongLineError``, and ``OSError``."""
        try:
            return self._read_verified(path)
        except CorruptError as error:
            raise WrongLineError(error) from error

    def _read_verified(self, path: str) -> _Read:
        stored = self._fs.read_all(path)
        data = _unzipped(stored, path)
        header = self._read_header(data, path)
        start = data.index(b"\n") + 1
        if not data.endswith(b"\n"):
            data += b"\n"  # Some editors leave it out.
        last = data.rfind(b"\n", 0, len(data) - 1) + 1
        try:
            end = _decode_end(data[last:])
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise self._line_error(path, data, last, f"it is not the last line of a snapshot ({error})") from error
        content = data[start:last]
        digest = bytes.fromhex(end.digest) if _is_digest(end.digest) else bytes(32)
        if end.whole is None or end.whole != f"{zlib.crc32(data[:last]):08x}" or is_intact(data[last:-1]) is not True:
            self._check_lines(path, data, start, last, end)
        return _Read(header, content, digest, len(stored))

    def _check_lines(self, path: str, data: bytes, start: int, last: int, end: _End) -> None:
        """Looks at each line: right are those whose checksum is, or that carry none and are JSON."""
        if is_intact(data[last:-1]) is False:
            raise self._line_error(path, data, last, "its checksum is wrong")
        offset, count, edited = start, 0, False
        while offset < last:
            stop = data.index(b"\n", offset)
            line = data[offset:stop]
            intact = is_intact(line)
            if intact is False:
                problem = "its checksum is wrong; whoever edits a line takes its check field away"
                raise self._line_error(path, data, offset, problem)
            if intact is None:
                edited = True
                try:
                    found = msgspec.json.decode(line)
                    if isinstance(found, dict) and "check" in found:
                        raise ValueError("its check field is not the last one; whoever edits a line takes it away")
                except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                    raise self._line_error(path, data, offset, f"it is not JSON: {error}") from error
            offset, count = stop + 1, count + 1
        if end.lines is not None and count != end.lines and not edited:
            problem = f"{count} lines stand before it where it says {end.lines}; whoever takes lines out says so here"
            raise self._line_error(path, data, last, problem)

    @staticmethod
    def _line_error(path: str, data: bytes, offset: int, problem: str) -> CorruptError:
        number = data.count(b"\n", 0, offset) + 1
        return CorruptError(
            f"line {number}: {problem}",
            path=path,
            offset=offset,
            hint="correct the line; or move the file away: the snapshot before it and the journal hold everything",
        )


class _Writer:
    """Takes a snapshot's lines; keeps count and checksum."""

    def __init__(self, fs: Fs, fd: int, *, gzipped: bool) -> None:
        self._fs = fs
        self._fd = fd
        self._crc = 0
        self._lines = -1
        self._block = bytearray()
        self._packer = zlib.compressobj(wbits=31) if gzipped else None

    def write(self, data: bytes, /) -> int:
        self._crc = zlib.crc32(data, self._crc)
        self._lines += data.count(b"\n")
        self._put(data)
        return len(data)

    def _put(self, data: bytes) -> None:
        self._block += data if self._packer is None else self._packer.compress(data)
        if len(self._block) >= SNAPSHOT_BLOCK_BYTES:
            self._flush()

    def _flush(self) -> None:
        block, self._block = self._block, bytearray()
        self._fs.write_all(self._fd, bytes(block))

    def finish(self, digest: bytes) -> None:
        start = b'{"end":"%b","lines":%d,"digest":"%b","whole":"%08x"' % (
            _FORMAT.encode(),
            self._lines,
            digest.hex().encode(),
            self._crc,
        )
        self._put(sealed(start))
        if self._packer is not None:
            self._block += self._packer.flush()
        self._flush()


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _unzipped(data: bytes, path: str, limit: int = 0) -> bytes:
    """The lines themselves; the first ``limit`` bytes of them, if that is given."""
    if not data.startswith(_GZIP):
        return data[:limit] if limit else data
    try:
        return zlib.decompressobj(31).decompress(data, limit) if limit else gzip.decompress(data)
    except (zlib.error, EOFError, OSError) as error:
        raise CorruptError(f"the gzipped snapshot is damaged: {error}", path=path) from error
