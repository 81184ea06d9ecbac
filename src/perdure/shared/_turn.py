"""The lock that a process holds over several calls, and that outlives the owner.

It is a lock on the file ``turn`` in the directory, held by the process that asked for it: so it ends with that process,
and stays while one owner follows another. A new owner serves nobody else while somebody holds it.
"""

from __future__ import annotations

import contextlib
import os
import time

from perdure.errors import LockedError
from perdure.fs import Fs, close_in_forked_children

TURN_FILE = "turn"
_POLL_S_MIN, _POLL_S_MAX = 0.0005, 0.02


class Turn:
    """One thread's turn."""

    def __init__(self, fs: Fs, directory: str) -> None:
        self._fs = fs
        self._directory = directory
        self._fd = -1
        close_in_forked_children(self)

    def take(self, seconds: float) -> None:
        """Raises ``LockedError`` where somebody else keeps it for so long."""
        deadline_s = time.monotonic() + seconds
        pause_s = _POLL_S_MIN
        fd = _open(self._fs, self._directory)
        try:
            while not _lock(self._fs, fd):
                if time.monotonic() >= deadline_s:
                    raise LockedError(f"another process keeps it locked for {seconds:.0f} s", path=self._directory)
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, _POLL_S_MAX)
            self._fd = fd
        except BaseException:
            self._fs.close(fd)
            raise

    def give_back(self) -> None:
        """Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._fs.close(fd)

    def after_fork_in_child(self) -> None:
        """It stays the parent's."""
        self.give_back()


def is_taken(fs: Fs, directory: str) -> bool:
    """Whether some process has the turn at this moment."""
    fd = _open(fs, directory)
    try:
        return not _lock(fs, fd)
    finally:
        fs.close(fd)


def _open(fs: Fs, directory: str) -> int:
    return fs.open(os.path.join(directory, TURN_FILE), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)


def _lock(fs: Fs, fd: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fs.lock(fd)
        return True
    return False
