"""Queries with a signature of their own.

A wrapper that takes ``*args, **kwargs`` packs and unpacks them at each call, which costs more than the query's lock.
For the common signatures (up to four plain parameters) there is a template with as many; its code is given the
parameters' names and its function their defaults, so that it can be called in every way the method can.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any

_PLAIN = inspect.Parameter.POSITIONAL_OR_KEYWORD


def query_like(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method for a proxy's class that calls ``function`` on the root, while no command runs."""
    if isinstance(function, FunctionType):
        parameters = list(inspect.signature(function, follow_wrapped=False).parameters.values())
        templates = _templates(function)
        if 0 < len(parameters) <= len(templates) and all(each.kind is _PLAIN for each in parameters):
            template = templates[len(parameters) - 1]
            code = template.__code__
            names = tuple(each.name for each in parameters)
            if not set(names) & set(code.co_varnames[len(names) :]):
                renamed = code.replace(co_varnames=names + code.co_varnames[len(names) :])
                return FunctionType(
                    renamed, template.__globals__, function.__name__, function.__defaults__, template.__closure__
                )
    return _any_signature(function)


def _any_signature(function: Callable[..., Any]) -> Callable[..., Any]:
    def query(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        perdure_lock = self._perdure_engine.lock
        perdure_lock.acquire()
        try:
            return function(self._perdure_root, *args, **kwargs)
        finally:
            perdure_lock.release()

    return query


def _templates(function: Callable[..., Any]) -> tuple[FunctionType, ...]:
    # `acquire` and `release` written out cost half of a `with`. If the lock refuses, nothing was taken.
    def query0(self: Any) -> Any:
        perdure_lock = self._perdure_engine.lock
        perdure_lock.acquire()
        try:
            return function(self._perdure_root)
        finally:
            perdure_lock.release()

    def query1(self: Any, a: Any) -> Any:
        perdure_lock = self._perdure_engine.lock
        perdure_lock.acquire()
        try:
            return function(self._perdure_root, a)
        finally:
            perdure_lock.release()

    def query2(self: Any, a: Any, b: Any) -> Any:
        perdure_lock = self._perdure_engine.lock
        perdure_lock.acquire()
        try:
            return function(self._perdure_root, a, b)
        finally:
            perdure_lock.release()

    def query3(self: Any, a: Any, b: Any, c: Any) -> Any:
        perdure_lock = self._perdure_engine.lock
        perdure_lock.acquire()
        try:
            return function(self._perdure_root, a, b, c)
        finally:
            perdure_lock.release()

    def query4(self: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        perdure_lock = self._perdure_engine.lock
        perdure_lock.acquire()
        try:
            return function(self._perdure_root, a, b, c, d)
        finally:
            perdure_lock.release()

    return query0, query1, query2, query3, query4  # type: ignore[return-value]
