"""The changes that a journal of a dict consists of: how each is made, and how it is undone.

A change is made by ``function(owner, args, limbo)``: to a container, or to the root. It never fails: whoever asks for
it has checked that it can be made. ``limbo``: where containers go that it takes out; ``None`` where nobody will want
them back. Values in ``args`` are scalars and containers that belong to nobody yet.

``inverse_of`` says what undoes a change, in terms of the same functions; it is asked before the change is made.
Undoing a change that was in the end not made (an interrupt came in between) does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from perdure.mapping._place import Limbo, Tracked, enter_dict, enter_list, leave, return_to_list

Function = Callable[[Any, Sequence[Any], Limbo | None], None]
Step = tuple[Function, Any, Sequence[Any]]
"""A function, its owner and its arguments."""


def contents(owner: Any) -> dict[Any, Any]:
    """The dict itself of a root or a tracked dict."""
    return owner if isinstance(owner, dict) else owner.data


# ---- dicts, and the root


def dict_set(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    key, value = args
    target = contents(owner)
    if key in target:
        leave(owner, dict.__getitem__(target, key), limbo)
    enter_dict(owner, key, value)
    dict.__setitem__(target, key, value)


def dict_delete(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    leave(owner, dict.pop(contents(owner), args[0], None), limbo)


def dict_update(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    for pair in args[0]:
        dict_set(owner, pair, limbo)


def dict_edit(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    """Sets some keys and takes others away."""
    pairs, dropped = args
    for pair in pairs:
        dict_set(owner, pair, limbo)
    for key in dropped:
        dict_delete(owner, (key,), limbo)


def dict_clear(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    target = contents(owner)
    for value in dict.values(target):
        leave(owner, value, limbo)
    dict.clear(target)


def dict_order(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    """Brings the keys into a given order. What stands in the right place already is not touched."""
    target = contents(owner)
    wanted = args[0]
    right = 0
    for key, other in zip(target, wanted, strict=False):
        if key != other:
            break
        right += 1
    for key in wanted[right:]:
        if key in target:
            dict.__setitem__(target, key, dict.pop(target, key))


# ---- lists


def list_append(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    enter_list(owner, args[0], len(owner))
    list.append(owner, args[0])


def list_extend(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    values = args[0]
    for position, value in enumerate(values, len(owner)):
        enter_list(owner, value, position)
    list.extend(owner, values)


def list_insert(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    position, value = args
    enter_list(owner, value, len(owner))
    list.insert(owner, position, value)


def list_pop(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    leave(owner, list.pop(owner, args[0]), limbo)


def list_set(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    position, value = args
    leave(owner, list.__getitem__(owner, position), limbo)
    enter_list(owner, value, len(owner))
    list.__setitem__(owner, position, value)


def list_splice(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    start, stop, values = args
    _put(owner, slice(start, stop), values, limbo)


def list_slice(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    (start, stop, step), values = args
    _put(owner, slice(start, stop, step), values, limbo)


def _put(owner: Any, place: slice, values: Sequence[Any], limbo: Limbo | None) -> None:
    for value in list.__getitem__(owner, place):
        leave(owner, value, limbo)
    size = len(owner)
    for value in values:
        enter_list(owner, value, size)
    list.__setitem__(owner, place, values)


def list_delete(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    place = slice(*args[0])
    for value in list.__getitem__(owner, place):
        leave(owner, value, limbo)
    list.__delitem__(owner, place)


def list_clear(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    for value in owner:
        leave(owner, value, limbo)
    list.clear(owner)


def list_sort(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    list.sort(owner, reverse=args[0])


def list_reverse(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    list.reverse(owner)


def list_order(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    list.__setitem__(owner, slice(None), [list.__getitem__(owner, position) for position in args[0]])


def list_restore(owner: Any, args: Sequence[Any], limbo: Limbo | None) -> None:
    """Gives a list of once ``size`` elements back what stood from ``start`` on, and its next step."""
    start, values, size, next_step = args
    place = slice(start, start + len(owner) - (size - len(values)))
    for value in list.__getitem__(owner, place):
        leave(owner, value, limbo)
    list.__setitem__(owner, place, values)
    for value in values:
        return_to_list(owner, value)
    owner._next = next_step


DICT_CHANGES: dict[str, Function] = {
    "set": dict_set,
    "delete": dict_delete,
    "update": dict_update,
    "edit": dict_edit,
    "clear": dict_clear,
}
LIST_CHANGES: dict[str, Function] = {
    "append": list_append,
    "extend": list_extend,
    "insert": list_insert,
    "pop": list_pop,
    "set": list_set,
    "splice": list_splice,
    "slice": list_slice,
    "delete": list_delete,
    "clear": list_clear,
    "sort": list_sort,
    "reverse": list_reverse,
    "order": list_order,
}
REGULAR = frozenset({list_append, list_extend})
"""After these, a list whose steps were its positions still has its positions as steps."""


def function_for(owner: Any, do: str) -> Function:
    """Raises ``KeyError`` where there is no such change."""
    return (LIST_CHANGES if isinstance(owner, list) else DICT_CHANGES)[do]


def inverse_of(function: Function, owner: Any, args: Sequence[Any], ordered: set[int]) -> list[Step]:
    """What undoes a change, to be made in this order; asked before the change is made.

    ``ordered``: dicts (by ``id``) whose order some earlier undoing will restore anyway; this one is added if needed.
    """
    if isinstance(owner, list):
        return [(list_restore, owner, _span(function, owner, args))]
    target = contents(owner)
    if function is dict_set:
        return [_unset(owner, target, args[0])]
    if function is dict_update:
        return [_unset(owner, target, key) for key in reversed(list(dict(args[0])))]
    if function is dict_edit:
        back = [_unset(owner, target, key) for key in (*args[1], *reversed(list(dict(args[0]))))]
        return [*back, (dict_order, owner, [list(target)])]
    if function is dict_clear:
        return [(dict_update, owner, [list(dict.items(target))])]
    if function is dict_order:
        return [(dict_order, owner, [list(target)])]
    key = args[0]
    if key not in target:
        return []
    steps: list[Step] = [(dict_set, owner, [key, dict.__getitem__(target, key)])]
    if id(owner) not in ordered and next(reversed(target)) != key:
        ordered.add(id(owner))
        steps.append((dict_order, owner, [list(target)]))
    return steps


def _unset(owner: Any, target: dict[Any, Any], key: Any) -> Step:
    if key in target:
        return dict_set, owner, [key, dict.__getitem__(target, key)]
    return dict_delete, owner, [key]


def _span(function: Function, owner: Any, args: Sequence[Any]) -> list[Any]:
    """The arguments of ``list_restore``: the smallest stretch that the change touches."""
    size = len(owner)
    start, stop = 0, size
    if function is list_append or function is list_extend:
        start = size
    elif function is list_insert:
        start = stop = args[0]
    elif function is list_pop or function is list_set:
        start, stop = args[0], args[0] + 1
    elif function is list_splice:
        start, stop = args[0], args[1]
    return [start, list.__getitem__(owner, slice(start, stop)), size, owner._next]


def renumber(value: Any) -> None:
    """Gives every list inside a value the steps that it would have if it were stored anew."""
    if isinstance(value, list):
        value._next = 0  # type: ignore[attr-defined]
        value._by_step = None  # type: ignore[attr-defined]
        for position, inner in enumerate(value):
            enter_list(value, inner, position)
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(inner, Tracked):
            renumber(inner)
