"""One stored result with what is known of it ↔ bytes. Pure.

The bytes are sealed (see ``_sealed``); their content is one MessagePack array with the fields of ``Entry``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from perdure.memo._sealed import seal, unseal

Kind = Literal["value", "raised", "array"]


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """``function`` and ``key``: whose result, so that a file that was moved is not taken for another's.

    ``code``: the digest of the code that computed it. ``made_at_ns``: wall time. ``kind``: what ``payload`` holds: the
    result, the exception that was raised instead, or where the array lies. ``codec``: the name of its codec.
    """

    function: str
    key: bytes
    code: bytes
    made_at_ns: int
    kind: Kind
    codec: str
    payload: bytes


_decode = msgspec.msgpack.Decoder(Entry).decode


def encode_entry(entry: Entry) -> list[bytes]:
    """The file's bytes, in chunks."""
    return seal(msgspec.msgpack.encode(entry))


def decode_entry(data: bytes) -> Entry | None:
    """The entry, or ``None`` for anything that is not whole."""
    content = unseal(data)
    if content is None:
        return None
    try:
        return _decode(content)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
