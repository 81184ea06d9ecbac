"""Three answers to the question what of a program's unsynced work a power cut may leave.

After Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014). ``ext4`` was compared with a real one: every
tree that it showed after a cut at each prefix of its block writes is among the states that the model allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from perdure.testing.crashsim._changes import Change, Data, Growth, Names, Shrinkage

SECTOR_BYTES = 512
PAGE_BYTES = 4096
_CUTS_MAX = 12


class Posix:
    """Nothing is ordered, and only a sync forces: what a portable promise has to survive.

    Appends are torn at any byte (a choice of places), a file may have its new size before its new bytes, and what
    stands there instead is zeros, ones, or bytes of something older.
    """

    name = "posix"
    fills: tuple[str, ...] = ("zeros", "ones", "stale")

    def cuts(self, start: int, size_bytes: int) -> list[int]:
        """Where an append at offset ``start`` may be torn, and its end. At page borders in any file system."""
        found = {border - start for border in range(_next_border(start, PAGE_BYTES), start + size_bytes, PAGE_BYTES)}
        found |= self._cuts_within_pages(size_bytes)
        inner = sorted(found)
        if len(inner) > _CUTS_MAX:
            inner = inner[: _CUTS_MAX // 2] + inner[-_CUTS_MAX // 2 :]
        return [*inner, size_bytes]

    def _cuts_within_pages(self, size_bytes: int) -> set[int]:
        places = (1, 2, 4, 8, 12, 16, 20, size_bytes // 2, size_bytes - 1)
        return {place for place in places if 0 < place < size_bytes}

    def force(self, changes: Sequence[Change], file: int) -> None:
        """A file was synced: its bytes and its size are durable."""
        for change in changes:
            if change.file == file and not isinstance(change, Names):
                change.forced = True

    def force_names(self, changes: Sequence[Change], directory: int) -> None:
        """A directory was synced: its entries are durable."""
        for change in changes:
            if isinstance(change, Names) and any(entry[0] == directory for entry in change.entries):
                change.forced = True

    def allows(self, pending: Sequence[Change], kept: AbstractSet[int]) -> bool:
        """Whether a power cut may leave exactly the ``kept`` indices of the changes that no sync forced."""
        return True


class Btrfs(Posix):
    """Like posix, but syncing a file makes its name durable too, and a size never arrives before its bytes."""

    name = "btrfs"
    fills = ("zeros",)

    def _cuts_within_pages(self, size_bytes: int) -> set[int]:
        return set()

    def force(self, changes: Sequence[Change], file: int) -> None:
        for change in changes:
            if change.file == file:
                change.forced = True

    def allows(self, pending: Sequence[Change], kept: AbstractSet[int]) -> bool:
        return _sizes_in_order(pending, kept, (Data, Growth))


class Ext4(Posix):
    """Names and truncations arrive in order; any sync makes all earlier ones durable.

    An unsynced append may show as its size with zeros. Renaming onto an existing name first writes out what is renamed.
    """

    name = "ext4"
    fills = ("zeros",)

    def _cuts_within_pages(self, size_bytes: int) -> set[int]:
        return set()

    def force(self, changes: Sequence[Change], file: int) -> None:
        super().force(changes, file)
        self._commit(changes)

    def force_names(self, changes: Sequence[Change], directory: int) -> None:
        self._commit(changes)

    def _commit(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, Names | Shrinkage):
                change.forced = True

    def allows(self, pending: Sequence[Change], kept: AbstractSet[int]) -> bool:
        if not _sizes_in_order(pending, kept, (Growth,)):
            return False
        gap = False
        for index, change in enumerate(pending):
            if not isinstance(change, Names | Shrinkage):
                continue
            if index not in kept:
                gap = True
                continue
            needs_data = isinstance(change, Names) and change.replaces
            if gap or (needs_data and not _all_data_kept(pending, kept, index)):
                return False
        return True


MODELS: dict[str, Posix] = {model.name: model for model in (Posix(), Btrfs(), Ext4())}


def _next_border(offset: int, step: int) -> int:
    return (offset // step + 1) * step


def _sizes_in_order(pending: Sequence[Change], kept: AbstractSet[int], before: tuple[type[Change], ...]) -> bool:
    """Whether each kept size of a write comes with all changes of the kinds ``before`` that its file had earlier."""
    missing: set[int] = set()
    for index, change in enumerate(pending):
        if index not in kept:
            if isinstance(change, before):
                missing.add(change.file)
        elif isinstance(change, Growth) and change.by_write and change.file in missing:
            return False
    return True


def _all_data_kept(pending: Sequence[Change], kept: AbstractSet[int], end: int) -> bool:
    file = pending[end].file
    return all(
        index in kept
        for index, change in enumerate(pending[:end])
        if change.file == file and isinstance(change, Data | Growth)
    )
