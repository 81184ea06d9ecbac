"""Which expressions of a method are sets, as far as its text tells: their order differs from process to process."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Iterator

from ._reading import MethodSource, methods_of, own_nodes


def is_set_display(node: ast.expr | None) -> bool:
    """A set as it is written, unless it is one of numbers only: their hash is the same in every process."""
    if isinstance(node, ast.Set):
        return not all(isinstance(e, ast.Constant) and isinstance(e.value, (int, float)) for e in node.elts)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("set", "frozenset")
    return isinstance(node, ast.SetComp)


def set_locals(source: MethodSource) -> frozenset[str]:
    """Local names that are assigned sets and nothing else."""
    verdicts: dict[str, bool] = {}
    for target, is_set in _assignments(source):
        for name in ast.walk(target):
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                verdicts[name.id] = verdicts.get(name.id, True) and is_set and name is target
    return frozenset(name for name, is_set in verdicts.items() if is_set)


@functools.lru_cache(maxsize=256)
def set_attributes(cls: type) -> frozenset[str]:
    """Attributes of ``self`` that some method of the class assigns a set, or that a dataclass declares as one."""
    found = {
        target.attr
        for source in methods_of(cls).values()
        for target, is_set in _assignments(source)
        if is_set and isinstance(target, ast.Attribute)
    }
    for owner in inspect.getmro(cls):
        for name, annotation in vars(owner).get("__annotations__", {}).items():
            text = annotation if isinstance(annotation, str) else str(annotation).removeprefix("<class '")
            if text.startswith(("set", "frozenset")) and not text.endswith(("[int]", "[float]", "[bool]")):
                found.add(name)
    return frozenset(found)


def _is_set_annotation(annotation: ast.expr | None) -> bool:
    name = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    of = ast.unparse(annotation.slice) if isinstance(annotation, ast.Subscript) else ""
    return isinstance(name, ast.Name) and name.id in ("set", "frozenset") and of not in ("int", "float", "bool")


def _assignments(source: MethodSource) -> Iterator[tuple[ast.expr, bool]]:
    """Each target that the function assigns, and whether the value is a set."""
    for node in own_nodes(source.node) if source.node else ():
        if isinstance(node, ast.Assign):
            yield from ((target, is_set_display(node.value)) for target in node.targets)
        elif isinstance(node, ast.AnnAssign):
            declared = _is_set_annotation(node.annotation)
            numbers = isinstance(node.annotation, ast.Subscript) and not declared
            yield node.target, declared or (not numbers and is_set_display(node.value))
        elif isinstance(node, (ast.For, ast.NamedExpr)):
            yield node.target, False
