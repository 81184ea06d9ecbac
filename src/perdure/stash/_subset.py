"""Layers that show a part of the names, or show them in another order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import InitVar, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from perdure.errors import MissingError
from perdure.fs import Fs
from perdure.missing import MISSING
from perdure.stash._delegate import DelegateStash
from perdure.stash._disk import reading


@dataclass(eq=False)
class KeyLimitStash(DelegateStash):
    """Shows at most ``limit`` of the delegate's names: for trying a long pipeline on a few items.

    Only the listing is limited: an item asked for by name is there. ``n_limit``: the same.
    """

    limit: int = sys.maxsize
    n_limit: InitVar[int | None] = None

    def __post_init__(self, n_limit: int | None) -> None:
        if n_limit is not None:
            self.limit = n_limit
        super().__post_init__()

    def keys(self) -> Iterator[str]:
        """The first ``limit`` of the delegate's names."""
        return islice(iter(super().keys()), self.limit)

    def __len__(self) -> int:
        return min(super().__len__(), self.limit)

    def clear(self) -> None:
        """Clear the whole delegate."""
        super().clear()


@dataclass(eq=False)
class KeySubsetStash(DelegateStash):
    """Shows only the items whose names are in ``key_subset``: names, or the path of a file with one on each line.

    A file is read at the first use. Names of which the delegate has no item are passed over, unless ``dynamic_subset``
    is false: then the delegate is known to have them all, and is not asked.
    """

    key_subset: Collection[str] | Path = ()
    dynamic_subset: bool = True
    fs: Fs | None = field(default=None, kw_only=True, repr=False)

    _transient: ClassVar[frozenset[str]] = frozenset({"_names"})
    _names: ClassVar[dict[str, None] | None] = None

    def _subset(self) -> dict[str, None]:
        names = self._names
        if names is None:
            # A dict, so that the order is kept and a name that is listed twice comes once.
            names = dict.fromkeys(self._listed())
            vars(self)["_names"] = names
        return names

    def _listed(self) -> Iterable[str]:
        if not isinstance(self.key_subset, Path):
            return self.key_subset
        try:
            with reading(self.key_subset):
                text = (self.fs or Fs()).read_all(str(self.key_subset)).decode()
        except FileNotFoundError as error:
            raise MissingError("the file that lists the names is not there", path=self.key_subset) from error
        return [line for line in text.splitlines() if line]

    def load(self, name: str) -> Any:
        """The delegate's value, if the name is in the subset."""
        return super().load(name) if name in self._subset() else None

    def get(self, name: str, default: Any = None) -> Any:
        """The delegate's value, if the name is in the subset, or ``default``."""
        return super().get(name, default) if name in self._subset() else default

    def get_many(self, names: Iterable[str]) -> dict[str, Any]:
        """Those of ``names`` that are in the subset."""
        return super().get_many([name for name in names if name in self._subset()])

    def exists(self, name: str) -> bool:
        """Whether the name is in the subset and the delegate has it."""
        return name in self._subset() and (not self.dynamic_subset or super().exists(name))

    def keys(self) -> Iterator[str]:
        """The names of the subset of which the delegate has items, in the subset's order."""
        return (name for name in self._subset() if not self.dynamic_subset or DelegateStash.exists(self, name))

    def clear(self) -> None:
        """Delete the items of the subset; the delegate's others stay."""
        self.set_fill_mark(None)
        for name in tuple(self.keys()):
            self.delete(name)

    def _force(self, name: str) -> Any:
        return super()._force(name) if name in self._subset() else MISSING

    def _stamp(self, name: str) -> object:
        return super()._stamp(name) if name in self._subset() else MISSING

    def __len__(self) -> int:
        return sum(1 for _ in self.keys())


@dataclass(eq=False)
class SortedStash(DelegateStash):
    """Lists the delegate's names in order. ``sort_function``: from a name to what it is sorted by, e.g. ``int``."""

    sort_function: Callable[[str], Any] | None = None

    def keys(self) -> Iterator[str]:
        """The delegate's names, sorted."""
        return iter(sorted(super().keys(), key=self.sort_function))

    def __len__(self) -> int:
        return super().__len__()
