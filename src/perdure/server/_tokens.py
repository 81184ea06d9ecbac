"""Bearer tokens: who may do what.

A token file has a line for each token: what it may do, the token, and a name. Empty lines and lines that begin with
``#`` say nothing::

    read,write  kJ3n…  alice
    read        b8Qz…  dashboard
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from perdure.errors import UsageError
from perdure.fs import Fs

READ = "read"
WRITE = "write"
SCOPES = frozenset({READ, WRITE})
_TOKEN_LENGTH_MIN = 16
_MAKE_HINT = 'make one: python -c "import secrets; print(secrets.token_urlsafe(32))"'


@dataclass(frozen=True)
class Token:
    """One token. ``digest``: SHA-256 of it; the token itself is not kept. ``name``: who retries are told apart by."""

    name: str
    scopes: frozenset[str]
    digest: bytes


ANYBODY = Token("", SCOPES, b"")
"""Who calls where there are no tokens: on loopback only."""


class Tokens:
    """All tokens of a server; none at all lets everybody in."""

    def __init__(self, tokens: Iterable[Token] = ()) -> None:
        self._tokens = tuple(tokens)

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def find(self, given: str) -> Token | None:
        """Whose token this is. Takes the same time whichever it is, and how much of it is right."""
        digest = hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest()
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found


def make_token(text: str, scopes: Iterable[str] = SCOPES, name: str | None = None) -> Token:
    """A token as the file has it. ``name``: by default something that tells nothing of the token.

    Raises:
        UsageError: it is too short to be a secret, or one of its scopes is unknown.
    """
    wanted = frozenset(scopes)
    if not wanted or wanted - SCOPES:
        raise UsageError(f"a token may {', '.join(sorted(wanted)) or 'nothing'}", hint='"read", "write", or both')
    if len(text) < _TOKEN_LENGTH_MIN or not text.isascii() or not text.isprintable() or " " in text:
        raise UsageError(
            f"a token has at least {_TOKEN_LENGTH_MIN} printable ASCII characters, and no spaces", hint=_MAKE_HINT
        )
    digest = hashlib.sha256(text.encode()).digest()
    return Token(name if name is not None else f"token-{digest.hex()[:12]}", wanted, digest)


def read_tokens(path: str, *, fs: Fs | None = None) -> Tokens:
    """The tokens in a file.

    Raises:
        UsageError: there is no such file, others may read it, or a line is not a token's.
    """
    fs = fs or Fs()
    try:
        fd = fs.open_for_reading(path)
    except OSError as error:
        raise UsageError(f"the token file cannot be read: {error.strerror}", path=path) from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError("the token file is no file", path=path)
        if found.st_uid not in (os.geteuid(), 0) or found.st_mode & 0o077:
            raise UsageError("others may read or change the token file", path=path, hint=f"chmod 600 {path}")
        text = fs.read_range(fd, 0, found.st_size).decode("utf-8", "replace")
    finally:
        fs.close(fd)
    tokens = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            tokens.append(_token_of(line.split(), number, path))
    if not tokens:
        raise UsageError("the token file holds no token", path=path, hint=_MAKE_HINT)
    if len({token.digest for token in tokens}) < len(tokens):
        raise UsageError("the token file holds a token twice", path=path)
    return Tokens(tokens)


def _token_of(words: list[str], number: int, path: str) -> Token:
    if len(words) not in (2, 3):
        raise UsageError(f"line {number} of the token file is not SCOPES TOKEN [NAME]", path=path)
    try:
        return make_token(words[1], words[0].split(","), words[2] if len(words) == 3 else None)
    except UsageError as error:
        raise UsageError(f"line {number} of the token file: {error.message}", path=path, hint=error.hint) from error
