"""Stashes that take nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from perdure.errors import ReadOnlyError
from perdure.stash._base import Stash


@dataclass(eq=False)
class ReadOnlyStash(Stash):
    """The base of stashes that cannot be written to: most often a factory, which says how to ``load`` and its ``keys``.

    ``strict``: refuse ``dump``, ``delete`` and ``clear`` with ``ReadOnlyError``; otherwise they do nothing, so that
    clearing a stack of stashes reaches the layers that can be cleared.
    """

    strict: bool = field(default=False, kw_only=True)

    def dump(self, name: str, value: Any) -> None:
        """Nothing, or ``ReadOnlyError`` where the stash is strict."""
        self._refuse("dump")

    def delete(self, name: str | None = None) -> None:
        """Nothing, or ``ReadOnlyError`` where the stash is strict."""
        self._refuse("delete")

    def clear(self) -> None:
        """Nothing, or ``ReadOnlyError`` where the stash is strict."""
        self._refuse("clear")

    def __delitem__(self, name: str) -> None:
        self.delete(name)

    def _refuse(self, what: str) -> None:
        if self.strict:
            raise ReadOnlyError(f"{type(self).__name__} is read-only: {what} is refused")
