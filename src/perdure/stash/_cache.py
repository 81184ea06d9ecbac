"""Items kept in memory on their way from a slower stash."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from perdure.errors import UsageError
from perdure.missing import MISSING
from perdure.stash._base import Stash, check_name
from perdure.stash._delegate import DelegateStash, NoopStash
from perdure.stash._dictionary import DictionaryStash

_OWN = "own"
"""The stamp of what was stored in the cache alone."""


@dataclass(eq=False)
class CacheStash(DelegateStash):
    """Keeps the delegate's items in ``cache_stash`` (by default a dict) once they have been asked for.

    What changes through this object is never stale. What others change behind its back is seen at once where the
    delegate can tell cheaply whether an item has changed (directories, dicts, logs, and object stores at the price of
    one request); elsewhere (SQL, Redis, shelves, mappings) after ``forget_cached``. That an item is absent is never
    remembered.

    A value from the cache is the very object that the last caller got, where the cache is in memory: whoever changes it
    changes it for all, but not in the delegate.

    ``read_only``: leave the delegate as it is; writes and deletions happen in the cache alone.
    """

    cache_stash: Stash | None = None
    read_only: bool = False

    _transient: ClassVar[frozenset[str]] = frozenset({"_cache", "_lock", "_changes", "_deleted", "_session"})

    def _reset(self) -> None:
        super()._reset()
        self._lock = threading.RLock()
        self._cache = self._make_cache()
        self._changes = 0
        self._deleted: set[str] = set()
        self._session = secrets.token_hex(8)

    def _make_cache(self) -> Stash:
        return DictionaryStash() if self.cache_stash is None else self.cache_stash

    # ---- reading -----------------------------------------------------------------------------------------------------

    def load(self, name: str) -> Any:
        """The cached value, or the delegate's, which is cached."""
        value = CacheStash._through_cache(self, name, make=True)
        return None if value is MISSING else value

    def get(self, name: str, default: Any = None) -> Any:
        """The cached value, or the delegate's, which is cached, or ``default``."""
        value = CacheStash._through_cache(self, name, make=False)
        return default if value is MISSING else value

    def _force(self, name: str) -> Any:
        return CacheStash._through_cache(self, name, make=True)

    def _through_cache(self, name: str, *, make: bool) -> Any:
        if name in self._deleted:
            return MISSING
        stamp = self._stamp_now(name)
        with self._lock:
            # Kept as (stamp, value), so that a cache that outlives the process can be believed, too.
            cached = self._cache.get(name, MISSING)
            if cached is not MISSING:
                if cached[0] == stamp or cached[0] == _OWN:
                    return cached[1]
                self._cache.delete(name)
            changes = self._changes
        value = DelegateStash._force(self, name) if make else DelegateStash.get(self, name, MISSING)
        if value is MISSING:
            return value
        with self._lock:
            # 1. this thread reads the old value; 2. another one dumps a new value; 3. this one would cache the old.
            # Where somebody else changed it between the stamp and the reading, the value is newer than its stamp: it is
            # read once more, no harm.
            if changes == self._changes:
                self._cache.dump(name, (stamp, value))
        return value

    def _stamp_now(self, name: str) -> object:
        stamp = DelegateStash._stamp(self, name)
        # Where nothing can be told the cache is good as long as this object lives.
        return f"session {self._session}" if stamp is None else str(stamp)

    def get_many(self, names: Iterable[str]) -> dict[str, Any]:
        """What there is of ``names``."""
        return Stash.get_many(self, names)

    def exists(self, name: str) -> bool:
        """Whether the delegate has it."""
        if name in self._deleted:
            return False
        return super().exists(name) or self._is_own(name)

    def keys(self) -> Iterable[str]:
        """The delegate's names."""
        if not self.read_only:
            return super().keys()
        names = dict.fromkeys(super().keys())
        names.update(dict.fromkeys(name for name in self._cache.keys() if self._is_own(name)))  # noqa: SIM118
        return iter([name for name in names if name not in self._deleted])

    def _is_own(self, name: str) -> bool:
        return self.read_only and bool((self._cache.get(name) or ("",))[0] == _OWN)

    def __len__(self) -> int:
        return sum(1 for _ in self.keys()) if self.read_only else super().__len__()

    # ---- writing -----------------------------------------------------------------------------------------------------

    def dump(self, name: str, value: Any) -> None:
        """Store it in the delegate. The cache forgets the old value, also where storing failed."""
        if self.read_only:
            with self._lock:
                self._cache.dump(name, (_OWN, value))
                self._deleted.discard(name)
            return
        try:
            super().dump(name, value)
        finally:
            self._forget([name])

    def set_many(self, items: Mapping[str, Any]) -> None:
        """Store all of them in the delegate."""
        if self.read_only:
            Stash.set_many(self, items)
            return
        try:
            super().set_many(items)
        finally:
            self._forget(items)

    def delete(self, name: str | None = None) -> None:
        """Delete it from the delegate and from the cache, or all."""
        if name is None:
            self.clear()
            return
        try:
            if self.read_only:
                self._deleted.add(check_name(name))
            else:
                super().delete(name)
        finally:
            self._forget([name])

    def clear(self) -> None:
        """Clear the delegate and the cache."""
        try:
            if self.read_only:
                self.set_fill_mark(None)
            else:
                super().clear()
        finally:
            deleted = set(super().keys()) if self.read_only else set()
            self.forget_cached()
            self._deleted |= deleted

    def fill_mark(self) -> str | None:
        """The delegate's, unless this object is read-only and has one of its own."""
        own = vars(self).get("_fill_mark", MISSING)
        return super().fill_mark() if own is MISSING else own

    def set_fill_mark(self, text: str | None) -> None:
        """Kept by the delegate, or by this object where it is read-only."""
        if self.read_only:
            Stash.set_fill_mark(self, text)
        else:
            super().set_fill_mark(text)

    def forget_cached(self) -> None:
        """Empty the cache; the delegate's items stay."""
        with self._lock:
            self._changes += 1
            self._deleted.clear()
            self._cache.clear()

    def _forget(self, names: Iterable[str]) -> None:
        with self._lock:
            self._changes += 1
            for name in names:
                self._cache.delete(name)


