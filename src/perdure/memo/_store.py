"""The directory of one function's results: files that any number of processes read, write and evict at once.

====================  ==============================================================================
``<key>.entry``       one result: see ``_entry``
``<key>-<id>.npy``    a large array; the entry names it
``<key>.lock``        exists while a process computes that result
====================  ==============================================================================

``<key>`` is 40 hex digits, so no argument ever becomes part of a path. Every file is replaced as a whole. Whatever is
wrong with a file makes it a miss and a warning, never an error: the result can be computed again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from perdure.fs import Fs, check_private, is_own_temporary
from perdure.memo._arrays import array_name, map_array, write_array
from perdure.memo._entry import Entry, decode_entry, encode_entry
from perdure.memo._lease import Lease
from perdure.memo._warnings import warn
from perdure.missing import Missing

LITTER_AGE_S = 3600.0
"""What an interrupted process left is deleted when it is this old: younger, it may belong to one that is writing."""
_TOUCH_AGE_S = 60.0
_EVICT_TO = 0.9


Stamp = tuple[int, int, int]
"""Inode, time of change in nanoseconds, and size in bytes: another one whenever the file is replaced."""


class _File(NamedTuple):
    name: str
    used_s: float
    size_bytes: int


class Store:
    """Any thread may call. ``size_bytes_max``: delete the results that were not used for longest beyond this."""

    def __init__(self, directory: str, function: str, fs: Fs, *, size_bytes_max: int | None, durable: bool) -> None:
        self.directory = directory
        self._function = function
        self._fs = fs
        self._size_bytes_max = size_bytes_max
        self._durable = durable
        self._is_checked = False
        self._is_tidy = False
        self._size_bytes: int | None = None  # What is thought to be there; None until somebody has looked.

    def prepare(self) -> None:
        """Make the directory, private, at the first call.

        Raises:
            StorageError: others may write in it. Nothing was read.
            OSError: it cannot be made.
        """
        if not self._is_checked or not os.path.isdir(self.directory):
            self._fs.make_directory(self.directory)
            check_private(self._fs, self.directory)
            self._is_checked = True

    def prepare_to_read(self) -> None:
        """As ``prepare`` for a directory that is there; one that is not stays so."""
        if not self._is_checked and os.path.isdir(self.directory):
            check_private(self._fs, self.directory)
            self._is_checked = True

    def lease(self, key: bytes) -> Lease:
        """The right to compute the result of ``key``; not yet taken."""
        return Lease(self._fs, os.path.join(self.directory, f"{key.hex()}.lock"))

    # ---- one result

    def read(self, key: bytes) -> tuple[Entry, Stamp] | None:
        """The entry of ``key``, whole and its own; ``None``, and a warning unless there is simply none, otherwise."""
        path = self._path(key)
        fs = self._fs
        try:
            fd = fs.open_for_reading(path)
            try:
                found = os.fstat(fd)
                data = fs.read_at(fd, found.st_size, 0)
                if len(data) < found.st_size:
                    data = fs.read_range(fd, 0, found.st_size)  # More than the system reads at once.
            finally:
                fs.close(fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            warn(f"a stored result of {self._function} cannot be read and is computed again: {error}")
            return None
        entry = decode_entry(data)
        if entry is None or entry.key != key or entry.function != self._function:
            what = "is damaged" if entry is None else "belongs elsewhere"
            warn(f"a stored result of {self._function} {what} and is computed again: {path}")
            return None
        if self._size_bytes_max is not None:
            self._touch(path, found.st_mtime)
        return entry, _stamp(found)

    def stamp(self, key: bytes) -> Stamp | None:
        """What ``read`` would return along with the entry; ``None`` where there is none."""
        path = self._path(key)
        try:
            found = self._fs.stat(path)
        except OSError:
            return None
        if self._size_bytes_max is not None:
            self._touch(path, found.st_mtime)
        return _stamp(found)

    def write(self, entry: Entry, *, array_bytes: int = 0) -> None:
        """Store ``entry``, and delete others where it gets too much. ``OSError``: what was there is there.

        A crash at any step leaves the old result or the new one, and perhaps an array that no entry names
        (``_remove_litter``).
        """
        if not self._is_tidy:
            self._is_tidy = True
            self._remove_litter()
        chunks = encode_entry(entry)
        path = self._path(entry.key)
        replaced = self._array_of(path, entry.key)
        self._fs.write_atomically(path, chunks, durable=self._durable)
        if replaced is not None:
            # Not before: until now the old entry named it. Who has mapped it keeps it.
            with contextlib.suppress(OSError):
                self._fs.unlink(os.path.join(self.directory, replaced))
        self._grown_by(sum(map(len, chunks)) + array_bytes)

    def _array_of(self, path: str, key: bytes) -> str | None:
        """The name of the array that the entry at ``path`` names, if it is one."""
        try:
            entry = decode_entry(self._fs.read_all(path))
        except OSError:
            return None
        if entry is None or entry.kind != "array":
            return None
        name = array_name(entry.payload)
        return name if name is not None and name.startswith(f"{key.hex()}-") else None

    def write_array(self, key: bytes, array: Any) -> bytes:
        """Store a large array and return the payload for its entry, which must be written next."""
        return write_array(self._fs, self.directory, f"{key.hex()}-{secrets.token_hex(8)}.npy", array)

    def map_array(self, entry: Entry) -> Any | Missing:
        """The array of an entry, or ``MISSING``. ``FileNotFoundError``: it has been evicted."""
        return map_array(self._fs, self.directory, entry.payload)

    def remove(self, key: bytes) -> bool:
        """Delete the result of ``key``. Returns whether there was one. ``OSError``: it is still there."""
        names = [name for name in self._names() if name.startswith(key.hex()) and not name.endswith(".lock")]
        # The entry first: without it nobody looks for the array.
        for name in sorted(names, key=lambda name: not name.endswith(".entry")):
            with contextlib.suppress(FileNotFoundError):
                self._fs.unlink(os.path.join(self.directory, name))
        return f"{key.hex()}.entry" in names

    # ---- all of them

    def clear(self) -> None:
        """Delete all results. Those that are being computed are stored when they are ready."""
        for name in sorted(self._names(), key=lambda name: not name.endswith(".entry")):
            if name.endswith((".entry", ".npy")):
                with contextlib.suppress(FileNotFoundError):
                    self._fs.unlink(os.path.join(self.directory, name))
        self._size_bytes = None

    def count_and_size_bytes(self) -> tuple[int, int]:
        """How many results there are, and how many bytes they take."""
        files = self._files()
        return sum(file.name.endswith(".entry") for file in files), sum(file.size_bytes for file in files)

    def _grown_by(self, size_bytes: int) -> None:
        """Keep a running sum, and look at the directory only when that reaches the bound.

        Other processes write, too: the sum is then too small here and theirs too small there, and each looks after it
        has itself written as much as was free when it looked last.
        """
        if self._size_bytes_max is None:
            return
        if self._size_bytes is not None:
            self._size_bytes += size_bytes
        if self._size_bytes is None or self._size_bytes > self._size_bytes_max:
            self._size_bytes = self._evict(self._size_bytes_max)

    def _evict(self, size_bytes_max: int) -> int:
        """Delete what was not used for longest until nine tenths of the bound are left. Returns what is left."""
        self._remove_litter()
        files = self._files()
        size_bytes = sum(file.size_bytes for file in files)
        if size_bytes <= size_bytes_max:
            return size_bytes
        groups: dict[str, list[_File]] = {}
        for file in files:
            groups.setdefault(file.name[:40], []).append(file)
        for group in sorted(groups.values(), key=lambda group: max(file.used_s for file in group)):
            if size_bytes <= size_bytes_max * _EVICT_TO:
                break
            for file in sorted(group, key=lambda file: not file.name.endswith(".entry")):
                with contextlib.suppress(OSError):
                    self._fs.unlink(os.path.join(self.directory, file.name))
                    size_bytes -= file.size_bytes
        return size_bytes

    def _remove_litter(self) -> None:
        """What interrupted writes left, and arrays that no entry names any more."""
        arrays: dict[str, _File] = {}
        names = set(self._names())
        candidates = [name for name in names if name.endswith(".npy") or is_own_temporary(name)]
        for file in sorted(self._stated(candidates), key=lambda file: file.used_s):
            litter: _File | None = None
            if is_own_temporary(file.name):
                litter = file
            elif file.name.endswith(".npy"):
                # The newest array of a key belongs to its entry; the others were replaced.
                litter = arrays.get(file.name[:40]) if f"{file.name[:40]}.entry" in names else file
                arrays[file.name[:40]] = file
            if litter is not None and time.time() - litter.used_s > LITTER_AGE_S:
                with contextlib.suppress(OSError):
                    self._fs.unlink(os.path.join(self.directory, litter.name))

    def _files(self) -> list[_File]:
        return self._stated(name for name in self._names() if name.endswith((".entry", ".npy")))

    def _stated(self, names: Iterable[str]) -> list[_File]:
        files = []
        for name in names:
            with contextlib.suppress(OSError):
                found = self._fs.stat(os.path.join(self.directory, name))
                files.append(_File(name, found.st_mtime, found.st_size))
        return files

    def _names(self) -> list[str]:
        try:
            return self._fs.names(self.directory)
        except FileNotFoundError:
            return []

    def _path(self, key: bytes) -> str:
        return f"{self.directory}/{key.hex()}.entry"

    def _touch(self, path: str, modified_s: float) -> None:
        """Note that the file was used, unless that was done just now."""
        if abs(time.time() - modified_s) > _TOUCH_AGE_S:
            with contextlib.suppress(OSError):
                self._fs.touch(path)


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_ino, found.st_mtime_ns, found.st_size
