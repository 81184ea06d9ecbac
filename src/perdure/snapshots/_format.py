"""One state ↔ the bytes of a snapshot file, in a stream. The layout is that of ``docs/format/snapshot-v1.md``."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from perdure.errors import CorruptError, FormatVersionError
from perdure.fs import Fs
from perdure.limits import RECEIPTS_BYTES_MAX, SEGMENT_DESCRIPTION_BYTES_MAX, SNAPSHOT_BLOCK_BYTES
from perdure.snapshots._protocol import SnapshotHeader

FORMAT_VERSION = 1
_MAGIC = b"PERDSNAP"
_FLAG_MAC = 1
_FIXED = struct.Struct("<8sIIHHQq16s")  # magic crc size version flags seq time log
_CHECKED_FROM = 12
_BLOCK = struct.Struct("<II")  # length, crc of what follows
_TRAILER = struct.Struct("<IQ32s32s32s")  # crc, content bytes, content hash, state digest, authentication code
_RECEIPTS = "receipts"
_HEADER_BYTES_MAX = _FIXED.size + SEGMENT_DESCRIPTION_BYTES_MAX + RECEIPTS_BYTES_MAX
_decode_description = msgspec.msgpack.Decoder(dict[str, Any]).decode


def _code(secret: bytes, header: bytes, content_bytes: int, content_hash: bytes, digest: bytes) -> bytes:
    key = hashlib.blake2b(secret, digest_size=64).digest()
    covered = header + content_bytes.to_bytes(8, "little") + content_hash + digest
    return hashlib.blake2b(covered, key=key, digest_size=32).digest()


def encode_header(header: SnapshotHeader, *, authentic: bool) -> bytes:
    fields = dict(header.description)
    if header.receipts:
        fields[_RECEIPTS] = header.receipts
    description = msgspec.msgpack.encode(fields)
    size = _FIXED.size + len(description)
    flags = _FLAG_MAC if authentic else 0
    fixed = _FIXED.pack(_MAGIC, 0, size, FORMAT_VERSION, flags, header.seq, header.at_ns, header.log_id)
    checked = fixed[_CHECKED_FROM:] + description
    return _MAGIC + zlib.crc32(checked).to_bytes(4, "little") + checked


def decode_header(data: bytes, path: str) -> tuple[SnapshotHeader, bytes, bool]:
    """The header, its own bytes, and whether the file is authenticated.

    Raises:
        CorruptError, FormatVersionError: like ``Framing.decode_header``.
    """
    if len(data) < _FIXED.size or data[:8] != _MAGIC:
        raise CorruptError("this is not a perdure snapshot, or its header is damaged", path=path, offset=0)
    _, crc, size, version, flags, seq, at_ns, log_id = _FIXED.unpack_from(data)
    if not _FIXED.size <= size <= len(data) or zlib.crc32(data[_CHECKED_FROM:size]) != crc:
        raise CorruptError("the snapshot's header is damaged", path=path, offset=0)
    # Behind the checksum: magic, checksum, size and version keep their places in every version.
    if version > FORMAT_VERSION:
        raise FormatVersionError(
            f"snapshot format {version}; this perdure reads up to {FORMAT_VERSION}", path=path, hint="upgrade perdure"
        )
    try:
        description = _decode_description(data[_FIXED.size : size])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CorruptError("the snapshot's description cannot be read", path=path, offset=_FIXED.size) from error
    receipts = description.pop(_RECEIPTS, b"")
    if not isinstance(receipts, bytes):
        raise CorruptError("the snapshot's receipts cannot be read", path=path, offset=_FIXED.size)
    return SnapshotHeader(seq, at_ns, log_id, description, receipts), data[:size], bool(flags & _FLAG_MAC)


class SnapshotWriter:
    """Writes a content in checksummed blocks; holds one block at most."""

    def __init__(self, fs: Fs, fd: int, header: SnapshotHeader, secret: bytes | None) -> None:
        self._fs = fs
        self._fd = fd
        self._secret = secret
        self._header = encode_header(header, authentic=secret is not None)
        self._block = bytearray()
        self._hash = hashlib.blake2b(digest_size=32)
        self._content_bytes = 0
        fs.write_all(fd, self._header)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        block = self._block
        block += data
        if len(block) >= SNAPSHOT_BLOCK_BYTES:
            view = memoryview(bytes(block))
            whole = len(view) - len(view) % SNAPSHOT_BLOCK_BYTES
            for start in range(0, whole, SNAPSHOT_BLOCK_BYTES):
                self._put_block(view[start : start + SNAPSHOT_BLOCK_BYTES])
            self._block = bytearray(view[whole:])
        return len(data)

    def _put_block(self, data: bytes | bytearray | memoryview) -> None:
        self._hash.update(data)
        self._content_bytes += len(data)
        self._fs.write_all(self._fd, _BLOCK.pack(len(data), zlib.crc32(data)) + bytes(data))

    def finish(self, digest: bytes) -> None:
        """Writes what is left and the trailer. Syncing is the caller's."""
        if self._block:
            self._put_block(self._block)
        content_hash = self._hash.digest()
        code = bytes(32)
        if self._secret is not None:
            code = _code(self._secret, self._header, self._content_bytes, content_hash, digest)
        trailer = _TRAILER.pack(0, self._content_bytes, content_hash, digest, code)[4:]
        self._fs.write_all(self._fd, _BLOCK.pack(0, 0) + zlib.crc32(trailer).to_bytes(4, "little") + trailer)


