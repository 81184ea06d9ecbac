"""How a segment is laid out in bytes: its header and its records."""

from __future__ import annotations

import struct
import zlib
from typing import Any, Protocol

import msgspec

from perdure import records
from perdure.errors import CorruptError, FormatVersionError
from perdure.limits import SEGMENT_DESCRIPTION_BYTES_MAX
from perdure.records import Chain, Scanned

FORMAT_VERSION = 1
_FLAG_MAC = 1


class SegmentHeader(msgspec.Struct, frozen=True):
    """What a segment says of itself.

    ``number``: counts segments from 1. ``base_seq``: the seq of its first entry. ``durability``: of the writer (0
    always, 1 everysec, 2 never). ``chain_start``: where the chain of authentication codes stood before it.
    ``description``: codec, code fingerprints and the like.
    """

    number: int
    base_seq: int
    created_ns: int
    log_id: bytes
    durability: int = 0
    chain_start: bytes = bytes(records.MAC_BYTES)
    description: dict[str, Any] = {}

    @property
    def salt(self) -> int:
        """What the checksums of its records begin with. Of what is known even if the header is lost: see ``scan``."""
        return zlib.crc32(self.log_id + self.number.to_bytes(4, "little"))


class Framing(Protocol):
    """The layout of a segment's bytes. Pure: no file is touched."""

    name: str
    head_bytes_max: int
    """A file's header lies within its first bytes, at most this many."""

    def encode_header(self, header: SegmentHeader, chain: Chain | None) -> bytes: ...

    def decode_header(self, data: bytes, path: str, chain: Chain | None) -> tuple[SegmentHeader, int, Chain | None]:
        """The header, the offset of the first record, and the chain for it.

        Raises:
            CorruptError: these bytes are no header, or not one of this chain.
            FormatVersionError: a newer perdure wrote them.
        """
        ...

    def encode(
        self,
        seq: int,
        at_ns: int,
        kind: int,
        payload: bytes,
        watermark: int,
        utc_offset_min: int = 0,
        client: bytes = b"",
        counter: int = 0,
        chain: Chain | None = None,
        salt: int = 0,
        more: bool = False,
    ) -> bytes: ...

    def scan(
        self, data: bytes, offset: int, seq: int, *, watermark: int = 0, chain: Chain | None = None, salt: int = 0
    ) -> Scanned: ...

    def proves_durable(
        self, data: bytes, offset: int, seq: int, *, salt: int = 0, known_seq: int = 0
    ) -> int | None: ...


_MAGIC = b"PERDJRNL"
_FIXED = struct.Struct("<8sIIHHIQqQ16s16s")  # magic crc size version flags number base created durability log chain
_CHECKED_FROM = 12
_decode_description = msgspec.msgpack.Decoder(dict[str, Any]).decode


class BinaryFraming:
    """The layout of ``docs/format/journal-v1.md``: the default."""

    name = "binary"
    head_bytes_max: int = _FIXED.size + SEGMENT_DESCRIPTION_BYTES_MAX + records.MAC_BYTES

    encode = staticmethod(records.encode)
    scan = staticmethod(records.scan)
    proves_durable = staticmethod(records.proves_durable)

    def encode_header(self, header: SegmentHeader, chain: Chain | None) -> bytes:
        description = msgspec.msgpack.encode(header.description)
        size = _FIXED.size + len(description) + (records.MAC_BYTES if chain is not None else 0)
        fixed = _FIXED.pack(
            _MAGIC,
            0,
            size,
            FORMAT_VERSION,
            _FLAG_MAC if chain is not None else 0,
            header.number,
            header.base_seq,
            header.created_ns,
            header.durability,
            header.log_id,
            header.chain_start,
        )
        checked = fixed[_CHECKED_FROM:] + description
        if chain is not None:
            checked += chain.extend(checked)
        return _MAGIC + zlib.crc32(checked).to_bytes(4, "little") + checked

    def decode_header(self, data: bytes, path: str, chain: Chain | None) -> tuple[SegmentHeader, int, Chain | None]:
        if len(data) < _FIXED.size or data[:8] != _MAGIC:
            raise CorruptError("this is not a perdure segment, or its header is damaged", path=path, offset=0)
        _, crc, size, version, flags, number, base, created, durability, log_id, start = _FIXED.unpack_from(data)
        extras = records.MAC_BYTES if flags & _FLAG_MAC else 0
        checked = data[_CHECKED_FROM:size]
        if not _FIXED.size + extras <= size <= min(len(data), self.head_bytes_max) or zlib.crc32(checked) != crc:
            raise CorruptError("the segment's header is damaged", path=path, offset=0)
        # Behind the checksum: magic, checksum, size and version keep their places in every version.
        if version > FORMAT_VERSION:
            raise FormatVersionError(
                f"journal format {version}; this perdure reads up to {FORMAT_VERSION}",
                path=path,
                hint="upgrade perdure",
            )
        if chain is not None:
            chain = chain.at(start)
            if not extras or not chain.accepts(checked[:-extras], checked[-extras:]):
                raise CorruptError(
                    "the segment's header is not authentic", path=path, offset=0, hint="is the right secret= given?"
                )
        elif extras:
            raise CorruptError(
                "the journal carries authentication codes", path=path, offset=0, hint="open it with its secret="
            )
        try:
            description = _decode_description(data[_FIXED.size : size - extras])
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise CorruptError("the segment's description cannot be read", path=path, offset=_FIXED.size) from error
        return SegmentHeader(number, base, created, log_id, durability, start, description), size, chain


BINARY: Framing = BinaryFraming()
