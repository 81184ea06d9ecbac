"""One item ↔ the bytes of its file or object. Pure.

The encoded value, then (only where the file's name is a hash) the item's name, then sixteen bytes: the length of
the name, the checksum of all before, and a mark. The value comes first so that any reader of its codec finds it:
``pickle.load`` stops at the end of the pickle. The layout is that of ``docs/format/stash-item-v1.md``.

Bytes without the mark are taken as a bare value, so that directories written by others can be read; a file that was
cut has lost its mark, and then its value is incomplete, too, which the codec notices.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from perdure.errors import CodecError, CorruptError
from perdure.stash._names import as_bytes, as_text

MARK = b"PERDITM1"
_TRAILER = struct.Struct("<II8s")  # length of the name, checksum, mark
TRAILER_BYTES = _TRAILER.size


class Item(NamedTuple):
    """``value``: encoded. ``name``: as it stands in the bytes, where it does. ``verified``: the checksum was right."""

    value: bytes | memoryview
    name: str | None
    verified: bool


def pack(value: bytes, name: str | None = None) -> list[bytes]:
    """The bytes of an item, in parts. ``name``: only where nothing else will tell it."""
    name_bytes = b"" if name is None else as_bytes(name)
    named = name_bytes + len(name_bytes).to_bytes(4, "little")
    crc = zlib.crc32(named, zlib.crc32(value))
    return [value, named[:-4] + _TRAILER.pack(len(name_bytes), crc, MARK)]


def unpack(data: bytes, path: str) -> Item:
    """Raises ``CorruptError`` where the mark is there and the checksum is not right."""
    if len(data) < TRAILER_BYTES or data[-8:] != MARK:
        return Item(data, None, verified=False)
    end = len(data) - TRAILER_BYTES
    name_bytes, crc, _ = _TRAILER.unpack_from(data, end)
    view = memoryview(data)
    # Everything but the checksum itself and the mark is covered, the length included.
    if name_bytes > end or zlib.crc32(view[: end + 4]) != crc:
        raise CorruptError("the item is damaged: its checksum is wrong", path=path, hint="delete it and make it anew")
    try:
        name = as_text(bytes(view[end - name_bytes : end])) if name_bytes else None
    except UnicodeDecodeError as error:
        raise CorruptError("the item's name is no text", path=path) from error
    return Item(view[: end - name_bytes], name, verified=True)


def name_in_tail(tail: bytes) -> tuple[int, str | None]:
    """From the last bytes of an item: how many of them are needed to tell its name, and the name if these suffice."""
    if len(tail) < TRAILER_BYTES or tail[-8:] != MARK:
        return 0, None
    name_bytes, _, _ = _TRAILER.unpack_from(tail, len(tail) - TRAILER_BYTES)
    needed = int(name_bytes) + TRAILER_BYTES
    if len(tail) < needed or not name_bytes:
        return needed, None
    try:
        return needed, as_text(tail[-needed:-TRAILER_BYTES])
    except UnicodeDecodeError:
        return 0, None


def undecodable(item: Item, error: CodecError, path: str) -> CodecError | CorruptError:
    """What to raise where the codec refused an item's value: it was not allowed, or the bytes are not whole."""
    # Each complete pickle ends with a full stop; half a file seldom does.
    if item.verified or bytes(item.value[-1:]) == b".":
        return CodecError(error.message, path=path, offset=error.offset, hint=error.hint)
    return CorruptError(
        f"the item is cut off or damaged: {error.message}", path=path, hint="delete it and make it anew"
    )
