"""Messages on a connected socket: a length (u32, big-endian), then so many bytes of MessagePack.

A request is ``[kind, counter, body]``, an answer ``[status, body]``. ``docs/format/shared-v1.md`` says what they mean.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Any

import msgspec

from perdure.errors import UsageError
from perdure.limits import SHARED_FRAME_BYTES_MAX, SHARED_HELLO_BYTES_MAX, SHARED_LEASE_S

_LENGTH = struct.Struct(">I")
_READ_BYTES = 1 << 16

# Kinds of requests.
HELLO, CALL, LOCK, UNLOCK, BEGIN, COMMIT, ROLLBACK, QUERY, CONTROL = range(9)

# What an answer holds: a value of MessagePack; bytes of the codec; a container with its place; an exception; all that
# an iterator gave; the object that was called itself. LEAVING: the owner is about to end and has done nothing.
VALUE, CODED, TREE, ERROR, SERIES, ITSELF, LEAVING = range(7)

Answer = tuple[int, Any]

encode = msgspec.msgpack.Encoder().encode
_decode_request = msgspec.msgpack.Decoder(tuple[int, int, bytes]).decode
_decode_answer = msgspec.msgpack.Decoder(tuple[int, Any]).decode


class GoneError(Exception):
    """The other side has gone away, or talks nonsense: this conversation is over. Never reaches a caller."""


class Stream:
    """One end of a conversation. One thread at a time."""

    __slots__ = ("_rest", "bytes_max", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.bytes_max = SHARED_HELLO_BYTES_MAX
        """Of a message that is taken in: little, until the other side is known."""
        self._rest = b""

    def welcome(self) -> None:
        """The other side is known: large messages are welcome from here on."""
        self.bytes_max = SHARED_FRAME_BYTES_MAX

    def send(self, message: bytes) -> None:
        """Raises ``GoneError``, and ``UsageError`` for what is too large: nothing was sent then."""
        if len(message) > SHARED_FRAME_BYTES_MAX:
            raise UsageError(
                f"a message of {len(message)} bytes; at most {SHARED_FRAME_BYTES_MAX} go to another process"
            )
        try:
            self.sock.sendall(_LENGTH.pack(len(message)) + message)
        except OSError as error:
            raise GoneError(f"nothing can be sent: {error}") from error

    def receive(self) -> bytes:
        """The next message. Raises ``GoneError``, and ``TimeoutError`` where the socket's time is up in between.

        After a ``TimeoutError`` what has come so far is kept, and the call may be made again.
        """
        data = self._rest
        if not data:
            # The usual case: one message comes in one piece.
            data = self._read(_READ_BYTES)
        while True:
            if len(data) >= 4:
                size = _LENGTH.unpack_from(data)[0]
                if size > self.bytes_max:
                    raise GoneError(f"a message of {size} bytes was announced; at most {self.bytes_max} are taken")
                if len(data) == size + 4:
                    self._rest = b""
                    return data[4:]
                if len(data) > size + 4:
                    self._rest = data[size + 4 :]
                    return data[4 : size + 4]
                data = self._fill(data, size + 4)
            else:
                data = self._fill(data, 4)

    def _fill(self, data: bytes, size: int) -> bytes:
        """``data`` and what follows it, at least ``size`` bytes in all."""
        parts = [data]
        missing = size - len(data)
        try:
            while missing > 0:
                # Memory is taken for what has come, never for what was announced.
                part = self._read(max(_READ_BYTES, min(missing, 1 << 22)))
                parts.append(part)
                missing -= len(part)
        except TimeoutError:
            self._rest = b"".join(parts)
            raise
        return b"".join(parts)

    def _read(self, size: int) -> bytes:
        try:
            part = self.sock.recv(size)
        except BlockingIOError as error:
            raise TimeoutError from error
        except OSError as error:
            raise GoneError(f"nothing can be received: {error}") from error
        if not part:
            raise GoneError("the other side has closed the connection")
        return part

    def set_timeout(self, seconds: float) -> None:
        """How long ``receive`` waits for the next bytes; 0: for ever."""
        # Not settimeout(): that asks the system twice for every message.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))

    def limit_sending(self) -> None:
        """Has ``send`` fail where the other side takes nothing for the time of a lease."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(SHARED_LEASE_S))

    def shut(self) -> None:
        """Ends the conversation; whoever waits in ``receive`` notices. Any thread may call."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Idempotent."""
        self.sock.close()


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return struct.pack("@ll", whole, int((seconds - whole) * 1e6))


def read_request(message: bytes) -> tuple[int, int, bytes]:
    """Kind, counter and body. Raises ``GoneError`` for what is no request."""
    try:
        return _decode_request(message)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise GoneError(f"this is no request: {error}") from error


def read_answer(message: bytes) -> Answer:
    """Status and body. Raises ``GoneError`` for what is no answer."""
    try:
        return _decode_answer(message)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise GoneError(f"this is no answer: {error}") from error
