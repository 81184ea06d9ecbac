"""What stands in a log's entries. Pure.

An entry is a head and a body. The head: format, kind, the writer's time and offset from UTC, a fingerprint of the
writer's code, and a checksum of all the rest. The body: for a group, the payloads of its commands; for anything else
one small record. ``docs/format/cluster-v1.md`` has the table.

A command has a *seq*, as everywhere in perdure, and an entry has a *position*, which is the engine's. Nodes count seqs
while they apply, so all of them count the same: a group's commands take one each, everything else takes none.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from perdure.errors import CorruptError, FormatVersionError
from perdure.records import GENESIS, GROUP, NO_CLIENT, SNAPSHOT, TERM

MARK = 7
"""Every node digests its state here, and the one that asked for it takes a snapshot."""
VOTE = 8
"""A node says what its digest was at a mark."""
BARRIER = 9
"""Nothing: whoever appended it knows, once it has come back, that it has seen everything before it."""

_KINDS = frozenset({GENESIS, GROUP, SNAPSHOT, TERM, MARK, VOTE, BARRIER})
_FORMAT_VERSION = 1
_HEAD = struct.Struct("<IBBhqQ")  # checksum, format, kind, UTC offset in minutes, nanoseconds since 1970, code
_CHECKED_FROM = 4
HEAD_BYTES = _HEAD.size

Body = TypeVar("Body")


class Head(NamedTuple):
    """``code``: of the writer's description, to tell nodes with different code."""

    kind: int
    utc_offset_min: int
    at_ns: int
    code: int


class Request(NamedTuple):
    """A command in a group. ``client`` and ``counter``: where it may be repeated by whoever asked for it."""

    payload: bytes
    client: bytes = NO_CLIENT
    counter: int = 0


class Genesis(msgspec.Struct, frozen=True):
    """The first entry. ``snapshot``: the blob with the initial state, of ``seq``. ``description``: see ``State``."""

    log_id: bytes
    description: dict[str, Any]
    snapshot: str
    seq: int


class Term(msgspec.Struct, frozen=True):
    """Who may write from here on: one session, or with an empty one everybody."""

    session: bytes


class Mark(msgspec.Struct, frozen=True):
    """``mark``: 16 bytes that name it. ``node``: the session that takes the snapshot."""

    mark: bytes
    node: bytes


class Announcement(msgspec.Struct, frozen=True):
    """A snapshot is there and was read back. ``position``: of the entry that it contains last: its mark."""

    mark: bytes
    node: bytes
    seq: int
    position: int
    digest: bytes
    snapshot: str
    size_bytes: int


class Vote(msgspec.Struct, frozen=True):
    """What a node's digest was at a mark."""

    mark: bytes
    node: bytes
    seq: int
    digest: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode_group = msgspec.msgpack.Decoder(list[bytes | tuple[bytes, bytes, int]]).decode


def code_of(description: Mapping[str, Any]) -> int:
    """Equal for nodes that run the same methods."""
    return zlib.crc32(msgspec.msgpack.encode(description.get("methods", {}), order="deterministic"))


def encode_entry(head: Head, body: bytes) -> bytes:
    """The data of an entry."""
    checked = _HEAD.pack(0, _FORMAT_VERSION, *head)[_CHECKED_FROM:] + body
    return zlib.crc32(checked).to_bytes(4, "little") + checked


def encode_group(requests: Sequence[Request]) -> bytes:
    """The body of a group."""
    return _encode([tuple(each) if each.client else each.payload for each in requests])


def encode_body(body: msgspec.Struct) -> bytes:
    """The body of anything else."""
    return _encode(body)


def decode_head(data: bytes, position: int) -> Head:
    """Raises ``CorruptError`` where the entry is damaged, ``FormatVersionError`` where it is of a newer perdure."""
    if len(data) < HEAD_BYTES:
        raise CorruptError("an entry is shorter than its head", seq=position)
    checksum, version, kind, offset_min, at_ns, code = _HEAD.unpack_from(data)
    if zlib.crc32(memoryview(data)[_CHECKED_FROM:]) != checksum:
        raise CorruptError("an entry's checksum is wrong: it was damaged, or perdure did not write it", seq=position)
    if version != _FORMAT_VERSION or kind not in _KINDS:
        raise FormatVersionError(f"an entry of format {version}, kind {kind}", seq=position, hint="upgrade perdure")
    return Head(kind, offset_min, at_ns, code)


def decode_group(data: bytes, position: int) -> list[Request]:
    """The commands in a group. Raises ``CorruptError``."""
    try:
        found = _decode_group(memoryview(data)[HEAD_BYTES:])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CorruptError(f"a group cannot be read: {error}", seq=position) from error
    return [Request(each) if type(each) is bytes else Request(*each) for each in found]


def decode_body(data: bytes, kind: type[Body], position: int) -> Body:
    """The body of anything else. Raises ``CorruptError``."""
    try:
        return msgspec.msgpack.decode(memoryview(data)[HEAD_BYTES:], type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CorruptError(f"a {kind.__name__.lower()} cannot be read: {error}", seq=position) from error
