"""Stashes whose items are all made beforehand."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from perdure.errors import UsageError
from perdure.stash._base import Stash
from perdure.stash._delegate import DelegateStash, prime


@dataclass(eq=False)
class PreemptiveStash(DelegateStash):
    """Knows whether its delegate was filled to the end.

    The delegate says so by a mark that is written last, durably, when a fill has come to its end. Items alone prove
    nothing: a fill that was interrupted leaves items, too.
    """

    _transient: ClassVar[frozenset[str]] = frozenset({"_seen_full"})
    _seen_full: ClassVar[bool] = False

    @property
    def has_data(self) -> bool:
        """Whether the delegate was filled to the end."""
        return self._calculate_has_data()

    def _calculate_has_data(self) -> bool:
        if not self._seen_full:
            vars(self)["_seen_full"] = self.fill_mark() is not None
        return self._seen_full

    def _set_has_data(self, full: bool = True, note: str = "filled") -> None:
        self.set_fill_mark(note if full else None)
        vars(self)["_seen_full"] = full

    def _reset_has_data(self) -> None:
        """Ask the delegate again the next time."""
        vars(self)["_seen_full"] = False

    def invalidate(self) -> None:
        """Take it for unfilled from now on. The items stay; the next fill makes what is missing."""
        self._set_has_data(False)

    def clear(self) -> None:
        """Forget the mark first, then the items: a crash in between leaves an unfilled stash."""
        self._set_has_data(False)
        super().clear()

    def _filled_delegate(self) -> Stash:
        if self.delegate is None:
            raise UsageError(
                f"{type(self).__name__} needs a delegate", hint="delegate=DirectoryStash(path), for example"
            )
        return self.delegate


@dataclass(eq=False)
class PrimablePreemptiveStash(PreemptiveStash):
    """A stash that is filled to the end before anything else is answered.

    A subclass says how: ``_fill`` dumps every item into the delegate. When it returns, the mark is written.
    """

    def prime(self) -> None:
        """Fill the delegate, unless that was done. A fill that raises leaves what it has made, and no mark."""
        if not self.has_data:
            prime(self.delegate)
            self._fill()
            self._set_has_data(True)

    @abstractmethod
    def _fill(self) -> None:
        """Dump all items into the delegate."""

    def load(self, name: str) -> Any:
        """The delegate's value, after priming."""
        self.prime()
        return super().load(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The delegate's value or ``default``, after priming."""
        self.prime()
        return super().get(name, default)

    def get_many(self, names: Iterable[str]) -> dict[str, Any]:
        """What the delegate has of ``names``, after priming."""
        self.prime()
        return super().get_many(names)

    def exists(self, name: str) -> bool:
        """Whether the delegate has it, after priming."""
        self.prime()
        return super().exists(name)

    def keys(self) -> Iterable[str]:
        """The delegate's names, after priming."""
        self.prime()
        return super().keys()

    def dump(self, name: str, value: Any) -> None:
        """Store it in the delegate, after priming: else the fill would overwrite it."""
        self.prime()
        super().dump(name, value)

    def set_many(self, items: Mapping[str, Any]) -> None:
        """Store all of them in the delegate, after priming."""
        self.prime()
        super().set_many(items)

    def delete(self, name: str | None = None) -> None:
        """Delete it from the delegate, after priming; or clear."""
        if name is not None:
            self.prime()
        super().delete(name)

    def clear(self) -> None:
        """Forget all; the next call fills again."""
        super().clear()

    def _force(self, name: str) -> Any:
        self.prime()
        return super()._force(name)

    def _stamp(self, name: str) -> object:
        self.prime()
        return super()._stamp(name)

    def __len__(self) -> int:
        self.prime()
        return super().__len__()
