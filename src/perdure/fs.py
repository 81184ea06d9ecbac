"""The only door to the disk.

Everything that perdure does to files goes through one ``Fs``: creating, appending, syncing, renaming, deleting,
locking. A test passes another one (``perdure.testing.FaultyFs``) and can then lose unsynced bytes, tear a write or
fill the disk at every single call. The methods of the first group are the primitives, one system call each, and the
only ones that a substitute has to replace; those of the second are built from them and carry the order in which things
must happen.

Errors are ``OSError`` here. Whoever knows what the bytes meant turns them into an error of the tree.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from perdure.errors import LockedError, MissingError, StorageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

if sys.platform != "win32":
    import fcntl

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
TEMPORARY_MARK = ".tmp-"
_WRITE_BYTES_MAX = 1 << 30  # Linux takes at most 2^31 - 4096 bytes in one write.


class Fs:
    """The machine's own file system. Stateless: any thread may call, and one instance serves a whole process."""

    # ---- primitives

    def open(self, path: str, flags: int, mode: int = FILE_MODE) -> int:
        """A file descriptor, never inherited by a program that is started later."""
        return os.open(path, flags | os.O_CLOEXEC, mode)

    # Not wrapped: no interrupt can come between a call of it and the system's.
    close: staticmethod[[int], None] = staticmethod(os.close)
    # Not wrapped: every buffered command goes through here.
    write: staticmethod[[int, ReadableBuffer], int] = staticmethod(os.write)
    """``write(fd, data)``: the number of bytes that were taken, which may be fewer than given."""

    def read_at(self, fd: int, size_bytes: int, offset: int) -> bytes:
        return os.pread(fd, size_bytes, offset)

    def sync(self, fd: int) -> None:
        """Returns when the file's bytes and its size are durable. After an error nobody knows: never call it again."""
        if sys.platform == "darwin":
            # A plain fsync on macOS leaves the bytes in the drive's cache.
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(fd)

    def sync_names(self, directory_fd: int) -> None:
        """Returns when the names in the directory are durable."""
        os.fsync(directory_fd)

    def truncate(self, fd: int, size_bytes: int) -> None:
        os.ftruncate(fd, size_bytes)

    def rename(self, source: str, target: str) -> None:
        """Atomic; replaces ``target``. Durable only after ``sync_directory``."""
        os.rename(source, target)

    def link(self, source: str, target: str) -> None:
        """A second name for a file; refuses an existing ``target``."""
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def mkdir(self, path: str, mode: int = DIRECTORY_MODE) -> None:
        os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def names(self, directory: str) -> list[str]:
        return os.listdir(directory)

    def stat(self, path: str) -> os.stat_result:
        return os.lstat(path)

    def touch(self, path: str) -> None:
        """Sets the time of the last change to now, for whoever evicts what was not used for longest."""
        os.utime(path, follow_symlinks=False)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def forget_cached(self, fd: int) -> None:
        """Drops the page cache's opinion of a file, so that the next read tells what the disk holds.

        After a failed sync Linux marks the lost pages clean and keeps showing them.
        """
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def lock(self, fd: int) -> None:
        """An exclusive lock on an open file or directory; ``BlockingIOError`` where somebody holds it."""
        # flock, not lockf: POSIX record locks vanish when any descriptor of the file is closed, and never exclude the
        # process's own second opening.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    # ---- built from them

    def create(self, path: str) -> int:
        """A new file for appending, mode 0600 whatever the umask; ``FileExistsError`` for anything already there."""
        fd = self.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW, FILE_MODE)
        with closing_on_error(self, fd):
            if stat.S_IMODE(os.fstat(fd).st_mode) != FILE_MODE:
                os.fchmod(fd, FILE_MODE)
        return fd

    def open_for_reading(self, path: str) -> int:
        """Refuses a symbolic link, so that a planted one cannot lead elsewhere, and a pipe, which could hold us up."""
        fd = self.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with closing_on_error(self, fd):
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
        return fd

    def write_all(self, fd: int, data: bytes | memoryview) -> None:
        """Writes until all is out. After an error any prefix of ``data`` may be in the file."""
        view = memoryview(data)
        while view:
            taken = self.write(fd, view[:_WRITE_BYTES_MAX])
            if taken <= 0:
                raise OSError(errno.EIO, "write took no bytes")
            view = view[taken:]

    def read_all(self, path: str) -> bytes:
        fd = self.open_for_reading(path)
        try:
            return self.read_range(fd, 0, self.size(fd))
        finally:
            self.close(fd)

    def read_range(self, fd: int, offset: int, size_bytes: int) -> bytes:
        """Up to ``size_bytes`` from ``offset``: fewer only where the file ends."""
        parts: list[bytes] = []
        while size_bytes > 0:
            part = self.read_at(fd, min(size_bytes, _WRITE_BYTES_MAX), offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            size_bytes -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def sync_directory(self, path: str) -> None:
        """Returns when creations, renames and deletions in the directory are durable."""
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sync_names(fd)
        finally:
            self.close(fd)

    def exists(self, path: str) -> bool:
        try:
            self.stat(path)
        except FileNotFoundError:
            return False
        return True

    def make_directory(self, path: str) -> None:
        """Creates a private directory with its parents where missing, and makes its name durable, at every call.

        The parent is synced even when nothing was created: an earlier process may have died between the two steps.
        """
        path = os.path.abspath(path)
        parent = os.path.dirname(path)
        if not os.path.isdir(path):
            if not os.path.isdir(parent):
                self.make_directory(parent)
            with contextlib.suppress(FileExistsError):
                self.mkdir(path)
                if self.stat(path).st_mode & DIRECTORY_MODE != DIRECTORY_MODE:
                    os.chmod(path, DIRECTORY_MODE)  # The umask took away what its owner needs.
        self.sync_directory(parent)
        self._sync_ancestors(parent)

    def _sync_ancestors(self, path: str) -> None:
        """The same for the directories above, as far up as they are ours: they may be as new as it is."""
        parent = os.path.dirname(path)
        while parent != path:
            try:
                if self.stat(parent).st_uid != os.geteuid() or parent == os.path.dirname(parent):
                    return
                self.sync_directory(parent)
            except OSError:
                return  # Not ours to read; then it was not ours to make either.
            path, parent = parent, os.path.dirname(parent)

    def rename_durably(self, source: str, target: str) -> None:
        self.rename(source, target)
        # Sync the directory too: without it the file system may lose the rename itself.
        self.sync_directory(os.path.dirname(target))

    def write_atomically(self, path: str, chunks: Iterable[bytes], *, durable: bool = True) -> None:
        """Replaces a file's content as a whole: whoever opens ``path`` sees the old content or the new.

        A crash at any step leaves the old content, or the new, and perhaps a temporary file (``remove_temporaries``).
        After an ``OSError`` the old content stands, unless it came from the last step, the sync of the directory: then
        the new content is visible and may be lost again by a power cut.
        """
        temporary = temporary_name(path)
        fd = self.create(temporary)
        try:
            try:
                for chunk in chunks:
                    self.write_all(fd, chunk)
                if durable:
                    # Before the rename: without it a power cut leaves the new name with zeros behind it.
                    self.sync(fd)
            finally:
                self.close(fd)
            self.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                self.unlink(temporary)
            raise
        if durable:
            self.sync_directory(os.path.dirname(os.path.abspath(path)))

    def remove_temporaries(self, directory: str) -> None:
        """Deletes what interrupted writes left. Only names that perdure makes are touched; failing is not an error."""
        with contextlib.suppress(OSError):
            for name in self.names(directory):
                if TEMPORARY_MARK in name and is_own_temporary(name):
                    with contextlib.suppress(OSError):
                        self.unlink(os.path.join(directory, name))


def temporary_name(path: str) -> str:
    """A name beside ``path`` that nobody can foresee and plant."""
    return f"{path}{TEMPORARY_MARK}{secrets.token_hex(8)}"


def is_own_temporary(name: str) -> bool:
    """Whether a file's name is one that ``temporary_name`` makes."""
    stem, _, random_part = name.rpartition(TEMPORARY_MARK)
    return bool(stem) and len(random_part) == 16 and all(c in "0123456789abcdef" for c in random_part)


def open_descriptor_count() -> int | None:
    """How many descriptors this process holds; ``None`` where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return None


# ---- directories and their locks


def check_private(fs: Fs, path: str) -> None:
    """Refuses a directory in which somebody else could plant files.

    Raises:
        StorageError: it belongs to another user, or others may write in it. Nothing was changed.
    """
    found = os.stat(path)
    if found.st_uid != os.geteuid():
        raise StorageError(
            f"the directory belongs to another user (uid {found.st_uid})",
            path=path,
            hint="use a directory of your own: whoever owns it could change what is loaded",
        )
    check_not_open(path)


def check_not_open(path: str) -> None:
    """What a reader asks for: the directory may belong to another user, whose data it then is, but to one alone.

    Raises:
        StorageError: others than its owner may write in it.
    """
    found = os.stat(path)
    # Many systems give each user a group of the same number and make its directories group-writable: that is still
    # private.
    others = stat.S_IWOTH | (stat.S_IWGRP if found.st_gid != found.st_uid else 0)
    if found.st_mode & others:
        raise StorageError(
            f"others may write in the directory (mode {stat.S_IMODE(found.st_mode):04o})",
            path=path,
            hint=f"chmod go-w {path}",
        )


class DirectoryLock:
    """The right to write in a directory, held by one opening at a time, also within one process.

    It sits on the directory itself, so there is no lock file that somebody could delete. A child that is forked while
    it is held only closes its copy: an unlock there would free the parent's lock too.
    """

    def __init__(self, fs: Fs, path: str) -> None:
        """Takes the lock at once or raises.

        Raises:
            LockedError: somebody holds it; the message names the process where the system tells.
            StorageError: this file system has no locks. Nothing was changed.
        """
        self._fs = fs
        self.path = path
        self._fd = -1
        # Before the lock is taken: from then on nothing may come between here and the caller, or an interrupt would
        # leave a lock that nobody can release.
        close_in_forked_children(self)
        try:
            self._fd = fs.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fs.lock(self._fd)
        except OSError as error:
            is_open = self._fd >= 0
            self.release()
            if not is_open:
                raise StorageError(f"the directory cannot be opened: {error.strerror}", path=path) from error
            if error.errno in (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK):
                raise _locked(path) from error
            raise StorageError(
                f"this file system cannot lock a directory: {error.strerror}",
                path=path,
                hint="use a local directory; two writers on an unlocked one would destroy each other's data",
            ) from error
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Idempotent."""
        # From the first line on an interrupt must find the descriptor either here or closed: no call stands in between.
        try:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                self._fs.close(fd)
        except OSError:
            return  # The descriptor is gone even where this fails, and the lock with it.

    def after_fork_in_child(self) -> None:
        self.release()


def _locked(path: str) -> LockedError:
    holder = lock_holder(path)
    if holder == os.getpid():
        who = "it is open already in this process"
        hint = "use the object that has it open, or close that first"
    else:
        who = f"process {holder} has it open" if holder else "another process has it open"
        hint = 'open it with mode="r" to read beside the writer'
    return LockedError(f"{who} for writing", path=path, hint=hint)


def lock_holder(path: str) -> int | None:
    """The id of the process that has a directory locked, as Linux tells it in /proc/locks; ``None``: none is known."""
    try:
        found = os.stat(path)
        wanted = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        with open("/proc/locks", encoding="ascii") as locks:
            for line in locks:
                fields = line.split()
                if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == wanted:
                    return int(fields[4]) or None
    except (OSError, ValueError):
        pass
    return None


def existing_directory(path: str) -> str:
    """``path``, made absolute, if it is a directory.

    Raises:
        MissingError: there is nothing, or something that is no directory.
    """
    absolute = os.path.abspath(path)
    if not os.path.isdir(absolute):
        what = "it is not a directory" if os.path.lexists(absolute) else "there is no such directory"
        raise MissingError(what, path=absolute)
    return absolute


# ---- forked children

_inherited: weakref.WeakSet[object] = weakref.WeakSet()
_hook_installed = False


def close_in_forked_children(holder: object) -> None:
    """Has ``holder.after_fork_in_child()`` called in each child that this process forks, before anything else runs
    there.
    """
    global _hook_installed
    _inherited.add(holder)
    if not _hook_installed:
        _hook_installed = True
        os.register_at_fork(after_in_child=_after_fork_in_child)


def _after_fork_in_child() -> None:
    for holder in list(_inherited):
        holder.after_fork_in_child()  # type: ignore[attr-defined]
    _inherited.clear()


@contextlib.contextmanager
def closing_on_error(fs: Fs, fd: int) -> Iterator[int]:
    """Closes ``fd`` where the block raises, and leaves it open where it does not."""
    try:
        yield fd
    except BaseException:
        fs.close(fd)
        raise
