"""The right to compute one result, held by one process at a time.

A lease is an exclusive ``flock`` on a lock file of the result's own. The system takes it back when its holder dies,
however it dies, so a successor takes over at once and nothing has to time out. The file is deleted when the lease is
given back, in this order: (1) A deletes the name while it holds the lock. (2) B, which had opened the same file and was
waiting, gets the lock of a file without a name. (3) B sees that the name is gone, or leads to another file, and starts
again. Without step 3, B and a newcomer C would both hold "the" lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from typing import Self

from perdure.fs import Fs, close_in_forked_children

WAIT_MS_MIN = 0.5
WAIT_MS_MAX = 20.0
"""A waiting process looks again after this time. It doubles from the one to the other."""

_HELD_ERRNOS = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)


class Lease:
    """``take`` or ``take_now``, then ``give_back``. Not shared between threads.

    Errors are ``OSError``: no lock file can be made there, or this file system has no locks. Nothing is held then.
    """

    def __init__(self, fs: Fs, path: str) -> None:
        self._fs = fs
        self._path = path
        self._fd = -1

    def take_now(self) -> bool:
        """Whether it is ours now; ``False`` where another process, thread or task has it."""
        # Before opening: a child that the computation forks must not keep the lock alive when this process dies.
        close_in_forked_children(self)
        try:
            self._fd = self._fs.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
        except FileNotFoundError:
            if not os.path.isdir(os.path.dirname(self._path)):
                raise
            return False  # Given back between looking and creating.
        try:
            self._fs.lock(self._fd)
            if self._is_still_named():
                return True
        except OSError as error:
            self._close()
            if error.errno in _HELD_ERRNOS:
                return False
            raise
        except BaseException:
            self._close()
            raise
        self._close()
        return False

    def take(self) -> None:
        """Wait until it is ours."""
        for wait_s in waits_s():
            if self.take_now():
                return
            time.sleep(wait_s)

    def give_back(self) -> None:
        """Idempotent. Never raises: a lock file that cannot be deleted is only litter."""
        if self._fd >= 0:
            try:
                with contextlib.suppress(OSError):
                    self._fs.unlink(self._path)
            finally:
                self._close()

    def __del__(self) -> None:
        # An interrupt may come in the very line that gives it back; nobody in this process could ever take it then.
        self._close()

    def after_fork_in_child(self) -> None:
        """Called in each forked child before anything else runs there."""
        self._close()

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def _is_still_named(self) -> bool:
        try:
            named = self._fs.stat(self._path)
        except FileNotFoundError:
            return False
        held = os.fstat(self._fd)
        return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                self._fs.close(fd)


def waits_s() -> Iterator[float]:
    """For ever: how long to sleep before looking again, in seconds."""
    wait_ms = WAIT_MS_MIN
    while True:
        yield wait_ms / 1000
        wait_ms = min(2 * wait_ms, WAIT_MS_MAX)
