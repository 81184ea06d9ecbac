"""The key that makes a repeated command run once, and the client and counter that the journal knows it by."""

from __future__ import annotations

import hashlib
import re

KEY_HEADER = "Idempotency-Key"
KEY_PATTERN = r"^[ \t]*[!-~]([ -~]{0,198}[!-~])?[ \t]*$"
"""Which values of the header are keys. Spaces and tabs around one are not part of it (RFC 9110, 5.5)."""
_KEY_LENGTH_MAX = 200
_OWN = re.compile(r"perdure:([0-9a-f]{32}):([1-9][0-9]{0,17})", re.ASCII)


def client_key(client_id: bytes, counter: int) -> str:
    """What perdure's own client sends: ``client_id``, 16 bytes for one connection; ``counter`` from 1 on.

    One number for each client and one counter for its commands: the server then keeps one receipt for each client that
    is busy, however many commands it sends.
    """
    return f"perdure:{client_id.hex()}:{counter}"


def identify(key: str, who: str) -> tuple[bytes, int]:
    """Client and counter for a key. ``who``: the name of the token, so that nobody gets another one's answer.

    Raises:
        ValueError: it is no key: empty, longer than 200 characters, or not printable ASCII.
    """
    if not key or len(key) > _KEY_LENGTH_MAX or not key.isascii() or not key.isprintable():
        raise ValueError(f"an idempotency key has 1 to {_KEY_LENGTH_MAX} printable ASCII characters")
    own = _OWN.fullmatch(key)
    name, counter = (own[1], int(own[2])) if own is not None else (key, 1)
    # Own and foreign keys never meet, and neither do the keys of two tokens: lengths come first.
    kind = b"own" if own is not None else b"key"
    text = b"%b\0%d\0%b\0%b" % (kind, len(who.encode()), who.encode(), name.encode())
    return hashlib.blake2b(text, digest_size=16).digest(), counter
