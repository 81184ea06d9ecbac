"""Lists and dicts that come out of a shared dict: copies that know the way to the original.

Reading one costs nothing and shows what was there when it was fetched. Each method that changes it changes the
original, at the owner, and the copy with it; what such a method returns is what the original gave. The way leads by
keys and, in lists, by the steps that containers keep for as long as they stay (see ``perdure.mapping``): so what others
put in before it leads nobody astray, and a container that is gone raises ``KeyError``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from perdure.errors import CodecError
from perdure.mapping import TrackedDict, TrackedList, adopt, apply_steps, decode_json

_CONTAINERS = (list, dict, tuple)
_FROM_SERIES = ("extend", "__iadd__", "update", "__ior__")


class Forwarder(Protocol):
    """The handle that containers came from."""

    def change_at(self, path: list[Any], do: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Has the owner make an operation on the original."""
        ...

    def fetch_at(self, path: list[Any]) -> list[Any]:
        """The original, as it is now: JSON, steps, and path. Raises ``KeyError`` where it is gone."""
        ...

    def locked(self) -> Any:
        """A context manager that keeps everybody else out."""
        ...


class Base:
    """What a fetched container lies in: stands where its parent in the dict is. ``opened``: nobody, here."""

    __slots__ = ("forwarder", "opened", "path")

    def __init__(self, forwarder: Forwarder, path: list[Any]) -> None:
        self.forwarder = forwarder
        self.opened = None
        self.path = path


def _way(container: Any) -> tuple[Forwarder, list[Any]] | None:
    """Who makes changes, and the way to the original; ``None`` for a container that was taken out."""
    steps: list[Any] = []
    node = container
    while isinstance(node, (TrackedList, TrackedDict)):
        steps.append(node._step)
        node = node._parent
    if not isinstance(node, Base):
        return None
    # The outermost one has the whole path of its own.
    steps.pop()
    steps.reverse()
    return node.forwarder, [*node.path, *steps]


def fetched(forwarder: Forwarder, json: bytes, steps: list[Any], path: list[Any]) -> Any:
    """The copy of a container that the owner sent."""
    plain = adopt(decode_json(json))
    if steps:
        apply_steps(plain, steps)
    made = _shared(plain)
    made._parent = Base(forwarder, path)
    made._step = path[-1]
    return made


def _shared(container: Any) -> Any:
    """The same with containers that forward, each in its place."""
    if type(container) is TrackedList:
        made: Any = SharedList()
        for inner in container:
            list.append(made, _within(made, inner))
    else:
        made = SharedDict()
        for key, inner in container.items():
            dict.__setitem__(made, key, _within(made, inner))
    return made


def _within(parent: Any, inner: Any) -> Any:
    if isinstance(inner, (TrackedList, TrackedDict)):
        step = inner._step
        inner = _shared(inner)
        inner._parent = parent
        inner._step = step
    return inner


def _refresh(container: Any, forwarder: Forwarder, path: list[Any]) -> None:
    """Makes a copy what the original is now."""
    json, steps, _ = forwarder.fetch_at(path)
    fresh = fetched(forwarder, json, steps, path)
    if isinstance(container, list):
        list.__setitem__(container, slice(None), fresh)
        inner_values: Iterable[Any] = container
    else:
        dict.clear(container)
        dict.update(container, fresh)
        inner_values = container.values()
    for inner in inner_values:
        if isinstance(inner, (SharedList, SharedDict)):
            inner._parent = container


def _changing(name: str, base: type) -> Callable[..., Any]:
    own = getattr(base, name)
    in_place = name in ("__iadd__", "__imul__", "__ior__")

    def change(self: Any, *args: Any, **kwargs: Any) -> Any:
        way = _way(self)
        if way is None:
            return own(self, *args, **kwargs)
        if name in ("__setitem__", "setdefault") and len(args) == 2 and _is_own(self, args):
            return args[1]  # The end of `l[i] += …`, which has changed the original itself.
        forwarder, path = way
        if name in _FROM_SERIES or (name == "__setitem__" and isinstance(args[0], slice)):
            args = (*args[:-1], _given(args[-1])) if args else args
        result = forwarder.change_at(path, name, args, kwargs)
        try:
            if _holds_containers(args) or _holds_containers(tuple(kwargs.values())):
                _refresh(self, forwarder, path)
            else:
                own(self, *args, **kwargs)
        except (LookupError, ValueError, TypeError):
            # The copy was older than what was changed.
            _refresh(self, forwarder, path)
        if name == "setdefault":
            return self[args[0]]
        return self if in_place else result

    change.__name__ = name
    change.__qualname__ = f"{base.__name__}.{name}"
    change.__doc__ = own.__doc__
    return change


def _is_own(container: Any, args: tuple[Any, ...]) -> bool:
    place, value = args
    if not isinstance(value, (SharedList, SharedDict)) or value._parent is not container:
        return False
    try:
        return container[place] is value
    except LookupError:
        return False


def _given(value: Any) -> Any:
    """What a method goes through, in a form that can be sent: iterators and views become lists, mappings dicts."""
    if isinstance(value, (*_CONTAINERS, str)):
        return value
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):
        return {key: value[key] for key in value.keys()}  # noqa: SIM118 (it need not be iterable by itself)
    return list(value) if hasattr(value, "__iter__") else value


def _holds_containers(args: tuple[Any, ...]) -> bool:
    """Whether what is put in holds containers, which get their steps at the owner."""
    for value in args:
        if isinstance(value, dict):
            if any(isinstance(inner, _CONTAINERS) for inner in value.values()):
                return True
        elif isinstance(value, _CONTAINERS):
            return True
    return False


class SharedList(TrackedList):
    """A list out of a shared dict: a copy whose changing methods change the original, too."""

    __slots__ = ()

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """As of a list. With a ``key``, which cannot be sent, nobody else changes anything meanwhile."""
        way = _way(self)
        if way is None:
            list.sort(self, key=key, reverse=reverse)
            return
        forwarder, path = way
        if key is None:
            forwarder.change_at(path, "sort", (), {"reverse": bool(reverse)})
            _refresh(self, forwarder, path)
            return
        with forwarder.locked():
            _refresh(self, forwarder, path)
            wanted = sorted(self, key=key, reverse=reverse)
            forwarder.change_at(path, "__setitem__", (slice(None), list(wanted)), {})
            _refresh(self, forwarder, path)


class SharedDict(TrackedDict):
    """A dict out of a shared dict: what ``SharedList`` is for lists."""

    __slots__ = ()

    def edit(self, fields: Any, dropped: Iterable[str]) -> None:
        """Sets some keys and takes others away."""
        raise CodecError("edit() is made where the dict is open", hint="update() and del")


for _name in "append extend insert remove reverse pop clear __setitem__ __delitem__ __iadd__ __imul__".split():
    setattr(SharedList, _name, _changing(_name, list))
for _name in "__setitem__ __delitem__ clear pop popitem setdefault update __ior__".split():
    setattr(SharedDict, _name, _changing(_name, dict))
