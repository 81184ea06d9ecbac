"""A journal as lines of JSON: one header, one line an entry, a seal. The layout is that of ``docs/format/dict-v1.md``.

What a crash can leave is told apart as in the binary journal, by watermarks: each line says up to which entry the
journal was durable when it was written (``durable``).
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, NoReturn
from zlib import crc32

import msgspec

from perdure.errors import CorruptError, FormatVersionError, UsageError
from perdure.journal import SegmentHeader
from perdure.limits import SEGMENT_DESCRIPTION_BYTES_MAX
from perdure.mapping._line import SECOND_NS, Times, is_intact, sealed
from perdure.records import COMMAND, MARKS, NO_CLIENT, SEAL, WATERMARK, Chain, Entry, Scanned

FORMAT_VERSION = 1
_FORMAT = "dict journal"
_MARK_NAMES = {WATERMARK: "durable", SEAL: "end"}
_MARKS = {name: kind for kind, name in _MARK_NAMES.items()}
_encode = msgspec.json.Encoder().encode


# The numbers that the binary layout has room for, so that nothing behind this need ask.
_Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]
_Seq = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    perdure: str
    version: int
    segment: _Number
    first_seq: _Seq
    created: str
    log: str
    durability: int = 0
    description: dict[str, Any] = {}
    check: str | None = None


class _Line(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    seq: _Seq
    at: str
    durable: _Seq = 0
    entry: msgspec.Raw = msgspec.Raw()
    kind: Annotated[int, msgspec.Meta(ge=1, lt=MARKS)] = COMMAND
    data: str | None = None
    client: str = ""
    counter: _Seq = 0
    more: bool = False
    mark: str | None = None
    check: str | None = None


_decode_header = msgspec.json.Decoder(_Header).decode
_decode_line = msgspec.json.Decoder(_Line).decode


class LinesFraming:
    """The ``Framing`` of a dict's journal. A command's payload is the text of one JSON object; others are base64."""

    name = "lines"
    head_bytes_max = 4096 + SEGMENT_DESCRIPTION_BYTES_MAX

    def __init__(self) -> None:
        self._times = Times()

    def encode_header(self, header: SegmentHeader, chain: Chain | None) -> bytes:
        """See ``Framing.encode_header``."""
        if chain is not None:
            _refuse_secret()
        line = _Header(
            perdure=_FORMAT,
            version=FORMAT_VERSION,
            segment=header.number,
            first_seq=header.base_seq,
            created=self._times.text(header.created_ns, 0).decode(),
            log=header.log_id.hex(),
            durability=header.durability,
            description=header.description,
        )
        fields = {name: getattr(line, name) for name in line.__struct_fields__ if name != "check"}
        return sealed(_encode(fields)[:-1])

    def decode_header(self, data: bytes, path: str, chain: Chain | None) -> tuple[SegmentHeader, int, Chain | None]:
        """See ``Framing.decode_header``."""
        if chain is not None:
            _refuse_secret()
        end = data.find(b"\n", 0, self.head_bytes_max)
        line = data[:end] if end >= 0 else b""
        if not line.startswith(b'{"perdure":"') or is_intact(line) is False:
            other = "a binary journal" if data.startswith(b"PERDJRNL") else "line 1 is not the header of a dict journal"
            raise CorruptError(f"{other}, or it is damaged", path=path, offset=0)
        try:
            found = _decode_header(line)
            created_ns, _ = self._times.read(found.created)
            log_id = bytes.fromhex(found.log)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise CorruptError(f"line 1: the header cannot be read: {error}", path=path, offset=0) from error
        if found.perdure != _FORMAT or found.version > FORMAT_VERSION:
            raise FormatVersionError(
                f"{found.perdure}, format {found.version}; this perdure reads {_FORMAT}s up to {FORMAT_VERSION}",
                path=path,
                hint="upgrade perdure",
            )
        header = SegmentHeader(
            number=found.segment,
            base_seq=found.first_seq,
            created_ns=created_ns,
            log_id=log_id,
            durability=found.durability,
            description=found.description,
        )
        return header, end + 1, None

    def encode(
        self,
        seq: int,
        at_ns: int,
        kind: int,
        payload: bytes,
        watermark: int,
        utc_offset_min: int = 0,
        client: bytes = NO_CLIENT,
        counter: int = 0,
        chain: Chain | None = None,
        salt: int = 0,
        more: bool = False,
    ) -> bytes:
        """See ``Framing.encode``."""
        if chain is not None:
            _refuse_secret()
        if kind == COMMAND and not client and not more and payload[:1] == b"{" and b"\n" not in payload:
            # The usual line, in as few steps as it goes.
            second_ns, offset_min, day, zone = self._times.written
            rest_ns = at_ns - second_ns
            if 0 <= rest_ns < SECOND_NS and offset_min == utc_offset_min:
                start = b'{"seq":%d,"at":"%b.%09d%b","durable":%d,"entry":%b' % (
                    seq,
                    day,
                    rest_ns,
                    zone,
                    watermark,
                    payload,
                )
                return start + b',"check":"%08x"}\n' % crc32(start, salt)
        at = self._times.text(at_ns, utc_offset_min)
        start = b'{"seq":%d,"at":"%b","durable":%d' % (seq, at, watermark)
        if more:
            start += b',"more":true'
        if client:
            start += b',"client":"%b","counter":%d' % (client.hex().encode(), counter)
        if kind >= MARKS:
            return sealed(b'%b,"mark":"%b"' % (start, _MARK_NAMES[kind].encode()), salt)
        if kind == COMMAND and payload[:1] == b"{" and b"\n" not in payload:
            return sealed(b'%b,"entry":%b' % (start, payload), salt)
        return sealed(b'%b,"kind":%d,"data":"%b"' % (start, kind, base64.b64encode(payload)), salt)

    def scan(
        self, data: bytes, offset: int, seq: int, *, watermark: int = 0, chain: Chain | None = None, salt: int = 0
    ) -> Scanned:
        """See ``Framing.scan``. Problems name the line, where ``data`` is a whole file."""
        start = offset
        entries: list[Entry] = []
        add = entries.append
        size = len(data)
        sealed_here = marked = False
        problem: str | None = None
        whole_end = offset
        while offset < size:
            end = data.find(b"\n", offset)
            if end < 0:
                problem = "the line is incomplete"
                break
            found = self._read(data[offset:end], salt)
            if isinstance(found, str):
                problem = found
                break
            line, entry = found
            wanted = seq if entry is None else seq + 1
            if line.seq != wanted:
                problem = f"it has seq {line.seq} where {wanted} belongs"
                break
            watermark = max(watermark, line.durable)
            offset = end + 1
            if entry is None or not entry.more:
                whole_end = offset
            marked = entry is None
            if entry is not None:
                seq = entry.seq
                add(entry)
            elif line.mark == "end":
                sealed_here = True
                problem = "lines follow the last one" if offset < size else None
                break
        if problem is not None and start > 0:
            number = data.count(b"\n", 0, offset) + 1
            problem = f"line {number}: {problem}"
        return Scanned(entries, offset, seq, watermark, sealed_here, problem, marked, whole_end)

    def _read(self, text: bytes, salt: int) -> tuple[_Line, Entry | None] | str:
        """A line and its entry (``None`` for a mark), or what is wrong with it."""
        intact = is_intact(text, salt)
        if intact is False:
            return "its checksum is wrong; whoever edits a line takes its check field away"
        try:
            line = _decode_line(text)
            at_ns, utc_offset_min = self._times.read(line.at)
            if intact is None and line.check is not None:
                return "its check field is not the last one; whoever edits a line takes it away"
            if line.mark is not None:
                return (line, None) if line.mark in _MARKS else f"an unknown mark {line.mark!r}"
            payload = bytes(line.entry) if line.data is None else base64.b64decode(line.data, validate=True)
            client = bytes.fromhex(line.client)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return f"it is not JSON of the right form: {error}"
        if not payload:
            return "it holds no entry"
        return line, Entry(line.seq, at_ns, line.kind, payload, utc_offset_min, client, line.counter, line.more)

    def proves_durable(self, data: bytes, offset: int, seq: int, *, salt: int = 0, known_seq: int = 0) -> int | None:
        """See ``Framing.proves_durable``."""
        spot = offset
        while True:
            end = data.find(b"\n", offset)
            if end < 0:
                return None
            found = self._read(data[offset:end], salt)
            if not isinstance(found, str):
                line, _ = found
                proves = line.durable >= seq or offset == spot or seq <= known_seq < line.seq
                if proves and line.seq >= seq:
                    return offset
            offset = end + 1


def _refuse_secret() -> NoReturn:
    raise UsageError("lines that people may edit carry no authentication codes", hint="open it without secret=")
