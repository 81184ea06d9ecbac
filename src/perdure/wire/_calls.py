"""A call ↔ the body of its request."""

from __future__ import annotations

from itertools import chain
from typing import Any

import msgspec

from perdure.codecs import Codec
from perdure.errors import CodecError
from perdure.system import decode_command, encode_command
from perdure.wire._formats import JSON, MSGPACK, OWN


class BodyError(Exception):
    """The body is not what its type says."""


class Call(msgspec.Struct, forbid_unknown_fields=True):
    """What a body holds, beside the method, which stands in the path."""

    args: list[Any] = []
    kwargs: dict[str, Any] = {}


_decode_json = msgspec.json.Decoder(Call).decode
_decode_msgpack = msgspec.msgpack.Decoder(Call).decode
_encode_msgpack = msgspec.msgpack.Encoder().encode
_SCALARS = frozenset({type(None), bool, int, float, str, bytes})


def encode_call(method: str, args: tuple[Any, ...], kwargs: dict[str, Any], codec: Codec | None) -> tuple[str, bytes]:
    """The format, and the body. ``codec``: perdure's own, where there is a token; else plain data only.

    Raises:
        CodecError: an argument cannot be sent; nothing happened.
    """
    if codec is not None:
        payload, _, _ = encode_command(codec, method, args, kwargs)
        return OWN, payload
    try:
        return MSGPACK, _encode_msgpack({"args": args, "kwargs": kwargs})
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CodecError(
            f"{method}(): {error}", hint="without a token only plain data travels: numbers, texts, lists, dicts, dates"
        ) from error


def decode_call(kind: str, method: str, body: bytes, codec: Codec | None, *, depth_max: int) -> Call:
    """What a body asks for. An empty one is a call without arguments.

    ``codec``: perdure's own; ``None`` where the caller is not known, and then that format is refused.

    Raises:
        BodyError: it cannot be read, is nested more deeply than ``depth_max``, or names another method.
    """
    if not body:
        return Call()
    try:
        if kind == OWN and codec is not None:
            named, args, kwargs = decode_command(codec, body)
            if named != method:
                raise BodyError(f"the body calls {named[:100]!r}")
            return Call(list(args), kwargs)
        call = _decode_json(body) if kind == JSON else _decode_msgpack(body)
    except (CodecError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        # What a decoder says of foreign bytes may be long.
        raise BodyError(str(getattr(error, "message", error))[:300] or "nested too deeply") from error
    if too_deep(call.args, depth_max) or too_deep(call.kwargs, depth_max):
        raise BodyError(f"nested more than {depth_max} levels deep")
    return call


def too_deep(value: Any, depth_max: int) -> bool:
    """Whether lists and dicts are nested more deeply than that. Level by level, so that no nesting ends the walk."""
    level = [value]
    for _ in range(depth_max + 1):
        inner = chain.from_iterable(item.values() if isinstance(item, dict) else item for item in level)
        level = [item for item in inner if type(item) not in _SCALARS and isinstance(item, (list, tuple, dict))]
        if not level:
            return False
    return True
