"""Operations as plain data: what the process that has a dict open does on behalf of others.

An operation is ``{"do": "append", "path": ["a", "b"], "args": [4], "kwargs": {}}``: a method's name, the way from the
dict to what it is called on (keys, and positions in lists), and its arguments. All but ``do`` may be left out.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from perdure.errors import UsageError
from perdure.mapping._tracked_dict import TrackedDict
from perdure.mapping._tracked_list import TrackedList

Operation = Mapping[str, Any]

_OF_ALL = {
    "__getitem__", "__setitem__", "__delitem__", "__contains__", "__len__", "__eq__", "__ne__", "clear", "copy", "pop",
}  # fmt: skip
OPERATIONS_OF_LISTS = _OF_ALL | {
    "append", "extend", "insert", "remove", "sort", "reverse", "index", "count",
    "__iadd__", "__imul__", "__add__", "__mul__", "__lt__", "__le__", "__gt__", "__ge__",
}  # fmt: skip
OPERATIONS_OF_DICTS = _OF_ALL | {
    "get", "setdefault", "update", "popitem", "keys", "values", "items", "__ior__", "__or__",
}  # fmt: skip
_OF_ROOTS = OPERATIONS_OF_DICTS | {
    "sync", "sync_key", "mark_dirty", "dirty", "hold", "unhold", "revert", "is_writeable", "chunk",
    "add", "add_if_absent", "add_many", "add_many_if_absent", "mark_done", "mark_not_done", "increment_tries",
    "decrement_tries", "reset_tries", "abort", "unabort", "done", "tries", "aborted", "should_do", "should_do_add",
    "should_try", "should_try_add", "claim", "release", "heartbeat", "fail", "failures", "retry_failed", "counts",
}  # fmt: skip
OPERATIONS_IN_PLACE: Mapping[str, Callable[[Any, Any], Any]] = {
    "__iadd__": operator.iadd,
    "__isub__": operator.isub,
    "__imul__": operator.imul,
    "__itruediv__": operator.itruediv,
    "__ifloordiv__": operator.ifloordiv,
    "__imod__": operator.imod,
    "__iand__": operator.iand,
    "__ior__": operator.ior,
    "__ixor__": operator.ixor,
}
"""Of values that are no lists and dicts: the result takes the value's place."""
_MADE_HERE = {"keys": list, "values": list, "items": list}
"""Views of what may change meanwhile become lists, which can be sent."""


def apply(target: Any, operation: Operation) -> Any:
    """Makes an operation on a ``PersistentDict`` or ``Tracker`` and returns its result.

    Results that are containers are the dict's own: whoever sends them away sends copies.

    Raises:
        UsageError: there is no such operation; nothing happened.
        KeyError, IndexError: the path leads nowhere; nothing happened.
        and what the method raises.
    """
    do = str(operation.get("do"))
    path = operation.get("path") or ()
    with target.locked():
        owner = step = None
        found = target
        for step in path:
            step = tuple(step) if found is target and isinstance(step, list) else step
            owner, found = found, found[step]
        if found is target:
            allowed = _OF_ROOTS
        elif isinstance(found, (TrackedList, TrackedDict)):
            allowed = OPERATIONS_OF_LISTS if isinstance(found, TrackedList) else OPERATIONS_OF_DICTS
        elif do in OPERATIONS_IN_PLACE and owner is not None:
            owner[step] = OPERATIONS_IN_PLACE[do](found, *operation.get("args") or ())
            return None
        else:
            raise UsageError(f"{do!r} was asked of what is no list or dict, at {list(path)!r}")
        if do not in allowed or not hasattr(found, do):
            raise UsageError(f"no operation {do!r} on a {type(found).__name__}")
        result = getattr(found, do)(*operation.get("args") or (), **operation.get("kwargs") or {})
    made = _MADE_HERE.get(do)
    return result if made is None else made(result)
