"""A short digest of what a function does, to tell when its stored results come from other code.

It covers the function and what it calls in its own top-level package: functions, methods of its own class (``self.x``),
and classes with all their methods. It follows the syntax tree, so comments, formatting, docstrings and type hints leave
it as it is. Not covered: other packages, values of global variables, what is reached through objects.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any

from perdure.homes import home_of
from perdure.syntax import text_of

CODE_BYTES = 8
_REACHED_MAX = 500


def code_digest(function: Callable[..., Any]) -> bytes:
    """8 bytes. Never raises: a function whose source cannot be found counts by its compiled code."""
    found: dict[FunctionType, str] = {}
    waiting: list[Any] = [inspect.unwrap(function)]
    while waiting and len(found) < _REACHED_MAX:
        each = waiting.pop()
        if isinstance(each, FunctionType) and each not in found:
            tree = _tree(each)
            found[each] = text_of(each, tree, _own_class(each))
            waiting.extend(_called(each, tree))
    digest = hashlib.blake2b(b"perdure-memo-code-2", digest_size=CODE_BYTES)
    for text in sorted(f"{home_of(each.__module__)}:{each.__qualname__}:{written}" for each, written in found.items()):
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.digest()


def _tree(function: FunctionType) -> ast.AST | None:
    try:
        parsed = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    definition = parsed[0] if parsed else None
    if function.__name__ == "<lambda>":
        # Its source is the whole statement around it, which says more than the lambda.
        lambdas = [node for node in ast.walk(definition) if isinstance(node, ast.Lambda)] if definition else []
        return lambdas[0] if len(lambdas) == 1 else None
    if not isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    definition.decorator_list = []  # How it is kept is no part of what it does.
    return definition


def _called(function: FunctionType, tree: ast.AST | None) -> Iterator[Any]:
    """The functions of the same package that are named in ``function``, whether or not they are called there."""
    package = function.__module__.partition(".")[0]
    scope = {**function.__globals__, **_closure(function)}
    for chain in _chains(tree) if tree is not None else [(name,) for name in function.__code__.co_names]:
        target: Any = _own_class(function) if chain[0] in ("self", "cls") else scope.get(chain[0])
        for name in chain[1:]:
            if isinstance(target, ModuleType) and _is_of(target.__name__, package):
                target = vars(target).get(name)
            elif isinstance(target, type):
                target = inspect.getattr_static(target, name, None)
            else:
                break
        yield from _functions_in(target, package)


def _functions_in(target: Any, package: str) -> Iterator[FunctionType]:
    if isinstance(target, property):
        members: list[Any] = [target.fget, target.fset]
    elif isinstance(target, type):
        members = list(vars(target).values()) if _is_of(target.__module__, package) else []
    else:
        members = [target]
    for member in members:
        if isinstance(member, property):
            member = member.fget
        if isinstance(member, staticmethod | classmethod):
            member = member.__func__
        try:
            function = inspect.unwrap(member) if callable(member) and not isinstance(member, type) else None
        except ValueError:
            continue
        if isinstance(function, FunctionType) and _is_of(function.__module__ or "", package):
            yield function


def _is_of(module: str, package: str) -> bool:
    return module.partition(".")[0] == package


def _closure(function: FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # Not assigned yet.
    return found


def _own_class(function: FunctionType) -> type | None:
    """The class in whose body ``function`` stands, where that can be found."""
    target: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split(".")[:-1]:
        target = vars(target).get(name) if isinstance(target, ModuleType | type) else None
    return target if isinstance(target, type) else None


def _chains(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """Every ``name`` and ``name.attribute.attribute`` that is read."""
    for node in ast.walk(tree):
        names: list[str] = []
        inner: ast.AST = node
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            yield inner.id, *reversed(names)
