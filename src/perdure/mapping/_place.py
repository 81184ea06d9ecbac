"""Where a container is: which dict it belongs to, and by which path.

Each container knows its parent and its *step*: what leads from the parent to it. In a dict the step is the key. In a
list it is a number that the container was given when it entered, and that it keeps for as long as it stays: positions
shift whenever something before them comes or goes, steps do not. A list that has only ever grown at its end gives each
container its position as its step, so that paths in the journal read as expected.

That choice makes everything cheap that must be. A container's path takes time in proportion to its depth, whatever the
size of what it lies in. A container that leaves takes everything inside it along in one assignment, because whether a
container belongs to a dict is found by walking up. No table of containers is kept; only a list whose elements are
looked up by step (at replay) makes one, for itself. And paths, unlike numbers given out per file, stay right when
somebody edits a line by hand.
"""

from __future__ import annotations

from typing import Any

from perdure.errors import ReplayError


class Tracked:
    """What ``TrackedList`` and ``TrackedDict`` share."""

    __slots__ = ()

    _parent: Any
    """The container or ``Root`` that it lies in, a ``Limbo``, or ``None``: it lies in no dict."""
    _step: Any


class Root:
    """The top of a tree of containers: one opened dict. ``opened`` is what its containers tell of their changes."""

    __slots__ = ("data", "opened")

    def __init__(self) -> None:
        self.data: dict[Any, Any] = {}
        self.opened: Any = None


class Limbo:
    """Where a container is that was taken out by a change which may still be undone.

    Changes to it are not journaled, but they must be undone with the rest.
    """

    __slots__ = ("opened",)

    def __init__(self, opened: Any) -> None:
        self.opened: Any = opened


def opened_of(container: Tracked) -> Any:
    """The ``Opened`` that must hear of a change to a container; ``None`` where it is an ordinary list or dict."""
    node: Any = container
    while isinstance(node, Tracked):
        node = node._parent
    return None if node is None else node.opened


def path_of(container: Tracked) -> list[Any] | None:
    """The steps from the root; ``None`` for a container that lies in no dict (any more)."""
    steps = []
    node: Any = container
    while isinstance(node, Tracked):
        steps.append(node._step)
        node = node._parent
    if not isinstance(node, Root):
        return None
    steps.reverse()
    return steps


def enter_dict(owner: Any, key: Any, value: Any) -> None:
    """Ties a value to the dict or root that it is about to be put into."""
    if isinstance(value, Tracked):
        value._parent = owner
        value._step = key


def enter_list(owner: Any, value: Any, position: int) -> None:
    """Ties a value to the list that it is about to be put into. ``position``: the least step it may get."""
    if isinstance(value, Tracked):
        step = owner._next if owner._next > position else position
        owner._next = step + 1
        value._parent = owner
        value._step = step
        if owner._by_step is not None:
            owner._by_step[step] = value


def return_to_list(owner: Any, value: Any) -> None:
    """Ties a value to a list that it had been taken out of, with the step that it had."""
    if isinstance(value, Tracked):
        value._parent = owner
        if owner._by_step is not None:
            owner._by_step[value._step] = value


def leave(owner: Any, value: Any, limbo: Limbo | None) -> None:
    """Unties a value from what it lies in."""
    if isinstance(value, Tracked) and value._parent is owner:
        value._parent = limbo
        by_step = getattr(owner, "_by_step", None)
        if by_step is not None:
            by_step.pop(value._step, None)


def resolve(root: Root, path: list[Any]) -> Any:
    """The container that a path from the journal leads to. Raises ``ReplayError`` where it leads nowhere."""
    node: Any = root.data
    try:
        for step in path:
            node = _element(node, step) if isinstance(node, list) else dict.__getitem__(node, step)
    except (KeyError, TypeError) as error:
        raise ReplayError(f"the path {path!r} leads nowhere") from error
    if not isinstance(node, Tracked):
        raise ReplayError(f"the path {path!r} leads to no list or dict")
    return node


def _element(owner: Any, step: int) -> Any:
    if 0 <= step < len(owner):
        likely = list.__getitem__(owner, step)
        if isinstance(likely, Tracked) and likely._step == step:
            return likely
    if owner._by_step is None:
        owner._by_step = {value._step: value for value in owner if isinstance(value, Tracked)}
    return owner._by_step[step]
