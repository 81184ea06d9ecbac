"""A program's events, taken apart into changes under one model."""

from __future__ import annotations

import os

from perdure.testing.crashsim._changes import (
    ROOT,
    Change,
    Data,
    Fill,
    Growth,
    Image,
    Names,
    Shrinkage,
    Tree,
)
from perdure.testing.crashsim._events import Event
from perdure.testing.crashsim._models import SECTOR_BYTES, Posix


class Disk:
    """What is durable at this point of the recording (``settled`` and the forced ones of ``changes``), and what is not.

    ``changes``: all that the image does not hold yet, in order.
    """

    def __init__(self, model: Posix, initial: Tree) -> None:
        self._model = model
        self._live = Image()
        self._next_file = ROOT + 1
        self.changes: list[Change] = []
        for path in sorted(initial):
            content = initial[path]
            directory, name = self._parent(path)
            file = self._new_file()
            self._live.directories[directory][name] = file
            if content is None:
                self._live.directories[file] = {}
            else:
                self._live.contents[file] = bytearray(content)
                self._live.sizes[file] = len(content)
        self._settled = self._live.copy()
        self._settled_changes = 0

    # ---- the live name space

    def _new_file(self) -> int:
        file = self._next_file
        self._next_file += 1
        return file

    def _parent(self, path: str) -> tuple[int, str]:
        directory, name = os.path.split(path)
        found = self._find(directory)
        if found is None:
            raise ValueError(f"no directory {directory!r} at this point of the recording")
        return found, name

    def _find(self, path: str) -> int | None:
        file: int | None = ROOT
        for part in path.split("/") if path else ():
            if file is None or file not in self._live.directories:
                return None
            file = self._live.directories[file].get(part)
        return file

    # ---- events

    def feed(self, index: int, event: Event) -> None:
        """The next event of the recording."""
        kind = event.kind
        if kind == "create":
            self._create(index, event.path, directory=False)
        elif kind == "mkdir":
            self._create(index, event.path, directory=True)
        elif kind == "write":
            self._write(index, event)
        elif kind == "truncate":
            self._truncate(index, event)
        elif kind == "rename":
            self._rename(index, event)
        elif kind == "link":
            directory, name = self._parent(event.target)
            file = self._find(event.path)
            if file is not None:
                self._names(index, file, (directory, name, file))
        elif kind in ("unlink", "rmdir"):
            directory, name = self._parent(event.path)
            file = self._find(event.path)
            if file is not None:
                self._names(index, -1, (directory, name, None))
        elif kind in ("sync", "sync_names"):
            self._sync(event.path)

    def _names(
        self, index: int, file: int, *entries: tuple[int, str, int | None], makes: bool = False, replaces: bool = False
    ) -> None:
        change = Names(index, file, entries=entries, makes_directory=makes, replaces=replaces)
        self._add(change)

    def _add(self, change: Change) -> None:
        self.changes.append(change)
        self._live.apply([change], _zeros)

    def _create(self, index: int, path: str, *, directory: bool) -> None:
        if path and self._find(path) is None:
            parent, name = self._parent(path)
            file = self._new_file()
            self._names(index, file, (parent, name, file), makes=directory)

    def _write(self, index: int, event: Event) -> None:
        file = self._find(event.path)
        if file is None:
            return
        size = self._live.sizes.get(file, 0)
        offset = size if event.offset is None else event.offset
        over = event.data[: max(0, size - offset)]
        place = 0
        while place < len(over):
            # Overwriting in place is torn between sectors at most.
            end = (offset + place) // SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - offset
            self._add(Data(index, file, offset=offset + place, data=over[place:end]))
            place = end
        rest = event.data[len(over) :]
        start = offset + len(over)
        done = 0
        for cut in self._model.cuts(start, len(rest)) if rest else ():
            self._add(Data(index, file, offset=start + done, data=rest[done:cut]))
            self._add(Growth(index, file, size_bytes=start + cut))
            done = cut

    def _truncate(self, index: int, event: Event) -> None:
        file = self._find(event.path)
        if file is None:
            return
        size = self._live.sizes.get(file, 0)
        if event.size_bytes < size:
            self._add(Shrinkage(index, file, size_bytes=event.size_bytes))
        elif event.size_bytes > size:
            self._add(Growth(index, file, size_bytes=event.size_bytes, by_write=False))

    def _rename(self, index: int, event: Event) -> None:
        file = self._find(event.path)
        if file is None:
            return
        replaces = self._find(event.target) is not None
        directory, name = self._parent(event.path)
        new_directory, new_name = self._parent(event.target)
        self._names(index, file, (directory, name, None), (new_directory, new_name, file), replaces=replaces)

    def _sync(self, path: str) -> None:
        file = self._find(path)
        if file is None:
            return
        if file in self._live.directories:
            self._model.force_names(self.changes, file)
        else:
            self._model.force(self.changes, file)
        self._settle()

    def _settle(self) -> None:
        """Moves the forced beginning of ``changes`` into the image, so that it need not be applied for each state."""
        count = 0
        while count < len(self.changes) and self.changes[count].forced:
            count += 1
        self._settled.apply(self.changes[:count], _zeros)
        del self.changes[:count]

    # ---- states

    def pending(self) -> list[Change]:
        return [change for change in self.changes if not change.forced]

    def tree(self, kept: set[int], fill: Fill) -> Tree:
        """The files after a power cut that left the pending changes with these identities."""
        survivors = [change for change in self.changes if change.forced or id(change) in kept]
        return self._settled.copy().apply(survivors, fill).tree(fill)

    def live_tree(self) -> Tree:
        """The files as a program sees them that is started now, without a power cut."""
        return self._live.tree(_zeros)


def _zeros(_offset: int, size_bytes: int) -> bytes:
    return bytes(size_bytes)
