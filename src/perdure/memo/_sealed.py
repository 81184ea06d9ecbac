"""A stored result ↔ bytes that tell whether they are whole. Pure.

======  =====  ==================================================================
offset  bytes  content
======  =====  ==================================================================
0       8      magic: ``93 70 64 72 53 0d 0a 01`` (``\\x93pdrS``, CR LF, version 1)
8       16     BLAKE2b-128 of everything that follows
24      …      the content
======  =====  ==================================================================

A torn write, a flipped bit, a file of another program and an empty file are all told from a whole one; whether somebody
wrote it on purpose is not: that is what the restricted codec is for. CR LF in the magic shows text-mode transfers.
"""

from __future__ import annotations

import hashlib

MAGIC = b"\x93pdrS\r\n\x01"
DIGEST_BYTES = 16
HEAD_BYTES = len(MAGIC) + DIGEST_BYTES


def seal(content: bytes) -> list[bytes]:
    """The file's bytes, in chunks."""
    return [MAGIC, _digest(content), content]


def unseal(data: bytes) -> memoryview | None:
    """The content, or ``None`` for anything that is not whole."""
    if len(data) < HEAD_BYTES or data[: len(MAGIC)] != MAGIC:
        return None
    content = memoryview(data)[HEAD_BYTES:]
    return content if _digest(content) == data[len(MAGIC) : HEAD_BYTES] else None


def is_sealed(data: bytes) -> bool:
    """Whether this was ever meant to be a sealed file."""
    return data.startswith(MAGIC)


def _digest(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
