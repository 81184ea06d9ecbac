"""What a stash is: values by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from perdure.errors import UsageError
from perdure.missing import MISSING

if TYPE_CHECKING:
    from perdure.stash._mapping_view import StashMapping


class Stash(ABC):
    """A store of values by name (any text), and the base of all stashes.

    A subclass says how to ``load``, ``dump`` and ``delete`` one item and what the ``keys`` are; ``exists`` deserves an
    answer of its own where looking through the keys is slow. Everything else follows, and follows a subclass of a ready
    stash, too: whoever overrides ``load`` changes ``[]``, ``get``, ``values`` and so on with it.

    Iterating yields (name, value) pairs; ``mapping`` is the same content as a ``MutableMapping``, which iterates names.
    A stash is pickled as what it was made from: connections, locks and caches stay behind, so it goes to workers.
    """

    _transient: ClassVar[frozenset[str]] = frozenset()
    """Attributes that stay behind when the stash is pickled; ``_reset`` makes them anew."""

    # What a subclass has to ask again when it says differently how to load, to dump, and so on.
    _derived: ClassVar[dict[str, tuple[str, ...]]] = {
        "load": ("get", "_force", "get_many"),
        "exists": ("get", "_force", "get_many"),
        "get": ("get_many",),
        "dump": ("set_many",),
        "delete": ("clear",),
        "keys": ("__len__",),
    }

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        own = vars(cls)
        for name, derived in Stash._derived.items():
            if name in own:
                for method in derived:
                    if method not in own:
                        setattr(cls, method, getattr(Stash, method))

    def __post_init__(self) -> None:
        self._reset()

    def _reset(self) -> None:  # noqa: B027
        """Make the transient attributes. Called after construction and after unpickling."""

    # ---- what a subclass says ----------------------------------------------------------------------------------------

    @abstractmethod
    def load(self, name: str) -> Any:
        """The value, made where the stash can make it; ``None`` where there is none (``[]`` and ``get`` can tell)."""

    @abstractmethod
    def dump(self, name: str, value: Any) -> None:
        """Store ``value``, as durably as the stash promises, before returning.

        Raises:
            CodecError: the value cannot be stored; what was there before still is.
            WriteError: the store refused; what was there before still is, unless ``outcome`` is "unknown".
            ReadOnlyError: this stash takes nothing.
        """

    @abstractmethod
    def delete(self, name: str | None = None) -> None:
        """Forget the item; nothing happens where there is none. Without a name: forget all (``clear``)."""

    @abstractmethod
    def keys(self) -> Iterable[str]:
        """The names, each once."""

    def exists(self, name: str) -> bool:
        """Whether there is an item of that name, even if its value is ``None``."""
        return any(name == key for key in self.keys())

    # ---- what follows from it ----------------------------------------------------------------------------------------

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or ``default`` where there is none. Tries not to make again what is there already."""
        if not self.exists(name):
            return default
        value = self.load(name)
        # It may have been deleted in between.
        return default if value is None and not self.exists(name) else value

    def get_many(self, names: Iterable[str]) -> dict[str, Any]:
        """What there is of ``names``, in one go where the store can do that."""
        found = ((name, self.get(name, MISSING)) for name in names)
        return {name: value for name, value in found if value is not MISSING}

    def set_many(self, items: Mapping[str, Any]) -> None:
        """Store all of them, in one go where the store can do that. After an error some may be stored."""
        for name, value in items.items():
            self.dump(name, value)

    def clear(self) -> None:
        """Forget all items, and that it was ever filled."""
        self.set_fill_mark(None)
        for name in tuple(self.keys()):
            self.delete(name)

    def values(self) -> Iterator[Any]:
        """Each value, made where the stash can make it."""
        return (value for _, value in self.items())

    def items(self) -> Iterator[tuple[str, Any]]:
        """Each (name, value) pair. An item that is deleted meanwhile is passed over."""
        for name in self.keys():
            value = self._force(name)
            if value is not MISSING:
                yield name, value

    def key_groups(self, n: int) -> Iterator[list[str]]:
        """The names in groups of ``n``; the last group may be smaller."""
        if n < 1:
            raise UsageError(f"groups of {n} names")
        names = iter(self.keys())
        while group := list(islice(names, n)):
            yield group

    @property
    def mapping(self) -> StashMapping:
        """The same content as a true ``MutableMapping``: it iterates names, and what is absent is a ``KeyError``."""
        from perdure.stash._mapping_view import StashMapping  # It is built upon this file.

        return StashMapping(self)

    def _force(self, name: str) -> Any:
        """The value, made where the stash can make it, or ``MISSING``."""
        value = self.load(name)
        # Either nothing is there or a ``None`` is.
        return self.get(name, MISSING) if value is None else value

    def __getitem__(self, name: str) -> Any:
        value = self._force(name)
        if value is MISSING:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        self.dump(name, value)

    def __delitem__(self, name: str) -> None:
        if not self.exists(name):
            raise KeyError(name)
        self.delete(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.exists(name)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return self.items()

    def __len__(self) -> int:
        return sum(1 for _ in self.keys())

    # ---- what layers ask of the stash below them ---------------------------------------------------------------------

    def fill_mark(self) -> str | None:
        """What was noted when a fill of this stash had come to its end; ``None`` while none has.

        Kept with the items, as durably as they are. A stash that does not say how keeps it as long as the object lives,
        and is therefore filled again by the next process: never the other way round.
        """
        mark: str | None = vars(self).get("_fill_mark")
        return mark

    def set_fill_mark(self, text: str | None) -> None:
        """Note that a fill has come to its end, or (``None``) forget it."""
        vars(self)["_fill_mark"] = text

    @property
    def reaches_workers(self) -> bool:
        """Whether a pickled copy in another process of this machine reads and writes the same items."""
        return False

    def _stamp(self, name: str) -> object:
        """Something that differs after each change of the item, dearer than nothing and cheaper than reading it.

        ``MISSING`` where there is no such item; ``None`` where this stash cannot tell.
        """
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in self._transient}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset()


def check_name(name: object) -> str:
    """Raises ``UsageError`` where ``name`` is no text."""
    if not isinstance(name, str):
        raise UsageError(
            f"items are named by text, not by {type(name).__name__}: {name!r}", hint=f"str({name!r}), for example"
        )
    return name
