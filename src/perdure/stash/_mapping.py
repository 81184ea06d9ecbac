"""Items in any mapping."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from perdure.errors import UsageError
from perdure.stash._base import Stash, check_name

MAPPING_MARK = ".perdure-filled"


class MappingStash(Stash):
    """Items in any ``MutableMapping`` with text for keys: a dict, a ``shelve``, a ``perdure.PersistentDict``, a zict.

    It is as durable, and as safe to share between threads, as the mapping is. One key is set aside for noting that a
    fill has come to its end: it is not among the items.
    """

    def __init__(self, mapping: MutableMapping[str, Any]) -> None:
        self._content = mapping
        self.__post_init__()

    def load(self, name: str) -> Any:
        """The mapping's value; ``None`` where it has none."""
        return self.get(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The mapping's value, or ``default``."""
        try:
            return default if check_name(name) == MAPPING_MARK else self._content[name]
        except KeyError:
            return default

    def exists(self, name: str) -> bool:
        """Whether the mapping has it."""
        return check_name(name) != MAPPING_MARK and name in self._content

    def dump(self, name: str, value: Any) -> None:
        """Set the mapping's value."""
        if check_name(name) == MAPPING_MARK:
            raise UsageError(f"the name {name!r} is set aside for perdure's own note")
        self._content[name] = value

    def delete(self, name: str | None = None) -> None:
        """Forget it, or all."""
        if name is None:
            self.clear()
        elif check_name(name) != MAPPING_MARK:
            self._content.pop(name, None)

    def clear(self) -> None:
        """Forget all."""
        self.set_fill_mark(None)
        for name in tuple(self.keys()):
            self._content.pop(name, None)

    def keys(self) -> Iterator[str]:
        """The mapping's keys, in its order, as they are now."""
        return iter([name for name in self._content if name != MAPPING_MARK])

    def __len__(self) -> int:
        return len(self._content) - (MAPPING_MARK in self._content)

    def fill_mark(self) -> str | None:
        """See ``Stash.fill_mark``; kept in the mapping."""
        mark: str | None = self._content.get(MAPPING_MARK)
        return mark

    def set_fill_mark(self, text: str | None) -> None:
        """See ``Stash.set_fill_mark``; kept in the mapping."""
        if text is None:
            self._content.pop(MAPPING_MARK, None)
        else:
            self._content[MAPPING_MARK] = text
