"""The pages: docstrings of the standard library, read from its sources. Nothing of it is imported or run."""

from __future__ import annotations

import ast
import gc
import sysconfig
from collections.abc import Iterator
from pathlib import Path

_SKIPPED = frozenset(
    "test tests idlelib lib2to3 site-packages dist-packages __pycache__ turtledemo ensurepip _pyrepl".split()
)


def gather(count: int) -> dict[str, str]:
    """The first ``count`` docstrings by their dotted names, in an order that depends on the Python version alone."""
    found: dict[str, str] = {}
    was_on = gc.isenabled()
    gc.disable()  # Trees are many small objects and no garbage.
    try:
        for module, path in _sources():
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError, OSError):
                continue
            for name, text in _docstrings(tree, module):
                found.setdefault(name, text)
                if len(found) >= count:
                    return found
    finally:
        if was_on:
            gc.enable()
    return found


def _sources() -> Iterator[tuple[str, Path]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if _SKIPPED.isdisjoint(parts):
            yield ".".join(parts).removesuffix(".__init__"), path


def _docstrings(node: ast.Module | ast.ClassDef | ast.FunctionDef, name: str) -> Iterator[tuple[str, str]]:
    text = ast.get_docstring(node)
    if text:
        yield name, text
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            yield from _docstrings(child, f"{name}.{child.name}")
