"""Which bytes a failing sync takes with it."""

from __future__ import annotations

import fcntl
import os


class LostPages:
    """Follows what was written and not yet synced; zeroes it when told. Files are told apart by device and inode."""

    def __init__(self) -> None:
        self._paths: dict[tuple[int, int], str] = {}
        self._dirty: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._lost: dict[tuple[int, int], list[tuple[int, int]]] = {}

    @staticmethod
    def _file(fd: int) -> tuple[int, int]:
        found = os.fstat(fd)
        return found.st_dev, found.st_ino

    @staticmethod
    def position(fd: int) -> int:
        """Where the next write goes."""
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND:
            return os.fstat(fd).st_size
        return os.lseek(fd, 0, os.SEEK_CUR)

    def note(self, fd: int, path: str, start: int, size_bytes: int) -> None:
        file = self._file(fd)
        if os.fstat(fd).st_size == start + size_bytes and start == 0:
            # A new file; the number may be that of one that is gone.
            self._lost.pop(file, None)
            self._dirty.pop(file, None)
        self._paths[file] = path
        self._dirty.setdefault(file, []).append((start, start + size_bytes))

    def synced(self, fd: int) -> None:
        self._dirty.pop(self._file(fd), None)

    def sync_failed(self, fd: int) -> None:
        file = self._file(fd)
        self._lost.setdefault(file, []).extend(self._dirty.pop(file, []))

    def renamed(self, source: str, target: str) -> None:
        self._paths.update({file: target for file, path in self._paths.items() if path == source})

    def lose(self, fd: int) -> None:
        self._zero(self._file(fd))

    def lose_all(self) -> None:
        for file in list(self._lost):
            self._zero(file)

    def _zero(self, file: tuple[int, int]) -> None:
        ranges = self._lost.pop(file, [])
        if not ranges:
            return
        try:
            # A descriptor of its own: the one that failed may append only, and Linux appends whatever the offset.
            fd = os.open(self._paths[file], os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            if self._file(fd) == file:
                size = os.fstat(fd).st_size
                for start, end in ranges:
                    if start < size:
                        os.pwrite(fd, bytes(min(end, size) - start), start)
        finally:
            os.close(fd)
