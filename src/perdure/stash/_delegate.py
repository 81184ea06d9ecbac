"""Stashes that hand on to another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from perdure.errors import ReadOnlyError
from perdure.stash._base import Stash
from perdure.stash._prime import PrimeableStash


@dataclass(eq=False)
class DelegateStash(PrimeableStash):
    """Hands everything on to ``delegate``. The base of all layers; without a delegate it holds nothing and takes
    nothing.
    """

    delegate: Stash | None = None

    def prime(self) -> None:
        """Prime the delegate, where it can be primed."""
        prime(self.delegate)

    def load(self, name: str) -> Any:
        """The delegate's value."""
        return None if self.delegate is None else self.delegate.load(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The delegate's value, or ``default``."""
        return default if self.delegate is None else self.delegate.get(name, default)

    def get_many(self, names: Iterable[str]) -> dict[str, Any]:
        """What the delegate has of ``names``."""
        return {} if self.delegate is None else self.delegate.get_many(names)

    def exists(self, name: str) -> bool:
        """Whether the delegate has it."""
        return self.delegate is not None and self.delegate.exists(name)

    def dump(self, name: str, value: Any) -> None:
        """Store it in the delegate."""
        if self.delegate is not None:
            self.delegate.dump(name, value)

    def set_many(self, items: Mapping[str, Any]) -> None:
        """Store all of them in the delegate."""
        if self.delegate is not None:
            self.delegate.set_many(items)

    def delete(self, name: str | None = None) -> None:
        """Delete it from the delegate, or all."""
        if name is None:
            self.clear()
        elif self.delegate is not None:
            self.delegate.delete(name)

    def clear(self) -> None:
        """Clear the delegate."""
        if self.delegate is not None:
            self.delegate.clear()

    def keys(self) -> Iterable[str]:
        """The delegate's names."""
        return () if self.delegate is None else self.delegate.keys()

    def fill_mark(self) -> str | None:
        """The delegate's."""
        return None if self.delegate is None else self.delegate.fill_mark()

    def set_fill_mark(self, text: str | None) -> None:
        """Kept by the delegate."""
        if self.delegate is not None:
            self.delegate.set_fill_mark(text)

    @property
    def reaches_workers(self) -> bool:
        """As the delegate does."""
        return self.delegate is not None and self.delegate.reaches_workers

    def _force(self, name: str) -> Any:
        return super()._force(name) if self.delegate is None else self.delegate._force(name)

    def _stamp(self, name: str) -> object:
        return None if self.delegate is None else self.delegate._stamp(name)

    def __len__(self) -> int:
        return 0 if self.delegate is None else len(self.delegate)


@dataclass(eq=False)
class ReadOnlyDelegateStash(DelegateStash):
    """A delegate that may be read and not written. ``strict``: refuse writes with ``ReadOnlyError``, not in silence."""

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

    def set_many(self, items: Mapping[str, Any]) -> None:
        """Nothing, or ``ReadOnlyError`` where the stash is strict."""
        self._refuse("set_many")

    def set_fill_mark(self, text: str | None) -> None:
        """Nothing: the mark belongs to whoever fills the delegate."""

    def __delitem__(self, name: str) -> None:
        self.delete(name)

    def _refuse(self, what: str) -> None:
        if self.strict:
            raise ReadOnlyError(f"{type(self).__name__} is read-only: {what} is refused")


class NoopStash(Stash):
    """Holds nothing, takes everything, and forgets it at once: for tests, and to switch a layer off."""

    def load(self, name: str) -> Any:
        """``None``."""
        return None

    def get(self, name: str, default: Any = None) -> Any:
        """``default``."""
        return default

    def exists(self, name: str) -> bool:
        """No."""
        return False

    def dump(self, name: str, value: Any) -> None:
        """Nothing."""

    def delete(self, name: str | None = None) -> None:
        """Nothing."""

    def keys(self) -> Iterator[str]:
        """None."""
        return iter(())


def prime(stash: Stash | None) -> None:
    """Prime a stash, where it can be primed."""
    if isinstance(stash, PrimeableStash):
        stash.prime()
