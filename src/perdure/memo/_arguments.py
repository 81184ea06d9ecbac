"""One form for all ways to write the same call: ``f(1)``, ``f(a=1)`` and ``f(1, b=<its default>)``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


class Arguments:
    """The parameters of one function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._signature = inspect.signature(function)
        parameters = list(self._signature.parameters.values())
        self._plain = all(each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters)
        self._count = len(parameters)
        self._defaults = tuple(each.default for each in parameters if each.default is not each.empty)
        self._keywords = next((each.name for each in parameters if each.kind is each.VAR_KEYWORD), None)
        self.first = parameters[0].name if parameters else None
        self.count_plain = self._count if self._plain else -1
        """With so many positional arguments, and no others, these are the values."""

    def values(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The value of each parameter, in the order of the signature.

        ``**kwargs`` are pairs in the order in which they were passed, which the function can see, too.

        Raises:
            TypeError: the function cannot be called like this.
        """
        if self._plain and not kwargs:
            missing = self._count - len(args)
            if missing == 0:
                return args
            if 0 < missing <= len(self._defaults):
                return args + self._defaults[-missing:]
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        found = bound.arguments
        if self._keywords is not None:
            found[self._keywords] = tuple(found[self._keywords].items())
        return tuple(found.values())