class _RecentStash(DictionaryStash):
    """A dict that forgets what was not asked for longest."""

    def __init__(self, size_max: int) -> None:
        self.size_max = size_max
        self._order: OrderedDict[str, Any] = OrderedDict()
        super().__init__(self._order)

    def load(self, name: str) -> Any:
        return self.get(name)

    def get(self, name: str, default: Any = None) -> Any:
        with self._lock:
            value = super().get(name, MISSING)
            if value is MISSING:
                return default
            self._order.move_to_end(name)
            return value

    def dump(self, name: str, value: Any) -> None:
        with self._lock:
            super().dump(name, value)
            self._order.move_to_end(name)
            while len(self._order) > self.size_max:
                self._order.popitem(last=False)


@dataclass(eq=False)
class LRUCacheStash(CacheStash):
    """A ``CacheStash`` in memory that keeps at most ``maxsize`` items, those that were asked for most recently.

    Without a delegate, ``LRUCacheStash(maxsize=1000)``, they are all that there is: for the ``cache_stash`` of another.
    """

    delegate: Stash | int | None = None  # type: ignore[assignment]
    cache_stash: Stash | None = field(init=False, default=None, repr=False)
    read_only: bool = field(init=False, default=False, repr=False)
    maxsize: int = 128

    def __post_init__(self) -> None:
        only = self.delegate
        if isinstance(only, int):
            self.delegate, self.maxsize = None, only
        if self.maxsize < 1:
            raise UsageError(f"maxsize={self.maxsize}", hint="at least 1")
        if self.delegate is None:
            self.delegate, self.cache_stash = _RecentStash(self.maxsize), NoopStash()
        super().__post_init__()

    @property
    def data(self) -> dict[str, Any]:
        """The items that are in memory, the one that was not asked for longest first."""
        if isinstance(self.delegate, _RecentStash):
            return self.delegate.data
        return OrderedDict((name, kept[1]) for name, kept in self._cache.items())

    def _make_cache(self) -> Stash:
        return _RecentStash(self.maxsize) if self.cache_stash is None else self.cache_stash
