"""What a snapshot says of lists in which steps are not positions (see ``_place``).

``[[path, next, [step, …]], …]``: for each such list its path (keys and positions, from the value on), its next step,
and the steps of the containers in it, in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perdure.errors import CodecError
from perdure.mapping._place import Tracked


def steps_of(value: Any) -> list[list[Any]]:
    """What must be said of a value; empty where reading it back gives the right steps by itself."""
    said = []
    for path, found in _lists(value, []):
        containers = [(position, inner._step) for position, inner in enumerate(found) if isinstance(inner, Tracked)]
        usual = containers[-1][0] + 1 if containers else 0
        if found._next != usual or any(position != step for position, step in containers):
            said.append([path, found._next, [step for _, step in containers]])
    return said


def _lists(value: Any, path: list[Any]) -> Iterator[tuple[list[Any], Any]]:
    if isinstance(value, list):
        yield path, value
        pairs: Any = enumerate(value)
    else:
        pairs = value.items() if isinstance(value, dict) else ()
    for step, inner in pairs:
        if isinstance(inner, Tracked):
            yield from _lists(inner, [*path, step])


def apply_steps(value: Any, said: list[Any]) -> None:
    """Gives the lists in a value that was just read their steps.

    Raises:
        CodecError: the value is not the one that this was said of; somebody has edited it.
    """
    try:
        for path, next_step, steps in said:
            node = value
            for step in path:
                node = node[step]
            containers = [inner for inner in node if isinstance(inner, Tracked)]
            if len(containers) != len(steps) or len(set(steps)) != len(steps) or not isinstance(node, list):
                raise LookupError(f"{len(steps)} steps for {len(containers)} containers")
            for inner, step in zip(containers, steps, strict=True):
                inner._step = int(step)
            node._next = int(next_step)  # type: ignore[attr-defined]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CodecError(
            f"its steps do not fit its value: {error}", hint="take steps away if the journal holds nothing newer"
        ) from error
