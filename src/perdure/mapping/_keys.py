"""Keys of a dict: str, int, and nested tuples of them; in JSON a tuple is an array."""

from __future__ import annotations

from typing import Any

from perdure.errors import CodecError
from perdure.limits import NESTING_DEPTH_MAX

Key = Any
"""``str | int | tuple[Key, ...]``: a type that checkers cannot follow through a mapping's many signatures."""


def check_key(key: object) -> None:
    """Raises ``CodecError`` for anything that is no key. Subclasses are none: they would come back as what they are
    based on.
    """
    if not _is_key(key, 0):
        kind = type(key).__qualname__
        raise CodecError(
            f"a key cannot be of type {kind}: {key!r}" if type(key) is not tuple else f"not a key: {key!r}",
            hint="keys are str, int, and tuples of them",
        )


def _is_key(key: object, depth: int) -> bool:
    kind = type(key)
    if kind is str or kind is int:
        return True
    return kind is tuple and depth < NESTING_DEPTH_MAX and all(_is_key(part, depth + 1) for part in key)  # type: ignore[attr-defined]


def key_from_json(found: Any) -> Key:
    """The key that a line holds. Raises ``CodecError`` where it holds none."""
    kind = type(found)
    if kind is str or kind is int:
        return found
    if kind is list:
        return tuple([key_from_json(part) for part in found])
    raise CodecError(f"not a key: {found!r}", hint="keys are text, whole numbers, and arrays of them")
