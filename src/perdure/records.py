"""One entry ↔ framed, checksummed bytes. Pure: nothing here touches a file.

The layout is that of ``docs/format/journal-v1.md``. A record carries, beside its payload, the *watermark*: the highest
seq that was known durable when it was written. It is what tells a torn tail from corruption (see ``proves_durable``);
a checksum alone cannot, as Ganesan et al. show in "Protocol-Aware Recovery for Consensus-Based Storage" (FAST 2018).
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

import msgspec

from perdure.limits import RECORD_BYTES_MAX

# Kinds of entries. They have a seq of their own.
COMMAND = 1
OUTCOME = 2
TERM = 3
SNAPSHOT = 4
GENESIS = 5
GROUP = 6
# Kinds of marks. They carry the seq of the entry before them and count nothing.
MARKS = 0x80
WATERMARK = 0x80
SEAL = 0x81

FLAG_MAC = 1
FLAG_CLIENT = 2
FLAG_MORE = 4
_FLAGS_KNOWN = FLAG_MAC | FLAG_CLIENT | FLAG_MORE

MAGIC = b"\xd7PJ1"
_HEAD = struct.Struct("<4sIIBBhQqQ")  # magic, crc, body length, kind, flags, UTC offset, seq, time, watermark
_CHECKED = struct.Struct("<IBBhQqQ")  # the same without magic and crc
_pack_checked = _CHECKED.pack
_pack_start = struct.Struct("<4sI").pack
_CLIENT = struct.Struct("<16sQ")
HEAD_BYTES = _HEAD.size
MAC_BYTES = 16
_CHECKED_FROM = 8  # the checksum covers everything from here to the end of the body
_BODY_BYTES_MAX = RECORD_BYTES_MAX + _CLIENT.size + MAC_BYTES

NO_CLIENT = b""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry of a journal.

    ``at_ns``: nanoseconds since the Unix epoch. ``utc_offset_min``: the writer's offset from UTC at that time, minutes.
    ``client`` (16 bytes, or empty) and ``counter`` name the request it came from, so that a repeated one runs once.
    ``more``: the next entry was handed over in the same append.
    """

    seq: int
    at_ns: int
    kind: int
    payload: bytes
    utc_offset_min: int = 0
    client: bytes = NO_CLIENT
    counter: int = 0
    more: bool = False


class Chain:
    """The message authentication codes of a journal: each covers the record and, through its predecessor, all before
    it.

    Keyed BLAKE2b, 16 bytes. ``keys``: the first one writes, all of them read, so that a key can be replaced.
    """

    __slots__ = ("_key", "_keys", "value")

    def __init__(self, keys: Sequence[bytes], value: bytes = bytes(MAC_BYTES)) -> None:
        self._keys = tuple(_as_key(key) for key in keys)
        self._key = self._keys[0]
        self.value: bytes = value

    def extend(self, covered: bytes) -> bytes:
        """The code of the next record, which becomes the new end of the chain."""
        self.value = hashlib.blake2b(self.value + covered, key=self._key, digest_size=MAC_BYTES).digest()
        return self.value

    def accepts(self, covered: bytes, code: bytes) -> bool:
        """Whether ``code`` is right for the next record under any of the keys; if so it becomes the end of the
        chain."""
        for key in self._keys:
            expected = hashlib.blake2b(self.value + covered, key=key, digest_size=MAC_BYTES).digest()
            if hmac.compare_digest(expected, code):
                self._key, self.value = key, code
                return True
        return False

    def at(self, value: bytes) -> Chain:
        """A chain with the same keys that continues behind ``value``, written with the newest key."""
        chain = Chain(self._keys, value)
        return chain


def _as_key(secret: bytes) -> bytes:
    # BLAKE2b takes keys of up to 64 bytes; a longer secret is condensed first.
    return secret if 0 < len(secret) <= 64 else hashlib.blake2b(secret, digest_size=64).digest()


