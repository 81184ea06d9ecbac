"""An object as a tree of lines, for people to open and close: bounded, and calling no method of the user's classes."""

from __future__ import annotations

import datetime
import decimal
import enum
import pathlib
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

_SCALARS = (
    type(None), bool, int, float, complex, str, bytes, bytearray, datetime.datetime, datetime.date, datetime.time,
    datetime.timedelta, decimal.Decimal, uuid.UUID, enum.Enum, pathlib.PurePath,
)  # fmt: skip
_CHILDREN_MAX = 100
_DEPTH_MAX = 8
_TEXT_LENGTH_MAX = 400
_INT_BITS_MAX = 4_000


@dataclass
class Node:
    """One line. ``label``: key, position or attribute. ``more``: children that are not shown."""

    label: str
    kind: str
    text: str
    children: list[Node] = field(default_factory=list)
    more: int = 0


def tree(value: Any, *, nodes_max: int = 3_000) -> Node:
    """The object with what it holds, breadth first: where it is too large, the depths are missing."""
    root = Node("", *_described(value))
    level: list[tuple[Node, Any, tuple[int, ...]]] = [(root, value, ())]
    count = 1
    for _ in range(_DEPTH_MAX):
        below: list[tuple[Node, Any, tuple[int, ...]]] = []
        for node, item, above in level:
            if isinstance(item, _SCALARS):
                continue
            if id(item) in above:
                node.text = "… an object that holds this one"
                continue
            size, children = _children(item)
            room = min(_CHILDREN_MAX, max(nodes_max - count, 0))
            for label, child in islice(children, room):
                made = Node(label, *_described(child))
                node.children.append(made)
                below.append((made, child, (*above, id(item))))
                count += 1
            node.more = size - len(node.children)
        level = below
    for node, item, _ in level:
        node.more = 0 if isinstance(item, _SCALARS) else _children(item)[0]
    return root


def _children(value: Any) -> tuple[int, Iterator[tuple[str, Any]]]:
    """How many there are, and each with its label."""
    attributes = _attributes(value)
    named = ((name, item) for name, item in attributes.items())
    if isinstance(value, dict):
        pairs = ((short(key), item) for key, item in dict.items(value))
        return dict.__len__(value) + len(attributes), _both(pairs, named)
    if isinstance(value, (list, tuple, deque)):
        numbered = ((str(position), item) for position, item in enumerate(list(islice(value, _CHILDREN_MAX + 1))))
        return len(value) + len(attributes), _both(numbered, named)
    if isinstance(value, (set, frozenset)):
        # In an order that is the same in each process.
        members = sorted(islice(value, 10_000), key=short)
        return len(value) + len(attributes), _both((("", item) for item in members), named)
    return len(attributes), named


def _both(first: Iterator[tuple[str, Any]], second: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    yield from first
    yield from second


def _attributes(value: Any) -> Mapping[str, Any]:
    found = {name: item for name, item in getattr(value, "__dict__", {}).items() if name != "_clock"}
    for base in type(value).__mro__:
        names = base.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found


def _described(value: Any) -> tuple[str, str]:
    """The name of its type, and itself in a few words."""
    kind = type(value).__qualname__
    if isinstance(value, _SCALARS):
        return kind, short(value)
    if isinstance(value, (dict, list, tuple, set, frozenset, deque)):
        count = len(value)
        return kind, f"{count:,} {'item' if count == 1 else 'items'}"
    return kind, ""


def short(value: Any) -> str:
    """A value in one line that is not long, whatever it is."""
    if isinstance(value, (str, bytes, bytearray)):
        text = repr(value[:_TEXT_LENGTH_MAX])
        return text + f" … {len(value):,} in all" if len(value) > _TEXT_LENGTH_MAX else text
    if isinstance(value, int) and value.bit_length() > _INT_BITS_MAX:
        return f"an int of {value.bit_length():,} bits"
    if isinstance(value, _SCALARS):
        return repr(value)[:_TEXT_LENGTH_MAX]
    if isinstance(value, tuple):
        return "(" + ", ".join(short(item) for item in value[:5]) + (", …)" if len(value) > 5 else ")")
    return f"a {type(value).__qualname__}"
