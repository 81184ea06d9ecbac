"""The smallest pieces in which a disk may lose what a program did, and the files that a choice of them gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

Fill = Callable[[int, int], bytes]
"""What stands where a file was made longer and nothing arrived: offset, size → bytes."""

Tree = dict[str, bytes | None]
"""Path below the directory under test → content, or ``None`` for a directory."""

ROOT = 0


@dataclass(eq=False, slots=True)
class Change:
    """A piece of an event. ``event``: its index. ``file``: the inode, counted here. ``forced``: durable by a sync."""

    event: int
    file: int
    forced: bool = False


@dataclass(eq=False, slots=True)
class Names(Change):
    """Entries of directories that change together: a creation, a deletion, or both sides of a rename.

    ``entries``: (directory, name, file; ``None`` deletes). ``makes_directory``: ``file`` is a new directory.
    ``replaces``: a rename onto an existing name.
    """

    entries: tuple[tuple[int, str, int | None], ...] = ()
    makes_directory: bool = False
    replaces: bool = False

    def __str__(self) -> str:
        return ", ".join(f"{'-' if file is None else '+'}{name}" for _, name, file in self.entries)


@dataclass(eq=False, slots=True)
class Data(Change):
    """Bytes at a place of a file, whatever its size says."""

    offset: int = 0
    data: bytes = b""

    def __str__(self) -> str:
        return f"{len(self.data)} bytes at {self.offset} of #{self.file}"


@dataclass(eq=False, slots=True)
class Growth(Change):
    """A file's new, larger size. ``by_write``: it came with ``Data``."""

    size_bytes: int = 0
    by_write: bool = True

    def __str__(self) -> str:
        return f"size {self.size_bytes} of #{self.file}"


@dataclass(eq=False, slots=True)
class Shrinkage(Change):
    """A truncation."""

    size_bytes: int = 0

    def __str__(self) -> str:
        return f"truncation of #{self.file} to {self.size_bytes}"


class Image:
    """The files on a disk: directories, sizes and contents by inode."""

    def __init__(self) -> None:
        self.directories: dict[int, dict[str, int]] = {ROOT: {}}
        self.contents: dict[int, bytearray] = {}
        self.sizes: dict[int, int] = {}

    def copy(self) -> Image:
        other = Image()
        other.directories = {file: dict(entries) for file, entries in self.directories.items()}
        other.contents = {file: bytearray(content) for file, content in self.contents.items()}
        other.sizes = dict(self.sizes)
        return other

    def apply(self, changes: Iterable[Change], fill: Fill) -> Image:
        """In the order in which the program made them. Returns itself."""
        for change in changes:
            if isinstance(change, Names):
                self._rename(change)
            elif isinstance(change, Data):
                content = self.contents.setdefault(change.file, bytearray())
                if len(content) < change.offset:
                    content += fill(len(content), change.offset - len(content))
                content[change.offset : change.offset + len(change.data)] = change.data
            elif isinstance(change, Growth):
                self.sizes[change.file] = max(self.sizes.get(change.file, 0), change.size_bytes)
            elif isinstance(change, Shrinkage):
                self.sizes[change.file] = change.size_bytes
                del self.contents.setdefault(change.file, bytearray())[change.size_bytes :]
        return self

    def _rename(self, change: Names) -> None:
        if change.makes_directory:
            self.directories.setdefault(change.file, {})
        for directory, name, file in change.entries:
            entries = self.directories.setdefault(directory, {})
            if file is None:
                entries.pop(name, None)
            else:
                entries[name] = file

    def tree(self, fill: Fill) -> Tree:
        """What somebody sees who opens the directory."""
        found: Tree = {}
        self._walk(ROOT, "", found, fill)
        return found

    def _walk(self, directory: int, prefix: str, found: Tree, fill: Fill) -> None:
        for name, file in self.directories[directory].items():
            if file in self.directories:
                found[prefix + name] = None
                self._walk(file, f"{prefix}{name}/", found, fill)
            else:
                content, size = self.contents.get(file, bytearray()), self.sizes.get(file, 0)
                if len(content) < size:
                    content = content + fill(len(content), size - len(content))
                found[prefix + name] = bytes(content[:size])
