"""Where the owner of a directory listens, and how the others find it by the directory alone.

The file ``owner`` in the directory is locked by the owner for as long as it lives, and says where it listens: a Unix
domain socket ``owner.sock`` beside it, or, where the system has none that says who calls, a port of the loopback
interface and a secret. A path longer than such a socket's address takes is reached through a descriptor of the
directory; where the system has no names for descriptors, the socket lies in a private directory of its own.

What a crash leaves: the file with an address at which nobody answers, and a socket file. The next owner locks the one
and replaces the other. Neither is data.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from perdure.fs import Fs, close_in_forked_children
from perdure.shared._frames import GoneError, Stream
from perdure.shared._peers import HAS_CREDENTIALS, SECRET_BYTES, check_user, prove

OWNER_FILE = "owner"
SOCKET_FILE = "owner.sock"
_ADDRESS_BYTES_MAX = 90
"""Systems differ in how long a socket's path may be: 108 bytes on Linux, 104 elsewhere, with a zero at the end."""
_FILE_BYTES_MAX = 4096
_BACKLOG = 128
_HAND_S = 10.0
"""How long the other side may take to say who it is."""


class Address(msgspec.Struct, omit_defaults=True):
    """``path``: of the socket, absolute; empty for the usual one. ``port``, ``secret``: of the loopback interface."""

    version: int = 1
    process: int = 0
    path: str = ""
    port: int = 0
    secret: bytes = b""


def uses_loopback() -> bool:
    """Whether this system has no Unix domain sockets that say who calls."""
    return not (hasattr(socket, "AF_UNIX") and HAS_CREDENTIALS)


class Claim:
    """The lock on the file ``owner``: who holds it is the owner, or about to become it."""

    def __init__(self, fs: Fs, directory: str) -> None:
        """Raises ``BlockingIOError`` where another process holds it, ``OSError`` where it cannot be had at all."""
        self._fs = fs
        self._fd = -1
        self.directory = directory
        # Before the lock is taken: from then on nothing may come between here and the caller.
        close_in_forked_children(self)
        try:
            path = os.path.join(directory, OWNER_FILE)
            self._fd = fs.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
            fs.lock(self._fd)
        except BaseException:
            self.release()
            raise

    def publish(self, address: Address) -> None:
        """Says where the owner listens. Nothing of it needs to survive a crash, so nothing is synced."""
        data = msgspec.json.encode(address) + b"\n"
        self._fs.truncate(self._fd, 0)
        self._fs.write_all(self._fd, data)

    def release(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._fs.close(fd)

    def after_fork_in_child(self) -> None:
        """A child is no owner: it closes its copy."""
        self.release()


class Listener:
    """Where the owner listens. ``accept`` waits for the next process and finds out who it is."""

    def __init__(self, fs: Fs, directory: str, *, loopback: bool | None = None) -> None:
        """Raises ``OSError``."""
        self._fs = fs
        self._made = ""
        self._made_directory = ""
        self.address = Address(process=os.getpid())
        if uses_loopback() if loopback is None else loopback:
            self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self.address.secret = secrets.token_bytes(SECRET_BYTES)
            try:
                self.sock.bind(("127.0.0.1", 0))
                self.address.port = self.sock.getsockname()[1]
                self.sock.listen(_BACKLOG)
            except BaseException:
                self.sock.close()
                raise
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._bind(directory)
            self.sock.listen(_BACKLOG)
        except BaseException:
            self.close()
            raise

    def _bind(self, directory: str) -> None:
        path = os.path.join(directory, SOCKET_FILE)
        if len(os.fsencode(path)) > _ADDRESS_BYTES_MAX and not _has_names_of_descriptors():
            self._made_directory = tempfile.mkdtemp(prefix="perdure-")
            path = self.address.path = os.path.join(self._made_directory, SOCKET_FILE)
        with contextlib.suppress(FileNotFoundError):
            # Whoever made it is gone: the lock on the file `owner` is ours.
            self._fs.unlink(path)
        with _reachable(self._fs, path) as name:
            self.sock.bind(name)
            self._made = path
            # Before listen(): until then nobody can connect, whatever the umask was.
            os.chmod(name, 0o600)

    def accept(self) -> Stream:
        """The next conversation. Raises ``OSError`` once the listener is closed."""
        sock, _ = self.sock.accept()
        return Stream(sock)

    def admit(self, stream: Stream) -> None:
        """Finds out who is at the other end. Raises ``GoneError`` and ``TimeoutError``."""
        stream.set_timeout(_HAND_S)
        stream.limit_sending()
        if self.address.secret:
            stream.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            prove(stream, self.address.secret, first=True)
        else:
            check_user(stream.sock)

    def close(self) -> None:
        """Idempotent. Takes the socket's file away, too."""
        # A thread that waits in accept() is not woken by a close.
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for remove, path in ((self._fs.unlink, self._made), (self._fs.rmdir, self._made_directory)):
            if path:
                with contextlib.suppress(OSError):
                    remove(path)
        self._made = self._made_directory = ""


def find(fs: Fs, directory: str) -> Address | None:
    """Where the owner says that it listens; ``None`` where nobody has said so, or is just about to."""
    try:
        data = fs.read_all(os.path.join(directory, OWNER_FILE))[:_FILE_BYTES_MAX]
        return msgspec.json.decode(data, type=Address) if data.endswith(b"\n") else None
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError):
        return None


def connect(fs: Fs, directory: str, address: Address) -> Stream:
    """A conversation with the owner, each side knowing who the other one is. Raises ``GoneError``."""
    sock = socket.socket(socket.AF_INET if address.port else socket.AF_UNIX, socket.SOCK_STREAM)
    stream = Stream(sock)
    try:
        stream.set_timeout(_HAND_S)
        stream.limit_sending()
        if address.port:
            sock.connect(("127.0.0.1", address.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            prove(stream, address.secret, first=False)
        else:
            with _reachable(fs, address.path or os.path.join(directory, SOCKET_FILE)) as name:
                sock.connect(name)
            check_user(sock)
    except (OSError, GoneError) as error:
        stream.close()
        raise GoneError(f"nobody answers: {error}") from error
    except BaseException:
        stream.close()
        raise
    return stream


def _has_names_of_descriptors() -> bool:
    return Path("/proc/self/fd").is_dir()


@contextlib.contextmanager
def _reachable(fs: Fs, path: str) -> Iterator[str]:
    """A name for the socket at ``path`` that is short enough to be an address."""
    if len(os.fsencode(path)) <= _ADDRESS_BYTES_MAX:
        yield path
        return
    fd = fs.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}/{os.path.basename(path)}"
    finally:
        fs.close(fd)
