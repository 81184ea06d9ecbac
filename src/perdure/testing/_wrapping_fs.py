"""A file system that stands before another one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from perdure.fs import DIRECTORY_MODE, FILE_MODE, Fs

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PRIMITIVES = (
    "open",
    "close",
    "write",
    "read_at",
    "sync",
    "sync_names",
    "truncate",
    "rename",
    "link",
    "unlink",
    "mkdir",
    "rmdir",
    "names",
    "stat",
    "touch",
    "size",
    "forget_cached",
    "lock",
)
"""The methods of ``Fs`` that reach the disk, one system call each; all others are built from them."""


class WrappingFs(Fs):
    """Hands every primitive on to ``inner``. Subclass it to watch, to refuse or to lie."""

    def __init__(self, inner: Fs | None = None) -> None:
        """``inner``: the machine's own file system by default."""
        self.inner: Fs = inner or Fs()

    def open(self, path: str, flags: int, mode: int = FILE_MODE) -> int:
        return self.inner.open(path, flags, mode)

    def close(self, fd: int) -> None:
        self.inner.close(fd)

    def write(self, fd: int, data: ReadableBuffer) -> int:
        return self.inner.write(fd, data)

    def read_at(self, fd: int, size_bytes: int, offset: int) -> bytes:
        return self.inner.read_at(fd, size_bytes, offset)

    def sync(self, fd: int) -> None:
        self.inner.sync(fd)

    def sync_names(self, directory_fd: int) -> None:
        self.inner.sync_names(directory_fd)

    def truncate(self, fd: int, size_bytes: int) -> None:
        self.inner.truncate(fd, size_bytes)

    def rename(self, source: str, target: str) -> None:
        self.inner.rename(source, target)

    def link(self, source: str, target: str) -> None:
        self.inner.link(source, target)

    def unlink(self, path: str) -> None:
        self.inner.unlink(path)

    def mkdir(self, path: str, mode: int = DIRECTORY_MODE) -> None:
        self.inner.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        self.inner.rmdir(path)

    def names(self, directory: str) -> list[str]:
        return self.inner.names(directory)

    def stat(self, path: str) -> os.stat_result:
        return self.inner.stat(path)

    def touch(self, path: str) -> None:
        self.inner.touch(path)

    def size(self, fd: int) -> int:
        return self.inner.size(fd)

    def forget_cached(self, fd: int) -> None:
        self.inner.forget_cached(fd)

    def lock(self, fd: int) -> None:
        self.inner.lock(fd)
