"""Several stashes seen as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from perdure.missing import MISSING
from perdure.stash._base import Stash
from perdure.stash._delegate import prime
from perdure.stash._prime import PrimeableStash
from perdure.stash._read_only import ReadOnlyStash


@dataclass(eq=False)
class UnionStash(ReadOnlyStash, PrimeableStash):
    """The items of all ``stashes``, to be read. Where two have an item of one name, the first one's counts."""

    stashes: Sequence[Stash] = ()

    def prime(self) -> None:
        """Prime each of them that can be primed."""
        for stash in self.stashes:
            prime(stash)

    def load(self, name: str) -> Any:
        """The value of the first stash that has the item; ``None`` where none has."""
        return UnionStash.get(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of the first stash that has the item, or ``default``."""
        for stash in self.stashes:
            value = stash.get(name, MISSING)
            if value is not MISSING:
                return value
        return default

    def exists(self, name: str) -> bool:
        """Whether any of them has it."""
        return any(stash.exists(name) for stash in self.stashes)

    def keys(self) -> Iterator[str]:
        """The names of all of them, each once."""
        listings = [stash.keys() for stash in self.stashes]
        return iter(dict.fromkeys(name for listing in listings for name in listing))

    @property
    def reaches_workers(self) -> bool:
        """Where all of them do."""
        return all(stash.reaches_workers for stash in self.stashes)
