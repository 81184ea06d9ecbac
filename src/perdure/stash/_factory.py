"""Items that are made where they are not there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from perdure.errors import UsageError
from perdure.missing import MISSING
from perdure.stash._base import Stash
from perdure.stash._delegate import DelegateStash, prime
from perdure.stash._preemptive import PreemptiveStash


@dataclass(eq=False)
class FactoryStash(PreemptiveStash):
    """Takes items from ``delegate``; what is not there is made by ``factory`` and stored in the delegate.

    ``[]`` and ``load`` make any item that the factory can make; ``get`` only those that the factory says exist. An
    error that the factory raises passes, and nothing is stored. ``prime`` makes all that is missing.

    ``enable_preemptive``: once ``prime`` has made everything, the names are the delegate's, and the factory is not
    asked any more. ``dump_factory_nones``: store ``None`` where that is what the factory made; otherwise it is made
    anew each time. ``force_clear_factory``: ``clear`` clears the factory, too.
    """

    factory: Stash | None = None
    enable_preemptive: bool = True
    dump_factory_nones: bool = True
    force_clear_factory: bool = False

    def load(self, name: str) -> Any:
        """The delegate's value, or else what the factory makes; ``None`` where it makes nothing."""
        value = FactoryStash._find_or_make(self, name)
        return None if value is MISSING else value

    def _force(self, name: str) -> Any:
        return FactoryStash._find_or_make(self, name)

    def _find_or_make(self, name: str) -> Any:
        delegate, factory = self._filled_delegate(), _needed(self.factory, self)
        value = delegate.get(name, MISSING)
        if value is not MISSING:
            return value
        value = factory.load(name)
        if value is None and not factory.exists(name):
            return MISSING
        if value is not None or self.dump_factory_nones:
            delegate.dump(name, value)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """The delegate's value, or else what the factory makes if it knows the name, or else ``default``."""
        value = self._filled_delegate().get(name, MISSING)
        if value is not MISSING:
            return value
        if not _needed(self.factory, self).exists(name):
            return default
        value = self._find_or_make(name)
        return default if value is MISSING else value

    def get_many(self, names: Iterable[str]) -> dict[str, Any]:
        """What is there, in one go; the rest is made one by one."""
        names = list(names)
        found = self._filled_delegate().get_many(names)
        made = ((name, self.get(name, MISSING)) for name in names if name not in found)
        return {**found, **{name: value for name, value in made if value is not MISSING}}

    def exists(self, name: str) -> bool:
        """Whether the delegate has it or the factory knows it."""
        if self._filled_delegate().exists(name):
            return True
        return not self._is_complete() and _needed(self.factory, self).exists(name)

    def keys(self) -> Iterable[str]:
        """The factory's names and those that only the delegate has, each once; after ``prime`` the delegate's."""
        delegate = self._filled_delegate()
        if self._is_complete():
            return delegate.keys()
        # In one dict, so that the order is the factory's and no name comes twice.
        return dict.fromkeys([*_needed(self.factory, self).keys(), *delegate.keys()]).keys()

    def clear(self) -> None:
        """Clear the delegate, and the factory where that is asked for."""
        super().clear()
        if self.force_clear_factory:
            _needed(self.factory, self).clear()

    def prime(self) -> None:
        """Make everything that is missing, and note that this has been done."""
        prime(self.delegate)
        prime(self.factory)
        if self._is_complete():
            return
        for name in _needed(self.factory, self).keys():  # noqa: SIM118
            if not self._filled_delegate().exists(name):
                self._find_or_make(name)
        if self.enable_preemptive:
            self._set_has_data(True)

    def _is_complete(self) -> bool:
        return self.enable_preemptive and self.has_data

    def __len__(self) -> int:
        return sum(1 for _ in self.keys())

    def _stamp(self, name: str) -> object:
        stamp = super()._stamp(name)
        # Not there yet is no absence: it would be made.
        return None if stamp is MISSING else stamp


@dataclass(eq=False)
class CacheFactoryStash(DelegateStash):
    """Takes items from ``delegate`` or makes them with ``factory``, like ``FactoryStash``, for factories that know
    all their names.

    Names and existence are the factory's alone; the delegate is no more than a place where results are kept.

    ``dump_factory_nones``: store ``None`` where that is what the factory made. ``force_clear_factory``: ``clear``
    clears the factory, too. ``enable_preemptive``: of no effect, as the names are never the delegate's.
    """

    factory: Stash | None = None
    enable_preemptive: bool = True
    dump_factory_nones: bool = True
    force_clear_factory: bool = False

    def prime(self) -> None:
        """Prime the delegate and the factory."""
        prime(self.delegate)
        prime(self.factory)

    def load(self, name: str) -> Any:
        """The delegate's value, or else what the factory makes."""
        value = CacheFactoryStash._find_or_make(self, name)
        return None if value is MISSING else value

    def get(self, name: str, default: Any = None) -> Any:
        """The same, or ``default`` for a name that the factory does not know."""
        value = CacheFactoryStash._find_or_make(self, name)
        return default if value is MISSING else value

    def _force(self, name: str) -> Any:
        return CacheFactoryStash._find_or_make(self, name)

    def _find_or_make(self, name: str) -> Any:
        factory = _needed(self.factory, self)
        if not factory.exists(name):
            return MISSING
        value = MISSING if self.delegate is None else self.delegate.get(name, MISSING)
        if value is MISSING:
            value = factory._force(name)
            storable = value is not MISSING and (value is not None or self.dump_factory_nones)
            if storable and self.delegate is not None:
                self.delegate.dump(name, value)
        return value

    def get_many(self, names: Iterable[str]) -> dict[str, Any]:
        """Those of ``names`` that the factory knows."""
        return Stash.get_many(self, names)

    def exists(self, name: str) -> bool:
        """Whether the factory knows it."""
        return _needed(self.factory, self).exists(name)

    def keys(self) -> Iterable[str]:
        """The factory's names."""
        return _needed(self.factory, self).keys()

    def clear(self) -> None:
        """Clear the delegate, and the factory where that is asked for."""
        super().clear()
        if self.force_clear_factory:
            _needed(self.factory, self).clear()

    def __len__(self) -> int:
        return len(_needed(self.factory, self))

    def _stamp(self, name: str) -> object:
        stamp = super()._stamp(name)
        # Not there yet is no absence: it would be made.
        return None if stamp is MISSING else stamp


def _needed(factory: Stash | None, owner: Stash) -> Stash:
    if factory is None:
        raise UsageError(
            f"{type(owner).__name__} needs a factory", hint="factory=a stash that says how to load an item"
        )
    return factory
