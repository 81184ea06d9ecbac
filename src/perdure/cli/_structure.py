"""What differs between two states: paths, and what stands there before and after."""

from __future__ import annotations

import datetime
import decimal
import itertools
import sys
import uuid
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from perdure.digest import digest
from perdure.errors import CodecError

_SCALARS = (
    type(None), bool, int, float, complex, str, bytes, datetime.datetime, datetime.date, datetime.time,
    datetime.timedelta, decimal.Decimal, uuid.UUID,
)  # fmt: skip


Inside = tuple[tuple[int, int], ...]
"""The pairs of objects that are being compared, from the outermost on: a ring comes to its end there."""


class Difference(NamedTuple):
    """``kind``: "added", "removed" or "changed". ``path``: as one would write it behind the object."""

    kind: str
    path: str
    before: Any = None
    after: Any = None


def differences(before: Any, after: Any) -> Iterator[Difference]:
    """In the order of the newer state, what was removed first. Calls no method of the user's classes."""
    yield from _compare(before, after, "", ())


def _compare(before: Any, after: Any, path: str, inside: Inside) -> Iterator[Difference]:
    pair = (id(before), id(after))
    if before is after or pair in inside:
        return
    kind = type(before)
    if kind is not type(after):
        # The two may be of the same class all the same, where a module was loaded twice; then attributes tell.
        if f"{kind.__module__}.{kind.__qualname__}" != f"{type(after).__module__}.{type(after).__qualname__}":
            yield Difference("changed", path, before, after)
            return
    if isinstance(before, _SCALARS):
        # A NaN is equal to itself here.
        if before != after and repr(before) != repr(after):
            yield Difference("changed", path, before, after)
        return
    inside = (*inside, pair)
    attributes = _attributes(before), _attributes(after)
    if isinstance(before, dict):
        yield from _compare_dicts(before, after, path, "[{!r}]", inside)
    elif isinstance(before, list | tuple | deque):
        yield from _compare_sequences(list(before), list(after), path, inside)
    elif isinstance(before, set | frozenset):
        yield from _compare_sets(before, after, path)
    elif not attributes[0] and not attributes[1]:
        if not _equal(before, after):
            yield Difference("changed", path, before, after)
    yield from _compare_dicts(*attributes, path, ".{}", inside)


def _compare_dicts(
    before: dict[Any, Any], after: dict[Any, Any], path: str, form: str, inside: Inside
) -> Iterator[Difference]:
    for key, value in before.items():
        if key not in after:
            yield Difference("removed", path + form.format(key), value)
    for key, value in after.items():
        inner = path + form.format(key)
        if key not in before:
            yield Difference("added", inner, None, value)
        else:
            yield from _compare(before[key], value, inner, inside)


def _compare_sequences(before: list[Any], after: list[Any], path: str, inside: Inside) -> Iterator[Difference]:
    """What is the same at both ends is passed over, so that an insertion is one addition."""
    start = 0
    while start < min(len(before), len(after)) and _same(before[start], after[start], inside):
        start += 1
    end = 0
    while end < min(len(before), len(after)) - start and _same(before[-1 - end], after[-1 - end], inside):
        end += 1
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    for position in range(max(len(old), len(new))):
        inner = f"{path}[{start + position}]"
        if position >= len(new):
            yield Difference("removed", inner, old[position])
        elif position >= len(old):
            yield Difference("added", inner, None, new[position])
        else:
            yield from _compare(old[position], new[position], inner, inside)


def _same(before: Any, after: Any, inside: Inside) -> bool:
    return next(_compare(before, after, "", inside), None) is None


def _compare_sets(before: Any, after: Any, path: str) -> Iterator[Difference]:
    old, new = {digest(item): item for item in before}, {digest(item): item for item in after}
    for key in sorted(old.keys() - new.keys()):
        yield Difference("removed", f"{path}{{{old[key]!r}}}", old[key])
    for key in sorted(new.keys() - old.keys()):
        yield Difference("added", f"{path}{{{new[key]!r}}}", None, new[key])


def _equal(before: Any, after: Any) -> bool:
    try:
        return digest(before) == digest(after)
    except CodecError:
        return repr(before) == repr(after)


def _attributes(value: Any) -> dict[str, Any]:
    found = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        names = base.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found


def changed_texts(before: Any, after: Any, width: int | None = 60) -> tuple[str, str]:
    """Both values of a change; of long texts the part where they begin to differ."""
    if width is not None and isinstance(before, str) and isinstance(after, str):
        pairs = enumerate(zip(before, after, strict=False))
        start = next((position for position, (old, new) in pairs if old != new), min(len(before), len(after)))
        if start > width // 2:
            start -= width // 4
            return f"…{shown(before[start:], width - 1)}", f"…{shown(after[start:], width - 1)}"
    return shown(before, width), shown(after, width)


def shown(value: Any, width: int | None = 60) -> str:
    """A value in one line, instances by their attributes, cut to ``width`` characters."""
    text = "".join(_written(value, 0, width or sys.maxsize))
    return text if width is None or len(text) <= width else text[: width - 1] + "…"


def _written(value: Any, depth: int, width: int) -> Iterator[str]:
    if isinstance(value, str | bytes):
        yield repr(value[: width + 1])
    elif isinstance(value, _SCALARS) or depth > 6:
        yield repr(value) if isinstance(value, _SCALARS) else "…"
    elif isinstance(value, dict):
        pairs = (f"{shown(k, width)}: {''.join(_written(v, depth + 1, width))}" for k, v in value.items())
        yield "{" + _joined(pairs, width) + "}"
    elif isinstance(value, list | tuple | set | frozenset | deque):
        opening, closing = ("[", "]") if isinstance(value, list | deque) else ("(", ")")
        if isinstance(value, set | frozenset):
            opening, closing = "{", "}"
        parts = ["".join(_written(item, depth + 1, width)) for item in itertools.islice(value, width)]
        if opening == "{":
            parts.sort()  # The order of a set is another one in each process.
        yield opening + _joined(iter(parts), width) + closing
    else:
        items = (f"{name}={''.join(_written(item, depth + 1, width))}" for name, item in _attributes(value).items())
        yield f"{type(value).__name__}({_joined(items, width)})"


def _joined(parts: Iterator[str], width: int) -> str:
    found: list[str] = []
    size = 0
    for part in parts:
        found.append(part)
        size += len(part) + 2
        if size > width:
            break  # The rest would not be seen.
    return ", ".join(found)
