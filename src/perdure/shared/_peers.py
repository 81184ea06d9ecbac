"""Who is at the other end: a process of this user, and of nobody else.

Over a Unix domain socket the system says whose process it is. Over a loopback socket each side proves that it can read
the file with the secret, which only this user can.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import socket
import struct

from perdure.shared._frames import GoneError, Stream

_CREDENTIALS = struct.Struct("3i")  # Process, user, group: struct ucred of Linux.
_NONCE_BYTES = 32
SECRET_BYTES = 32

HAS_CREDENTIALS = hasattr(socket, "SO_PEERCRED")


def user_of(sock: socket.socket) -> tuple[int, int]:
    """The user and the process at the other end of a Unix domain socket. Raises ``GoneError``."""
    try:
        found = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError as error:
        raise GoneError(f"the system does not say who is there: {error}") from error
    process, user, _ = _CREDENTIALS.unpack(found)
    return user, process


def check_user(sock: socket.socket) -> int:
    """The process at the other end, if it is this user's. Raises ``GoneError``."""
    user, process = user_of(sock)
    if user != os.geteuid():
        raise GoneError(f"process {process} belongs to another user (uid {user})")
    return process


def prove(stream: Stream, secret: bytes, *, first: bool) -> None:
    """Both sides show that they know ``secret``, without sending it. ``first``: who speaks first, the owner.

    Raises:
        GoneError: the other side does not know it.
    """
    own = secrets.token_bytes(_NONCE_BYTES)
    if first:
        stream.send(own)
        other = stream.receive()
    else:
        other = stream.receive()
        stream.send(own)
    if len(other) != _NONCE_BYTES:
        raise GoneError("the other side does not prove who it is")
    mine = _proof(secret, b"owner" if first else b"client", own, other)
    stream.send(mine)
    expected = _proof(secret, b"client" if first else b"owner", other, own)
    if not hmac.compare_digest(stream.receive(), expected):
        raise GoneError("the other side does not know the secret")


def _proof(secret: bytes, role: bytes, own: bytes, other: bytes) -> bytes:
    return hmac.new(secret, role + own + other, hashlib.sha256).digest()
