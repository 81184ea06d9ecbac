"""What a directory is beside being somebody's: a replica's, or that of a writer whom a newer one has replaced.

It stands in a small JSON file, ``role.json``, written before anything that depends on it: so no crash leaves a replica
that somebody takes for the original, or a writer that does not know that it was replaced. A directory without the file
is a writer's.

A *term* counts writers: the first one's is 0, and each replica that is promoted begins the next one with an entry of
the kind ``TERM`` in the journal. It is what Raft calls by this name, and the fencing token of Kleppmann's "How to do
distributed locking" (2016).
"""

from __future__ import annotations

import contextlib
import os
from typing import Literal

import msgspec

from perdure.errors import CorruptError, FencedError, ReadOnlyError, StorageError
from perdure.fs import Fs
from perdure.records import Entry

ROLE_NAME = "role.json"


class Role(msgspec.Struct, frozen=True):
    """``replica``: ``url`` is where it follows. ``fenced``: a writer of ``term`` has taken over."""

    role: Literal["replica", "fenced"]
    term: int = 0
    url: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Role).decode
_encode_term = msgspec.msgpack.Encoder().encode
_decode_term = msgspec.msgpack.Decoder(int).decode


def term_payload(term: int) -> bytes:
    """What an entry of the kind ``TERM`` holds."""
    return _encode_term(term)


def term_of(entry: Entry) -> int:
    """Which writer an entry of the kind ``TERM`` announces. Raises ``CorruptError``."""
    try:
        return _decode_term(entry.payload)
    except msgspec.MsgspecError as error:
        raise CorruptError("the term of a writer cannot be read", seq=entry.seq) from error


def read_role(fs: Fs, directory: str) -> Role | None:
    """Raises ``CorruptError`` where the file is there and says nothing that can be understood, ``StorageError`` where
    nobody can tell.
    """
    path = os.path.join(directory, ROLE_NAME)
    try:
        return _decode(fs.read_all(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"it cannot be read: {error.strerror}", path=path) from error
    except msgspec.MsgspecError as error:
        raise CorruptError(
            "it does not say whose directory this is",
            path=path,
            hint="a replica's: delete the whole directory and follow again; a writer's: delete this file",
        ) from error


def write_role(fs: Fs, directory: str, role: Role) -> None:
    """Durably. Raises ``OSError``."""
    fs.write_atomically(os.path.join(directory, ROLE_NAME), [_encode(role)])


def remove_role(fs: Fs, directory: str) -> None:
    """Durably. Raises ``OSError``."""
    with contextlib.suppress(FileNotFoundError):
        fs.unlink(os.path.join(directory, ROLE_NAME))
    fs.sync_directory(directory)


def refuse_replica(fs: Fs, directory: str) -> None:
    """Raises ``ReadOnlyError`` where the directory is a replica's: two writers would each go their own way."""
    role = read_role(fs, directory)
    if role is not None and role.role == "replica":
        raise ReadOnlyError(
            f"this directory belongs to a replica of {role.url}",
            path=directory,
            hint="open it with perdure.follow, which can promote it; or read beside it with mode='r'",
        )


def refuse_fenced(fs: Fs, directory: str, term: int) -> None:
    """Raises ``FencedError`` where a writer newer than ``term`` is known to have taken over."""
    role = read_role(fs, directory)
    if role is not None and role.role == "fenced" and role.term > term:
        raise fenced(directory, role.term, term)


def fenced(path: str | None, newer: int, own: int) -> FencedError:
    """What a writer is told that a newer one has replaced."""
    return FencedError(
        f"a replica was promoted: the writer of term {newer} has replaced this one, of term {own}",
        path=path,
        hint="call the new writer; to keep this machine as its replica, set the directory aside and follow it",
    )
