"""Recording what a program does to a directory, through the seam that all of it passes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from perdure.fs import DIRECTORY_MODE, FILE_MODE, Fs
from perdure.testing._wrapping_fs import WrappingFs
from perdure.testing.crashsim._events import Event

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_TMPFILE = getattr(os, "O_TMPFILE", 0)


class RecordingFs(WrappingFs):
    """Does what it is asked, and notes every change below ``root`` in ``events``, in the order in which they happened.

    Any thread may call, and so may a forked child: its notes go through a file that it shares with its parent, and are
    in ``events`` after the parent's next change, or ``collect()``. A program that is started anew is not seen. What is
    done outside ``root`` is not noted, nor are locks and advice to the page cache: they change nothing that lasts.
    """

    def __init__(self, root: str, inner: Fs | None = None, events: list[Event] | None = None) -> None:
        super().__init__(inner)
        self._root = os.path.realpath(root)
        self._pid = self._owner = os.getpid()
        self._lock = threading.Lock()
        # Descriptor → its path below the root; None once the file has no name any more.
        self._paths: dict[int, str | None] = {}
        self.events: list[Event] = [] if events is None else events
        self._notes = _ChildrensNotes()

    def collect(self) -> None:
        """Brings what forked children did so far into ``events``. In a child: nothing."""
        with self._turn():
            pass

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """One change and its note, while no thread and no process does another: so the order is the true one."""
        if os.getpid() != self._pid:
            # A forked child: another thread of the parent may have held the lock, which nobody gives back here.
            self._pid = os.getpid()
            self._lock = threading.Lock()
        with self._lock, self._notes.turn():
            if self._pid == self._owner:
                self.events += self._notes.take()
            yield

    def _relative(self, path: str) -> str | None:
        """Below the root, or ``None`` where it is outside."""
        directory, name = os.path.split(os.path.abspath(path))
        whole = os.path.join(os.path.realpath(directory), name)
        if os.path.realpath(whole) == self._root:
            return ""
        return whole[len(self._root) + 1 :] if whole.startswith(self._root + os.sep) else None

    def _note(self, event: Event) -> None:
        if self._pid == self._owner:
            self.events.append(event)
        else:
            self._notes.put(event)

    # ---- primitives

    def open(self, path: str, flags: int, mode: int = FILE_MODE) -> int:
        relative = self._relative(path)
        if relative is None:
            return self.inner.open(path, flags, mode)
        if _TMPFILE and flags & _TMPFILE == _TMPFILE:
            raise NotImplementedError("files without a name are not modelled")
        with self._turn():
            existed = os.path.lexists(path)
            fd = self.inner.open(path, flags, mode)
            self._paths[fd] = relative
            if not existed:
                self._note(Event("create", relative))
            elif flags & os.O_TRUNC:
                self._note(Event("truncate", relative, size_bytes=0))
            return fd

    def close(self, fd: int) -> None:
        with self._turn():
            self._paths.pop(fd, None)
            self.inner.close(fd)

    def write(self, fd: int, data: ReadableBuffer) -> int:
        if self._paths.get(fd) is None:
            return self.inner.write(fd, data)
        with self._turn():
            offset = None if _appends(fd) else os.lseek(fd, 0, os.SEEK_CUR)
            taken = self.inner.write(fd, data)
            path = self._paths.get(fd)
            if path is not None and taken > 0:
                self._note(Event("write", path, offset=offset, data=bytes(memoryview(data)[:taken])))
            return taken

    def sync(self, fd: int) -> None:
        with self._turn():
            self.inner.sync(fd)
            path = self._paths.get(fd)
            if path is not None:
                self._note(Event("sync", path))

    def sync_names(self, directory_fd: int) -> None:
        with self._turn():
            self.inner.sync_names(directory_fd)
            path = self._paths.get(directory_fd)
            if path is not None:
                self._note(Event("sync_names", path))

    def truncate(self, fd: int, size_bytes: int) -> None:
        with self._turn():
            self.inner.truncate(fd, size_bytes)
            path = self._paths.get(fd)
            if path is not None:
                self._note(Event("truncate", path, size_bytes=size_bytes))

    def rename(self, source: str, target: str) -> None:
        old, new = self._relative(source), self._relative(target)
        if (old is None) != (new is None):
            raise NotImplementedError("renaming across the border of the directory under test is not modelled")
        with self._turn():
            self.inner.rename(source, target)
            if old is not None and new is not None:
                self._forget(new)
                below = old + os.sep
                for fd, path in self._paths.items():
                    if path == old:
                        self._paths[fd] = new
                    elif path is not None and path.startswith(below):
                        self._paths[fd] = new + path[len(old) :]
                self._note(Event("rename", old, new))

    def link(self, source: str, target: str) -> None:
        old, new = self._relative(source), self._relative(target)
        if (old is None) != (new is None):
            raise NotImplementedError("linking across the border of the directory under test is not modelled")
        with self._turn():
            self.inner.link(source, target)
            if old is not None and new is not None:
                self._note(Event("link", old, new))

    def unlink(self, path: str) -> None:
        relative = self._relative(path)
        with self._turn():
            self.inner.unlink(path)
            if relative is not None:
                self._forget(relative)
                self._note(Event("unlink", relative))

    def _forget(self, path: str) -> None:
        """What is still open under a name that is gone is nobody's business after a crash."""
        for fd, own in self._paths.items():
            if own == path:
                self._paths[fd] = None

    def mkdir(self, path: str, mode: int = DIRECTORY_MODE) -> None:
        relative = self._relative(path)
        with self._turn():
            self.inner.mkdir(path, mode)
            if relative is not None:
                self._note(Event("mkdir", relative))

    def rmdir(self, path: str) -> None:
        relative = self._relative(path)
        with self._turn():
            self.inner.rmdir(path)
            if relative is not None:
                self._note(Event("rmdir", relative))


class _ChildrensNotes:
    """A file without a name, in which forked children leave their events, and whose lock makes processes take turns."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as file:
            self._fd = os.dup(file.fileno())
        self._taken_bytes = 0
        weakref.finalize(self, os.close, self._fd)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        # lockf: such a lock belongs to a process, so a child is shut out although it shares the descriptor.
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def put(self, event: Event) -> None:
        """In a child, in its turn."""
        data = msgspec.msgpack.encode(event)
        data = len(data).to_bytes(8, "little") + data
        offset = os.fstat(self._fd).st_size
        while data:
            written = os.pwrite(self._fd, data, offset)
            data, offset = data[written:], offset + written

    def take(self) -> Iterator[Event]:
        """In the parent, in its turn: what it has not seen yet."""
        size_bytes = os.fstat(self._fd).st_size
        while self._taken_bytes < size_bytes:
            length = int.from_bytes(os.pread(self._fd, 8, self._taken_bytes), "little")
            data = os.pread(self._fd, length, self._taken_bytes + 8)
            if len(data) < length:
                raise RuntimeError("a forked child was killed while it noted a change: the recording is not complete")
            self._taken_bytes += 8 + length
            yield msgspec.msgpack.decode(data, type=Event)


def _appends(fd: int) -> bool:
    # A file opened for appending writes at its end, wherever the descriptor stands.
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND)