class SnapshotReader(io.RawIOBase):
    """A snapshot's content as a file to read from. Each block is checked before a byte of it is given out.

    Seekable, because a codec may look at all of a content before it loads it. ``io.BufferedReader(reader)`` gives the
    methods that unpicklers want.
    """

    _fd = -1  # Of the class: the interpreter closes what it throws away, even before it has a descriptor.

    def __init__(self, fs: Fs, path: str, secrets: Sequence[bytes] = ()) -> None:
        """Raises ``CorruptError`` where header, trailer or authentication code are wrong, before any content is
        read. Whether the content is the one that they speak of: see ``verify_content``.
        """
        super().__init__()
        self._fs = fs
        self._path = path
        self._fd = fs.open_for_reading(path)
        self._block_index = -1
        self._block = memoryview(b"")
        self._position = 0
        try:
            self.size_bytes: int = fs.size(self._fd)
            data = fs.read_range(self._fd, 0, _FIXED.size)
            wanted = min(_size_of_header(data), _HEADER_BYTES_MAX)
            data += fs.read_range(self._fd, _FIXED.size, wanted - _FIXED.size)
            header, self._header_bytes, authentic = decode_header(data, path)
            self.header: SnapshotHeader = header
            self.authentic: bool = authentic
            self._first_block = len(self._header_bytes)
            self._read_trailer()
            self._check_authentic(secrets)
        except BaseException:
            self.close()
            raise

    def _read_trailer(self) -> None:
        start = self.size_bytes - _TRAILER.size
        data = self._fs.read_range(self._fd, start, _TRAILER.size) if start >= self._first_block else b""
        if len(data) != _TRAILER.size:
            raise self._damaged(start, "the file is too short")
        crc, self._content_bytes, self._content_hash, digest, self._stored_code = _TRAILER.unpack(data)
        self.digest: bytes = digest
        if zlib.crc32(data[4:]) != crc:
            raise self._damaged(start, "its end is damaged or missing")
        blocks = -(-self._content_bytes // SNAPSHOT_BLOCK_BYTES)
        expected = self._first_block + self._content_bytes + (blocks + 1) * _BLOCK.size + _TRAILER.size
        if expected != self.size_bytes:
            raise self._damaged(start, f"it has {self.size_bytes} bytes where {expected} belong")

    def _check_authentic(self, secrets: Sequence[bytes]) -> None:
        if not secrets:
            if self.authentic:
                raise CorruptError(
                    "the snapshot carries an authentication code", path=self._path, hint="open it with its secret="
                )
            return
        if not self.authentic:
            raise self._damaged(self._first_block, "it was written without a secret, or its code was taken away")
        # The code covers the hash; that the blocks have this hash is checked before anything of them is decoded.
        for secret in secrets:
            code = _code(secret, self._header_bytes, self._content_bytes, self._content_hash, self.digest)
            if hmac.compare_digest(code, self._stored_code):
                return
        raise CorruptError("the snapshot is not authentic", path=self._path, hint="is the right secret= given?")

    def _hash_of_blocks(self) -> bytes:
        total = hashlib.blake2b(digest_size=32)
        for index in range(-(-self._content_bytes // SNAPSHOT_BLOCK_BYTES)):
            self._load_block(index)
            total.update(self._block)
        return total.digest()

    def verify_content(self) -> None:
        """Reads everything and compares with the stored hash: to be called before anything is decoded.

        Raises ``CorruptError``.
        """
        if self._hash_of_blocks() != self._content_hash:
            raise self._damaged(self._first_block, "its content does not have the stored hash")

    def _load_block(self, index: int) -> None:
        offset = self._first_block + index * (SNAPSHOT_BLOCK_BYTES + _BLOCK.size)
        size = min(SNAPSHOT_BLOCK_BYTES, self._content_bytes - index * SNAPSHOT_BLOCK_BYTES)
        data = self._fs.read_range(self._fd, offset, _BLOCK.size + size)
        length, crc = _BLOCK.unpack_from(data) if len(data) >= _BLOCK.size else (-1, 0)
        block = memoryview(data)[_BLOCK.size :]
        if length != size or len(block) != size or zlib.crc32(block) != crc:
            raise self._damaged(offset, "a block's checksum is wrong")
        self._block_index, self._block = index, block

    def _damaged(self, offset: int, problem: str) -> CorruptError:
        return CorruptError(f"the snapshot is damaged: {problem}", path=self._path, offset=max(0, offset))

    # ---- the file interface

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._content_bytes}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        if self._position >= self._content_bytes:
            return 0
        index, start = divmod(self._position, SNAPSHOT_BLOCK_BYTES)
        if index != self._block_index:
            self._load_block(index)
        part = self._block[start : start + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def close(self) -> None:
        if not self.closed:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                # The descriptor is gone even where this fails, and nothing was written through it.
                with contextlib.suppress(OSError):
                    self._fs.close(fd)
        super().close()


def _size_of_header(data: bytes) -> int:
    return int(_FIXED.unpack_from(data)[2]) if len(data) >= _FIXED.size else _FIXED.size
