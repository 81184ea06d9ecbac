"""The walk over plain data that the JSON and MessagePack codecs make in both directions."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from math import isfinite
from typing import Any

from perdure.codecs._offender import offender, type_name
from perdure.codecs._stack_model import too_deep
from perdure.errors import CodecError
from perdure.limits import NESTING_DEPTH_MAX

WIDE = 1_000


class PlainData:
    """Which values one plain codec takes, by exact type. Subclasses of list and dict count as list and dict."""

    def __init__(self, *, scalars: frozenset[type], keys: frozenset[type], finite: bool, codec: str) -> None:
        self._scalars = scalars
        self._harmless = scalars - {float} if finite else scalars
        self._keys = keys
        self._codec = codec

    def check(self, value: object) -> None:
        """Level by level, so that no nesting exhausts the stack; the common types are checked by whole sets.

        Raises:
            CodecError: a part is of another type, not a finite number where that is asked, or nested too deeply.
        """
        fault = self._fault(value)
        if fault is None:
            return
        if fault == "deep":
            raise too_deep()
        where, part = offender(value, lambda part: self._fault(part) is not None)
        raise CodecError(
            f"{type_name(type(part))} cannot be stored as {self._codec}"
            + (f", at {where}" if where != "value" else "")
            + (": not a finite number" if type(part) is float else ""),
            hint=f"{self._codec} takes {self._takes()}; codec='pickle' takes more",
        )

    def _fault(self, value: object) -> str | None:
        if type(value) in self._harmless:
            return None
        level: list[Any] = [value]
        for depth in range(NESTING_DEPTH_MAX + 1):
            inner: list[Iterable[Any]] = []
            for item in level:
                kind = type(item)
                if kind in self._harmless:
                    continue
                if kind is list or kind is tuple or isinstance(item, list):
                    parts: Iterable[Any] = item
                elif kind is dict or isinstance(item, dict):
                    if not self._keys.issuperset(map(type, item)):
                        return "key"
                    parts = item.values()
                elif kind is float and kind in self._scalars and isfinite(item):
                    continue
                else:
                    return "type"
                if depth == NESTING_DEPTH_MAX:
                    return "deep"
                if not self._harmless.issuperset(map(type, parts)):
                    inner.append(parts)
            level = [part for part in chain.from_iterable(inner) if type(part) not in self._harmless]
            if not level:
                return None
            if len(level) > WIDE:
                # A list that holds itself twice would double with each level.
                level = list({id(part): part for part in level}.values())
        return "deep"

    def _takes(self) -> str:
        scalars = sorted(kind.__name__ for kind in self._scalars if kind is not type(None))
        keys = " or ".join(sorted(kind.__name__ for kind in self._keys))
        return f"None, {', '.join(scalars)}, lists, tuples, and dicts with keys of {keys}"
