"""A stash as a ``MutableMapping``."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from perdure.stash._base import Stash


class StashMapping(MutableMapping[str, Any]):
    """The items of a stash behind the interface of a dict. It holds nothing itself."""

    __slots__ = ("stash",)

    def __init__(self, stash: Stash) -> None:
        self.stash: Stash = stash

    def __getitem__(self, name: str) -> Any:
        if not isinstance(name, str):
            raise KeyError(name)
        return self.stash[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.stash.dump(name, value)

    def __delitem__(self, name: str) -> None:
        if not isinstance(name, str):
            raise KeyError(name)
        del self.stash[name]

    def __contains__(self, name: object) -> bool:
        return name in self.stash

    def __iter__(self) -> Iterator[str]:
        return iter(self.stash.keys())

    def __len__(self) -> int:
        return len(self.stash)

    def clear(self) -> None:
        """Forget all items."""
        self.stash.clear()

    def __repr__(self) -> str:
        return f"{self.stash!r}.mapping"