def encode(
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
    """The record of one entry or mark. ``payload``: at most ``RECORD_BYTES_MAX`` bytes, checked by the caller.

    ``salt``: of the segment it goes into; see ``scan``. ``more``: the next entry is handed over in the same append.
    """
    flags = FLAG_MORE if more else 0
    if client:
        flags |= FLAG_CLIENT
        payload = _CLIENT.pack(client, counter) + payload
    if chain is None:
        checked = _pack_checked(len(payload), kind, flags, utc_offset_min, seq, at_ns, watermark) + payload
    else:
        size = len(payload) + MAC_BYTES
        checked = _pack_checked(size, kind, flags | FLAG_MAC, utc_offset_min, seq, at_ns, watermark) + payload
        checked += chain.extend(checked)
    return _pack_start(MAGIC, crc32(checked, salt)) + checked


class Scanned(NamedTuple):
    """What a stretch of journal bytes holds.

    ``entries``: the entries, in order, without a gap. ``end``: the offset behind the last good record. ``seq``: of the
    last entry. ``watermark``: the highest one read. ``sealed``: a seal was read; nothing may follow it. ``problem``:
    why reading stopped before the end of the bytes, or ``None``. ``marked``: a mark is the last record. ``whole_end``:
    the offset behind the last append of which all records are there.
    """

    entries: list[Entry]
    end: int
    seq: int
    watermark: int
    sealed: bool
    problem: str | None
    marked: bool
    whole_end: int


def scan(
    data: bytes, offset: int, seq: int, *, watermark: int = 0, chain: Chain | None = None, salt: int = 0
) -> Scanned:
    """Reads records from ``offset`` on, the first of them with ``seq + 1``, until the end or the first bad one.

    A record is good when its checksum, its seq and, with ``chain``, its code are right. ``salt`` is what the checksum
    begins with, another one in each segment: so the bytes of another journal, as a payload or in a block that was used
    before, are never taken for a record of this one. (SQLite's write-ahead log has salts for the same reason.) Never
    raises.
    """
    entries: list[Entry] = []
    add = entries.append
    unpack = _HEAD.unpack_from
    size = len(data)
    whole_end = offset
    sealed = marked = False
    problem: str | None = None
    while offset < size:
        body = offset + HEAD_BYTES
        if body > size:
            problem = "the header is incomplete"
            break
        magic, crc, length, kind, flags, utc_offset_min, own_seq, at_ns, own_watermark = unpack(data, offset)
        end = body + length
        if magic != MAGIC or end > size:
            problem = "no record starts here" if magic != MAGIC else "the record is incomplete"
            break
        checked = data[offset + _CHECKED_FROM : end]
        if crc32(checked, salt) != crc:
            problem = "the checksum is wrong"
            break
        if own_seq != seq + 1 or kind >= MARKS or flags or chain is not None:
            problem = _unusual(own_seq, seq, kind, flags, length, checked, chain)
            if problem is not None:
                break
        offset = end
        if own_watermark > watermark:
            watermark = own_watermark
        if kind >= MARKS:
            marked = True
            whole_end = end
            if kind == SEAL:
                sealed = True
                problem = "bytes follow the seal" if offset < size else None
                break
            continue
        seq = own_seq
        marked = False
        if not flags:
            whole_end = end
            add(Entry(seq, at_ns, kind, checked[32:], utc_offset_min))
        else:
            if not flags & FLAG_MORE:
                whole_end = end
            add(_with_extras(seq, at_ns, kind, flags, utc_offset_min, checked))
    return Scanned(entries, offset, seq, watermark, sealed, problem, marked, whole_end)


_BODY_IN_CHECKED = HEAD_BYTES - _CHECKED_FROM


def _unusual(
    own_seq: int, seq: int, kind: int, flags: int, length: int, checked: bytes, chain: Chain | None
) -> str | None:
    """Why a record whose checksum is right is not the next one all the same; ``None`` where it is."""
    wanted = seq if kind >= MARKS else seq + 1
    if own_seq != wanted:
        return f"the record has seq {own_seq} where {wanted} belongs"
    if flags & ~_FLAGS_KNOWN:
        return f"the record has unknown flags {flags:#x}"
    extras = (_CLIENT.size if flags & FLAG_CLIENT else 0) + (MAC_BYTES if flags & FLAG_MAC else 0)
    if length < extras:
        return "the record is shorter than its own parts"
    if chain is not None:
        if not flags & FLAG_MAC:
            return "the record has no authentication code"
        if not chain.accepts(checked[:-MAC_BYTES], checked[-MAC_BYTES:]):
            return "the authentication code is wrong"
    return None


def _with_extras(seq: int, at_ns: int, kind: int, flags: int, utc_offset_min: int, checked: bytes) -> Entry:
    body = checked[_BODY_IN_CHECKED : len(checked) - (MAC_BYTES if flags & FLAG_MAC else 0)]
    more = bool(flags & FLAG_MORE)
    if not flags & FLAG_CLIENT:
        return Entry(seq, at_ns, kind, body, utc_offset_min, NO_CLIENT, 0, more)
    client, counter = _CLIENT.unpack_from(body)
    return Entry(seq, at_ns, kind, body[_CLIENT.size :], utc_offset_min, client, counter, more)


def proves_durable(data: bytes, offset: int, seq: int, *, salt: int = 0, known_seq: int = 0) -> int | None:
    """Whether bytes behind a bad spot prove that entry ``seq``, which should stand there, had been durable.

    Returns the offset of the proof, or ``None``: then the spot may be a torn tail. A crash can leave any part of what
    was written since the last sync, so a good record behind the spot proves nothing by itself; one whose watermark is
    ``seq`` or more was written after ``seq`` had been synced. And bytes are written in order: a good record of a later
    seq *at* the spot means that the one before it was taken out. ``known_seq``: what a snapshot says was durable:
    where the spot lies before that, any good record of a later seq behind it is something that must not be cut off.
    """
    spot = offset
    budget_bytes = 8 * len(data) + (1 << 20)  # Hostile bytes could otherwise make each byte be checked many times.
    while True:
        offset = data.find(MAGIC, offset)
        if offset < 0 or offset + HEAD_BYTES > len(data):
            return None
        _, crc, length, _, _, _, own_seq, _, watermark = _HEAD.unpack_from(data, offset)
        end = offset + HEAD_BYTES + length
        proves = watermark >= seq or offset == spot or seq <= known_seq < own_seq
        if proves and own_seq >= seq and end <= len(data):
            budget_bytes -= length
            if budget_bytes < 0 or crc32(data[offset + _CHECKED_FROM : end], salt) == crc:
                return offset
        offset += 1
