"""A dict that knows its place in a dict, and has each change journaled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, SupportsIndex

from perdure.mapping._place import Tracked, opened_of

_MISSING = object()


class TrackedDict(dict[str, Any], Tracked):
    """A dict inside a ``PersistentDict``: what ``TrackedList`` is for lists. Its keys are str."""

    __slots__ = ("_parent", "_step")

    def __init__(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /) -> None:
        super().__init__(values)
        self._parent = None
        self._step = None

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)

    # ---- adding and replacing

    def __setitem__(self, key: str, value: Any, /) -> None:
        opened = opened_of(self)
        if opened is None:
            return super().__setitem__(key, value)
        if isinstance(value, Tracked) and self.get(key) is value:
            return  # The end of `d[key] += …`, which has told of itself.
        opened.change(self, "set", [opened.inner_key(key), opened.track(value)])

    def setdefault(self, key: str, default: Any = None, /) -> Any:
        opened = opened_of(self)
        if opened is None:
            return super().setdefault(key, default)
        with opened.lock:
            if key not in self:
                opened.change(self, "set", [opened.inner_key(key), opened.track(default)])
            return self[key]

    def update(self, *values: Any, **named: Any) -> None:
        opened = opened_of(self)
        if opened is None:
            return super().update(*values, **named)
        stored = opened.track(dict(*values, **named))
        if stored:
            opened.change(self, "update", [[[key, value] for key, value in stored.items()]])

    def edit(self, fields: Mapping[str, Any], dropped: Iterable[str]) -> None:
        """Sets some keys and takes others away, in one operation."""
        opened = opened_of(self)
        if opened is None:
            super().update(fields)
            for key in dropped:
                super().pop(key, None)
            return
        pairs = [[key, value] for key, value in opened.track(dict(fields)).items()]
        opened.change(self, "edit", [pairs, [key for key in dropped if key in self and key not in fields]])

    def __ior__(self, values: Any, /) -> TrackedDict:  # type: ignore[misc,override]
        self.update(values)
        return self

    # ---- taking away

    def __delitem__(self, key: str, /) -> None:
        opened = opened_of(self)
        if opened is None:
            return super().__delitem__(key)
        with opened.lock:
            self[key]  # Raises KeyError where it is not there: nothing is journaled then.
            opened.change(self, "delete", [key])

    def pop(self, key: str, default: Any = _MISSING, /) -> Any:
        opened = opened_of(self)
        if opened is None:
            return super().pop(key) if default is _MISSING else super().pop(key, default)
        with opened.lock:
            if key not in self and default is not _MISSING:
                return default
            value = self[key]
            opened.change(self, "delete", [key])
            return value

    def popitem(self) -> tuple[str, Any]:
        opened = opened_of(self)
        if opened is None:
            return super().popitem()
        with opened.lock:
            if not self:
                raise KeyError("popitem(): dictionary is empty")
            key = next(reversed(self))
            return key, self.pop(key)

    def clear(self) -> None:
        opened = opened_of(self)
        if opened is None:
            return super().clear()
        opened.change(self, "clear", [])
