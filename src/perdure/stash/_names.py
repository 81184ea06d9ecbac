"""Names of items ↔ names of files. Pure.

A name may be any text; what becomes of it is a file name that stays in its directory, that no two names share, not
even on a file system that folds case or normalises Unicode, and from which the name can be read again. So: lower-case
ASCII letters, digits and ``- _ . = @ + ,`` stand for themselves, every other byte of the UTF-8 form becomes ``%xx``.
A name whose form is too long for a file becomes the beginning of that form, ``%~`` and a hash; the name itself then
stands in the file.
"""

from __future__ import annotations

import hashlib
import re

from perdure.errors import CorruptError
from perdure.fs import TEMPORARY_MARK

FILE_NAME_BYTES_MAX = 255
TEMPORARY_BYTES = len(TEMPORARY_MARK) + 16
"""By which a file's temporary name is longer."""
HASHED_MARK = "%~"
_EMPTY = "%~"
_HASH_BYTES = 20
_READABLE_CHARACTERS = 48
_PLAIN = re.compile(r"[a-z0-9_=@+,\-][a-z0-9_=@+,.\-]*")
_TO_ENCODE = re.compile(rb"[^a-z0-9_=@+,.\-]")
_ESCAPED = re.compile(rb"%([0-9a-f]{2})")
_WHOLE_ESCAPES = re.compile(r"(?:[^%]|%[0-9a-f]{2})*")


def as_bytes(name: str) -> bytes:
    """UTF-8 for every text, lone surrogates included."""
    return name.encode("utf-8", "surrogatepass")


def as_text(data: bytes) -> str:
    """The inverse of ``as_bytes``; ``UnicodeDecodeError`` where these bytes are no text."""
    return data.decode("utf-8", "surrogatepass")


def read(data: bytes, where: str) -> str:
    """``as_text`` for names that come from a store into which others may have written.

    Raises:
        CorruptError: these bytes are no name.
    """
    try:
        return as_text(data)
    except UnicodeDecodeError as error:
        raise CorruptError(f"a name there is no text: {data[:40]!r}", path=where) from error


def encode(name: str, characters_max: int) -> str:
    """The form of ``name`` in a file's name, at most ``characters_max`` ASCII characters (which is at least 100)."""
    text = name if _PLAIN.fullmatch(name) else _escape(name)
    # A form must look neither like perdure's temporary files nor like a file that some systems drop the end of.
    if TEMPORARY_MARK in text or text.endswith("."):
        text = text.replace(TEMPORARY_MARK, "%2e" + TEMPORARY_MARK[1:])
        text = text[:-1] + "%2e" if text.endswith(".") else text
    if len(text) <= characters_max:
        return text or _EMPTY
    beginning = _WHOLE_ESCAPES.match(text, 0, _READABLE_CHARACTERS)
    assert beginning is not None
    return beginning[0] + HASHED_MARK + hashlib.blake2b(as_bytes(name), digest_size=_HASH_BYTES).hexdigest()


def _escape(name: str) -> str:
    escaped = _TO_ENCODE.sub(lambda match: b"%%%02x" % match[0][0], as_bytes(name)).decode("ascii")
    # A leading dot would hide the file, or make it "." or "..".
    return "%2e" + escaped[1:] if escaped.startswith(".") else escaped


def is_hashed(text: str) -> bool:
    """Whether the name cannot be read from this form, but stands in the file."""
    return HASHED_MARK in text and text != _EMPTY


def decode(text: str, characters_max: int) -> str | None:
    """The name that has this form; ``None`` where there is none, so that the file is not one of the stash's."""
    if text == _EMPTY:
        return ""
    try:
        name = as_text(_ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), text.encode("ascii")))
    except UnicodeError:
        return None
    return name if encode(name, characters_max) == text else None
