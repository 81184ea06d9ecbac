"""Which attributes of a class are commands, and which are queries."""

from __future__ import annotations

import functools
import types
from typing import Any, Literal

from perdure.system import _builtins
from perdure.system._decorators import QUERY_DUNDERS, marks

Kind = Literal["command", "query"]

_NO_METHODS = (staticmethod, classmethod, types.ClassMethodDescriptorType, type, property, functools.cached_property)


def kind_of(cls: type, name: str, raw: object) -> Kind | None:
    """What calling ``name`` on an instance is; ``None`` where that calls no method of it.

    ``raw``: what the class, or the base that defines it, has under that name.
    """
    function: Any = getattr(cls, name, None)
    if isinstance(raw, _NO_METHODS) or not callable(function) or not callable(getattr(type(raw), "__get__", None)):
        return None
    if cls in _builtins.TYPES:
        return "command" if name in _builtins.commands_of(cls) else "query"
    return "query" if marks(raw).readonly or name in QUERY_DUNDERS else "command"
