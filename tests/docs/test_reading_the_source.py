"""The tour through the source names files and names that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.docs._pages import DOCS

PAGE = DOCS / "explanation" / "reading-the-source.md"
LINK = re.compile(r"\]\(((?:\.\./)+src/perdure/[\w/]+\.py)\)")
# "`name`, `other` and `third` in [file](path)"
STOP = re.compile(r"((?:`[\w.]+`(?:, | and )?)+)\s+in\s+\[[^\]]+\]\(([^)]+)\)")


def defined(path: Path) -> set[str]:
    """The functions, classes and methods (``Class.method`` and ``method``) of a file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names.update(f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef))
    return names


def test_every_file_is_there() -> None:
    links = LINK.findall(PAGE.read_text("utf-8"))
    assert len(links) > 20
    assert [link for link in links if not (PAGE.parent / link).is_file()] == []


def test_every_name_is_in_its_file() -> None:
    stops = STOP.findall(PAGE.read_text("utf-8"))
    assert len(stops) > 20
    for names, link in stops:
        known = defined((PAGE.parent / link).resolve())
        for name in re.findall(r"`([\w.]+)`", names):
            assert name in known, f"{link} has no {name}"
