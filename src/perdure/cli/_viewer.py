"""Stored calls as something to look at, without the classes that they were made of.

Nothing is imported, looked up or called that stored bytes name: the unpickler is given a stand-in for every name, which
only notes what it was made from. The opcodes were scanned before, as for a real one.
"""

from __future__ import annotations

import base64
import datetime
import io
import math
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec

from perdure.codecs import Json, MsgPack
from perdure.codecs._scan import scan
from perdure.errors import CodecError

_DEPTH_MAX = 100
_CODEC_MARK = 0


class StandIn:
    """Takes the place of an instance. ``full_name``: module and name of its class."""

    full_name: ClassVar[str] = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> StandIn:
        made = object.__new__(cls)
        made.args, made.kwargs = args, kwargs
        made.state, made.items, made.pairs = None, [], []
        return made

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    state: Any
    items: list[Any]
    pairs: list[tuple[Any, Any]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # All is done in __new__, which is the only one of the two that an unpickler may call.
        return

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        self.items.append(item)

    def extend(self, items: Any) -> None:
        self.items.extend(items)

    add = append

    def __setitem__(self, key: Any, value: Any) -> None:
        self.pairs.append((key, value))

    @property
    def attributes(self) -> dict[str, Any]:
        """What the instance's state says of its attributes, as far as it is of the usual form."""
        parts = self.state if isinstance(self.state, tuple) and len(self.state) == 2 else (self.state,)
        found: dict[str, Any] = {}
        for part in parts:
            if isinstance(part, dict):
                found.update({str(name): value for name, value in part.items()})
        return found


class _Inert(pickle.Unpickler):  # Looks up nothing: every name becomes a stand-in.
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._made: dict[str, type[StandIn]] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        full_name = f"{module}.{name}"
        if full_name not in self._made:
            self._made[full_name] = type("StandIn", (StandIn,), {"full_name": full_name})
        return self._made[full_name]

    def persistent_load(self, pid: Any, /) -> Any:
        raise CodecError("a reference to something outside")


@dataclass
class Call:
    """A stored call. ``opaque``: why its arguments cannot be shown. ``coded``: they are the codec's bytes."""

    method: str
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    opaque: str | None = None
    coded: bool = False

    def text(self, width: int | None) -> str:
        """As one would write it, each argument in at most ``width`` characters."""
        if self.opaque is not None:
            return f"{self.method}({self.opaque})"
        parts = [text_of(value, width) for value in self.args]
        parts += [f"{name}={text_of(value, width)}" for name, value in self.kwargs.items()]
        return f"{self.method}({', '.join(parts)})"


def read_call(codec: str, payload: bytes) -> Call:
    """Never raises: what cannot be read says so."""
    coded = payload[:1] == bytes([_CODEC_MARK])
    try:
        if payload[:1] == b"{":
            return _change(payload)
        parts = _decode(codec, payload[1:]) if coded else msgspec.msgpack.decode(payload)
        method, args = parts[0], parts[1]
        kwargs = parts[2] if len(parts) > 2 else {}
        return Call(str(method), list(args), {str(name): value for name, value in kwargs.items()}, coded=coded)
    except Exception as error:
        # Hostile bytes may make an unpickler raise anything; a viewer shows what it can.
        reason = error.message if isinstance(error, CodecError) else f"{type(error).__name__}: {error}"
        return Call("?", opaque=f"‹{len(payload)} bytes that cannot be read: {reason}›", coded=coded)


def _change(payload: bytes) -> Call:
    """A change of a dict, as its journal has it: the way to what is changed stands before the operation."""
    change = msgspec.json.decode(payload)
    way = "".join(f"[{step!r}]" for step in change.get("path", ()))
    return Call(f"{way}.{change['do']}" if way else str(change["do"]), list(change.get("args", ())))


def _decode(codec: str, data: bytes) -> Any:
    if codec == "json":
        return Json().decode(data)
    if codec == "msgpack":
        return MsgPack().decode(data)
    if codec != "pickle":
        raise CodecError(f"codec {codec!r} is not known here")
    scan(data)
    return _Inert(data).load()


# ---- as text


def text_of(value: Any, width: int | None = None) -> str:
    """A value as one would write it, cut to ``width`` characters."""
    if width is not None and type(value) in (str, bytes) and len(value) > width - 2:
        return _cut_text(value, width)
    parts: list[str] = []
    size = 0
    for piece in _pieces(value, width or 1 << 62, (), 0):
        parts.append(piece)
        size += len(piece)
        if width is not None and size > width:
            return "".join(parts)[: max(0, width - 1)] + "…"
    return "".join(parts)


def _cut_text(value: str | bytes, width: int) -> str:
    """A long text with its quotes."""
    whole = repr(value[:width])
    return whole if len(whole) <= width and len(value) <= width else whole[: width - 2].rstrip("\\") + "…" + whole[-1]


def _pieces(value: Any, width: int, inside: tuple[int, ...], depth: int) -> Iterator[str]:
    kind = type(value)
    if kind in (str, bytes):
        # Not more of a long text than will be seen.
        yield repr(value[: width + 1])
    elif kind in (type(None), bool, int, float):
        yield repr(value)
    elif isinstance(value, type):
        yield getattr(value, "full_name", value.__name__).rpartition(".")[2]
    elif id(value) in inside or depth > _DEPTH_MAX:
        yield "..."
    else:
        inner = (*inside, id(value))
        if isinstance(value, StandIn):
            yield from _instance(value, width, inner, depth)
        elif kind is dict:
            yield from _between("{", _pairs(value.items(), width, inner, depth, ": "), "}")
        elif kind is tuple:
            yield from _between("(", _each(value, width, inner, depth), ",)" if len(value) == 1 else ")")
        elif kind in (set, frozenset):
            members = sorted(text_of(member, width) for member in value)
            opening = "{" if kind is set else "frozenset({"
            yield from _between(opening, ([member] for member in members), "}" if kind is set else "})")
        elif kind is list:
            yield from _between("[", _each(value, width, inner, depth), "]")
        else:
            yield repr(value)


def _each(values: Any, width: int, inside: tuple[int, ...], depth: int) -> Iterator[Iterator[str]]:
    return (_pieces(value, width, inside, depth + 1) for value in values)


def _pairs(pairs: Any, width: int, inside: tuple[int, ...], depth: int, sign: str) -> Iterator[Iterator[str]]:
    def pair(key: Any, value: Any) -> Iterator[str]:
        yield from _pieces(key, width, inside, depth + 1)
        yield sign
        yield from _pieces(value, width, inside, depth + 1)

    return (pair(key, value) for key, value in pairs)


def _between(opening: str, groups: Any, closing: str) -> Iterator[str]:
    yield opening
    for position, group in enumerate(groups):
        if position:
            yield ", "
        yield from group
    yield closing


def _instance(value: StandIn, width: int, inside: tuple[int, ...], depth: int) -> Iterator[str]:
    known = _moment(value)
    if known is not None:
        yield known
        return

    def named(name: str, item: Any) -> Iterator[str]:
        yield f"{name}="
        yield from _pieces(item, width, inside, depth + 1)

    def groups() -> Iterator[Iterator[str]]:
        yield from _each(value.args, width, inside, depth)
        yield from (named(name, item) for name, item in {**value.kwargs, **value.attributes}.items())
        if value.items:
            yield _pieces(value.items, width, inside, depth)
        if value.pairs:
            yield _between("{", _pairs(value.pairs, width, inside, depth, ": "), "}")
        if value.state is not None and not value.attributes:
            yield _pieces(value.state, width, inside, depth)

    yield from _between(f"{value.full_name.rpartition('.')[2]}(", groups(), ")")


_MOMENTS: dict[str, Any] = {
    "datetime.datetime": datetime.datetime,
    "datetime.date": datetime.date,
    "datetime.time": datetime.time,
}


def _moment(value: StandIn) -> str | None:
    """Dates and times are stored as a few bytes, which nobody can read."""
    kind = _MOMENTS.get(value.full_name)
    if kind is None or not value.args or type(value.args[0]) is not bytes:
        return None
    try:
        text = kind(value.args[0]).isoformat()
    except (TypeError, ValueError):
        return None
    zone = f", {text_of(value.args[1])}" if len(value.args) > 1 else ""
    return f"{value.full_name.rpartition('.')[2]}({text}{zone})"


# ---- as JSON


def json_of(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """A value as JSON has it. What JSON has not is an object with one key that begins with ``$``."""
    kind = type(value)
    if kind in (type(None), bool, int, str) or (kind is float and math.isfinite(value)):
        return value
    if kind is float:
        return {"$float": repr(value)}
    if kind is bytes:
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, type):
        return {"$class": getattr(value, "full_name", value.__name__)}
    if id(value) in inside or len(inside) > _DEPTH_MAX:
        return {"$again": True}
    inner = (*inside, id(value))
    if kind is list:
        return [json_of(item, inner) for item in value]
    if kind is tuple:
        return {"$tuple": [json_of(item, inner) for item in value]}
    if kind in (set, frozenset):
        return {f"${kind.__name__}": [json_of(item, inner) for item in sorted(value, key=text_of)]}
    if kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: json_of(item, inner) for key, item in value.items()}
        return {"$dict": [[json_of(key, inner), json_of(item, inner)] for key, item in value.items()]}
    if isinstance(value, StandIn):
        return _instance_json(value, inner)
    return {"$text": repr(value)}


def _instance_json(value: StandIn, inside: tuple[int, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {"$object": value.full_name, "text": text_of(value)}
    if value.args:
        found["args"] = [json_of(item, inside) for item in value.args]
    state = {**value.kwargs, **value.attributes}
    if state:
        found["attributes"] = {name: json_of(item, inside) for name, item in state.items()}
    if value.items:
        found["items"] = [json_of(item, inside) for item in value.items]
    if value.pairs:
        found["pairs"] = [[json_of(key, inside), json_of(item, inside)] for key, item in value.pairs]
    return found
