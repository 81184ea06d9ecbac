"""The feed's stream: frames of entries, and what is said between them. Pure: nothing here touches a socket or a file.

A frame is a header of 12 bytes, little-endian, and a body::

    magic    2 bytes   d7 46
    kind     1 byte
    flags    1 byte
    length   4 bytes   of the body
    crc      4 bytes   CRC-32 of kind, flags, length and body

The body of ``ENTRIES`` is records as in ``docs/format/journal-v1.md``, whose checksums begin with the CRC-32 of the log
id, so that those of another journal are not taken for its own. The other bodies are MessagePack.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from perdure import records
from perdure.errors import CorruptError, FormatVersionError
from perdure.limits import RECORD_BYTES_MAX
from perdure.records import Entry

VERSION = 1
HELLO = 1
ENTRIES = 2
HEARTBEAT = 3
CHECK = 4
DIGEST = 5
END = 6
FLAG_SETTLED = 1

_MAGIC = b"\xd7F"
_HEAD = struct.Struct("<2sBBII")
_CHECKED = struct.Struct("<BBI")
_BODY_BYTES_MAX = RECORD_BYTES_MAX + 4096
_encode = msgspec.msgpack.Encoder().encode


class Frame(NamedTuple):
    kind: int
    flags: int
    body: bytes


class Hello(msgspec.Struct, frozen=True):
    """What a feed begins with: whose it is, and how far that one is. ``version``: of the stream."""

    version: int
    log_id: bytes
    term: int
    seq: int
    description: dict[str, Any]


class Heartbeat(msgspec.Struct, frozen=True, array_like=True):
    """How far the primary is: its last settled entry, and now, by its own clock, nanoseconds since the Unix epoch."""

    seq: int
    now_ns: int


class Digested(msgspec.Struct, frozen=True, array_like=True):
    """The digest of the state behind an entry."""

    seq: int
    digest: bytes


class End(msgspec.Struct, frozen=True, array_like=True):
    """Why no more comes. ``reason``: "closed" (come again), "trimmed" (begin with a snapshot), "fenced"."""

    reason: str
    message: str


def encode_frame(kind: int, body: bytes, flags: int = 0) -> bytes:
    checked = crc32(body, crc32(_CHECKED.pack(kind, flags, len(body))))
    return _HEAD.pack(_MAGIC, kind, flags, len(body), checked) + body


def encode_message(kind: int, message: msgspec.Struct | int) -> bytes:
    return encode_frame(kind, _encode(message))


def encode_entries(entries: Sequence[Entry], salt: int, *, settled: bool) -> bytes:
    """``settled``: the outcomes of all commands up to here have come, too."""
    encode = records.encode
    body = b"".join(
        encode(
            entry.seq,
            entry.at_ns,
            entry.kind,
            entry.payload,
            0,
            entry.utc_offset_min,
            entry.client,
            entry.counter,
            None,
            salt,
            entry.more,
        )
        for entry in entries
    )
    return encode_frame(ENTRIES, body, FLAG_SETTLED if settled else 0)


def salt_of(log_id: bytes) -> int:
    """What the checksums of a feed's records begin with."""
    return crc32(log_id)


def decode_entries(body: bytes, after: int, salt: int) -> list[Entry]:
    """The entries of a frame, the first of them ``after + 1``. Raises ``CorruptError``."""
    scanned = records.scan(body, 0, after, salt=salt)
    if scanned.problem is not None or scanned.end != len(body):
        raise CorruptError(f"the feed is damaged: {scanned.problem or 'bytes behind its records'}", seq=scanned.seq + 1)
    return scanned.entries


def decode_message(frame: Frame, kind: Any) -> Any:
    """Raises ``CorruptError``."""
    try:
        return msgspec.msgpack.decode(frame.body, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise CorruptError(f"the feed says something that cannot be understood: {error}") from error


def check_hello(frame: Frame) -> Hello:
    """What the first frame says. Raises ``CorruptError`` and ``FormatVersionError``."""
    if frame.kind != HELLO:
        raise CorruptError("the feed does not begin with a greeting")
    hello: Hello = decode_message(frame, Hello)
    if hello.version > VERSION:
        raise FormatVersionError(f"feed format {hello.version}; this perdure reads up to {VERSION}", hint="upgrade")
    if len(hello.log_id) != 16:
        raise CorruptError("the feed names no log")
    return hello


class FrameReader:
    """Cuts a stream into frames. Holds one unfinished frame at most."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that ``data`` completes. Raises ``CorruptError`` at the first byte that belongs to none."""
        self._data += data
        buffer = self._data
        start = 0
        try:
            while len(buffer) - start >= _HEAD.size:
                magic, kind, flags, length, crc = _HEAD.unpack_from(buffer, start)
                if magic != _MAGIC or length > _BODY_BYTES_MAX:
                    raise CorruptError("this is not a feed, or it is damaged")
                body = start + _HEAD.size
                if len(buffer) < body + length:
                    return
                content = bytes(memoryview(buffer)[body : body + length])
                if crc32(content, crc32(_CHECKED.pack(kind, flags, length))) != crc:
                    raise CorruptError("the feed is damaged: a frame's checksum is wrong")
                start = body + length
                yield Frame(kind, flags, content)
        finally:
            del buffer[:start]


def mark_of(entry: Entry) -> str:
    """16 hexadecimal digits that tell an entry from any other that could have its seq."""
    told = _encode((entry.seq, entry.at_ns, entry.kind, entry.utc_offset_min, entry.client, entry.counter, entry.more))
    return hashlib.blake2b(told + entry.payload, digest_size=8).hexdigest()
