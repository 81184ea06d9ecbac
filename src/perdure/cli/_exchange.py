"""The lines of an export.

One JSON document a line, in this order:

- the head: ``{"perdure": "export", "version": 1, "class", "codec", "log_id", "base": {"seq", "at_ns", "digest"}, …}``
- the state that the commands build on, in the codec's bytes: any number of ``{"state": "base64"}``
- the commands: ``{"seq", "at", "at_ns", "utc_offset_min", "method", "args", "kwargs", "outcome", "error"}``, with
  ``"client"`` and ``"counter"`` where there are such; a seq that no command has was that of an outcome
- the end: ``{"end": true, "commands": count}``; without it the file is not whole

A value that JSON has not is an object with one key: ``{"$bytes": "base64"}``, ``{"$float": "nan"}``,
``{"$tuple": […]}``, ``{"$set": […]}``, ``{"$frozenset": […]}``, ``{"$dict": [[key, value], …]}``, or
``{"$pickle": "base64"}``, which is the codec's. A call whose arguments share objects, or cannot be taken apart without
its classes, has ``"$call": "base64"`` (the codec's bytes of method, arguments and keywords) instead of ``args`` and
``kwargs``, and a ``"text"`` for people.
"""

from __future__ import annotations

import base64
import math
from typing import Any

from perdure.codecs import Codec
from perdure.errors import CodecError

VERSION = 1
STATE_CHUNK_BYTES = 3 << 18


class NotPlainError(Exception):
    """A value that the tagged form does not hold."""


def tagged(value: Any, seen: set[int], codec: Codec | None) -> Any:
    """A value as JSON. ``seen``: containers of this call so far.

    ``codec``: encodes what is neither plain nor a container; without it, and for shared containers, ``NotPlainError``
    is raised.
    """
    kind = type(value)
    if kind in (type(None), bool, int, str) or (kind is float and math.isfinite(value)):
        return value
    if kind is float:
        return {"$float": repr(value)}
    if kind is bytes:
        return {"$bytes": base64.b64encode(value).decode()}
    if kind not in (list, tuple, dict, set, frozenset):
        if codec is None:
            raise NotPlainError
        return {"$pickle": base64.b64encode(codec.encode(value)).decode()}
    if id(value) in seen:
        raise NotPlainError
    seen.add(id(value))
    if kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: tagged(item, seen, codec) for key, item in value.items()}
        return {"$dict": [[tagged(key, seen, codec), tagged(item, seen, codec)] for key, item in value.items()]}
    items = [tagged(item, seen, codec) for item in (sorted(value, key=repr) if kind in (set, frozenset) else value)]
    return items if kind is list else {f"${kind.__name__}": items}


def untagged(value: Any, codec: Codec) -> Any:
    """The value that ``tagged`` made this of. Raises ``CodecError`` where it made no such thing."""
    if isinstance(value, list):
        return [untagged(item, codec) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1 or not next(iter(value)).startswith("$"):
        return {key: untagged(item, codec) for key, item in value.items()}
    ((tag, content),) = value.items()
    try:
        if tag == "$float":
            return float(content)
        if tag in ("$bytes", "$pickle"):
            data = base64.b64decode(content, validate=True)
            return data if tag == "$bytes" else codec.decode(data)
        if tag == "$dict":
            return {untagged(key, codec): untagged(item, codec) for key, item in content}
        made = [untagged(item, codec) for item in content]
        return {"$tuple": tuple, "$set": set, "$frozenset": frozenset}[tag](made)
    except (ValueError, TypeError, KeyError) as error:
        raise CodecError(f"{tag} with something that does not belong there: {error}") from error
