"""Making one tree of containers equal to another, so that whoever holds a container of it goes on holding it.

When a machine brings a state back from snapshot and journal it makes everything anew. A program that still has
``rows = pod["rows"]`` would then hold a list that is in no dict, and its changes would be lost in silence. So the old
containers take over the content of the new ones, wherever both have one under the same path.
"""

from __future__ import annotations

from typing import Any

from perdure.mapping._changes import contents
from perdure.mapping._place import Tracked, enter_dict, leave


def reconcile(owner: Any, wanted: dict[Any, Any]) -> None:
    """Gives a tracked dict, or a root, the content of ``wanted``, whose containers are used where there are no old
    ones.
    """
    target = contents(owner)
    kept = {key: _merged(target.get(key), value) for key, value in dict.items(wanted)}
    for key, value in dict.items(target):
        if kept.get(key) is not value:
            leave(owner, value, None)
    for key, value in kept.items():
        enter_dict(owner, key, value)
    same_order = len(target) == len(kept) and all(old == new for old, new in zip(target, kept, strict=True))
    if not same_order:
        dict.clear(target)
    dict.update(target, kept)


def _reconcile_list(owner: Any, wanted: Any) -> None:
    old = {inner._step: inner for inner in owner if isinstance(inner, Tracked)}
    kept: list[Any] = []
    for value in wanted:
        if isinstance(value, Tracked):
            step = value._step
            value = _merged(old.pop(step, None), value)
            value._parent = owner
            value._step = step
        kept.append(value)
    for inner in old.values():
        leave(owner, inner, None)
    list.__setitem__(owner, slice(None), kept)
    owner._next = wanted._next
    owner._by_step = None


def _merged(old: Any, new: Any) -> Any:
    """The old container with the new one's content, where both are of one type; the new value otherwise."""
    if type(old) is not type(new) or not isinstance(new, Tracked):
        return new
    if isinstance(old, list):
        _reconcile_list(old, new)
    else:
        reconcile(old, new)  # type: ignore[arg-type]
    return old
