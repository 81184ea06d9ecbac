"""A list that knows its place in a dict, and has each change journaled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import index as as_index
from typing import Any, SupportsIndex

from perdure.mapping._place import Tracked, opened_of


class TrackedList(list[Any], Tracked):
    """A list inside a ``PersistentDict``: equal to an ordinary one, and encoded, copied and pickled as an ordinary one.

    Each method that changes it is one operation in the journal, whatever the size of the list. What is put in is
    copied. Once it has left the dict (popped, replaced, deleted with what it lay in) it is an ordinary list, and
    changing it is nobody's business.

    Each changing method raises what the list's own raises, and ``CodecError`` where a value cannot be stored; nothing
    has changed then.
    """

    __slots__ = ("_by_step", "_next", "_parent", "_step")

    _next: int
    """The least step for the next container that enters."""
    _by_step: dict[int, Any] | None
    """Containers by their step, once somebody has asked for one."""

    def __init__(self, values: Iterable[Any] = (), /) -> None:
        super().__init__(values)
        self._parent = None
        self._step = None
        self._next = 0
        self._by_step = None

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[type[list[Any]], tuple[list[Any]]]:
        return list, (list(self),)

    # ---- adding

    def append(self, value: Any, /) -> None:
        opened = opened_of(self)
        if opened is None:
            return super().append(value)
        opened.change(self, "append", [opened.track(value)])

    def extend(self, values: Iterable[Any], /) -> None:
        opened = opened_of(self)
        if opened is None:
            return super().extend(values)
        values = opened.track(list(values))
        if values:
            opened.change(self, "extend", [list(values)])

    def insert(self, index: SupportsIndex, value: Any, /) -> None:
        opened = opened_of(self)
        if opened is None:
            return super().insert(index, value)
        with opened.lock:
            position = as_index(index)
            size = len(self)
            position = max(0, position + size) if position < 0 else min(position, size)
            opened.change(self, "insert", [position, opened.track(value)])

    def __iadd__(self, values: Iterable[Any], /) -> TrackedList:  # type: ignore[misc]
        self.extend(values)
        return self

    def __imul__(self, times: SupportsIndex, /) -> TrackedList:
        opened = opened_of(self)
        if opened is None:
            return super().__imul__(times)
        with opened.lock:
            count = as_index(times)
            if count <= 0:
                self.clear()
            else:
                # Copies: one container cannot be in two places.
                self.extend([value for _ in range(count - 1) for value in self])
        return self

    # ---- replacing

    def __setitem__(self, index: Any, value: Any, /) -> None:
        opened = opened_of(self)
        if opened is None:
            return super().__setitem__(index, value)
        with opened.lock:
            if not isinstance(index, slice):
                position = self._position(index, "assignment")
                if not (isinstance(value, Tracked) and self[position] is value):  # As at the end of `l[i] += …`.
                    opened.change(self, "set", [position, opened.track(value)])
                return
            start, stop, step = index.indices(len(self))
            values = list(opened.track(list(value)))
            if step == 1:
                opened.change(self, "splice", [start, max(start, stop), values])
            else:
                count = len(range(start, stop, step))
                if len(values) != count:
                    raise ValueError(
                        f"attempt to assign sequence of size {len(values)} to extended slice of size {count}"
                    )
                if count:
                    opened.change(self, "slice", [_bounds(start, stop, step), values])

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        opened = opened_of(self)
        if opened is None:
            return super().sort(key=key, reverse=reverse)
        with opened.lock:
            if key is None:
                sorted(self, reverse=reverse)  # It must be known to work before it is journaled.
                opened.change(self, "sort", [bool(reverse)])
            else:
                keys = [key(value) for value in self]
                order = sorted(range(len(keys)), key=keys.__getitem__, reverse=reverse)
                opened.change(self, "order", [order])

    def reverse(self) -> None:
        opened = opened_of(self)
        if opened is None:
            return super().reverse()
        opened.change(self, "reverse", [])

    # ---- taking away

    def pop(self, index: SupportsIndex = -1, /) -> Any:
        opened = opened_of(self)
        if opened is None:
            return super().pop(index)
        with opened.lock:
            if not self:
                raise IndexError("pop from empty list")
            position = self._position(index, "pop")
            value = self[position]
            opened.change(self, "pop", [position])
            return value

    def remove(self, value: Any, /) -> None:
        opened = opened_of(self)
        if opened is None:
            return super().remove(value)
        with opened.lock:
            opened.change(self, "pop", [self.index(value)])

    def clear(self) -> None:
        opened = opened_of(self)
        if opened is None:
            return super().clear()
        opened.change(self, "clear", [])

    def __delitem__(self, index: SupportsIndex | slice, /) -> None:
        opened = opened_of(self)
        if opened is None:
            return super().__delitem__(index)
        with opened.lock:
            if not isinstance(index, slice):
                opened.change(self, "pop", [self._position(index, "assignment")])
                return
            start, stop, step = index.indices(len(self))
            if step == 1:
                opened.change(self, "splice", [start, max(start, stop), []])
            elif range(start, stop, step):
                opened.change(self, "delete", [_bounds(start, stop, step)])

    def _position(self, index: SupportsIndex, doing: str) -> int:
        position = as_index(index)
        size = len(self)
        if position < 0:
            position += size
        if not 0 <= position < size:
            raise IndexError(f"list {doing} index out of range" if doing != "pop" else "pop index out of range")
        return position


def _bounds(start: int, stop: int, step: int) -> list[int | None]:
    # Of at least one element. Going backwards, "up to the first element" has no number: -1 would mean the last one.
    return [start, None if stop < 0 else stop, step]
