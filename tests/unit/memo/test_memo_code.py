"""What counts as a change of code, and what is done about it."""

from __future__ import annotations

import importlib
import sys
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from perdure.memo import MemoWarning
from perdure.memo._code import code_digest

MAIN = """
import functools, math
from perdure.memo import memo
from . import helpers
from .helpers import direct

def local(x):
    return x + 1

class Tool:
    def use(self, x):
        return self.inner(x)

    def inner(self, x):
        return x * 10

    @memo(WHERE, on_code_change=POLICY)
    def method(self, x):
        return self.inner(x)

def later(x):
    return defined_below(x)

def defined_below(x):
    return x

@memo(WHERE, on_code_change=POLICY)
def f(x):
    '''Doc.'''
    return local(x) + helpers.through_module(x) + direct(x) + Tool().use(x) + later(x) + int(math.sqrt(x))

@memo(WHERE, on_code_change=POLICY)
def other(x):
    return x
"""
HELPERS = """
def through_module(x):
    return deep(x)

def deep(x):
    return x

def direct(x):
    return x

def unused(x):
    return x
"""


class Project:
    """A package ``pkg`` on disk that can be edited and imported again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pkg").mkdir()
        (folder / "pkg" / "__init__.py").touch()
        self.policy = "warn"
        self.main, self.helpers = MAIN, HELPERS

    def load(self) -> ModuleType:
        text = self.main.replace("WHERE", repr(str(self.folder / "cache"))).replace("POLICY", repr(self.policy))
        (self.folder / "pkg" / "main.py").write_text(text)
        (self.folder / "pkg" / "helpers.py").write_text(self.helpers)
        for name in [name for name in sys.modules if name.partition(".")[0] == "pkg"]:
            del sys.modules[name]
        importlib.invalidate_caches()
        import linecache

        linecache.clearcache()
        return importlib.import_module("pkg.main")

    def digest(self) -> bytes:
        return code_digest(self.load().f)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Project(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pkg"]:
        del sys.modules[name]


CHANGES = [
    ("main", "return local(x) +", "return 1 + local(x) +"),
    ("main", "return x + 1", "return x + 2"),
    ("main", "return x * 10", "return x * 11"),
    ("main", "def defined_below(x):\n    return x", "def defined_below(x):\n    return -x"),
    ("helpers", "def deep(x):\n    return x", "def deep(x):\n    return -x"),
    ("helpers", "def direct(x):\n    return x", "def direct(x):\n    return -x"),
]
NO_CHANGES = [
    ("main", "'''Doc.'''", "'''Other.'''  # comment\n"),
    ("main", "def local(x):\n", "def local(x: int) -> int:\n\n\n"),
    ("main", "return x + 1", "return (x +\n        1)"),
    ("main", "POLICY)\ndef f", "POLICY, expire_s=5)\ndef f"),
    ("helpers", "def unused(x):\n    return x", "def unused(x):\n    return -x"),
    ("main", "def other(x):\n    return x", "def other(x):\n    return -x"),
]


@pytest.mark.parametrize(("where", "old", "new"), CHANGES)
def test_a_change_in_what_is_called_is_a_change(project: Project, where: str, old: str, new: str) -> None:
    before = project.digest()
    assert project.digest() == before
    assert old in getattr(project, where)
    setattr(project, where, getattr(project, where).replace(old, new))
    assert project.digest() != before


@pytest.mark.parametrize(("where", "old", "new"), NO_CHANGES)
def test_other_edits_are_no_change(project: Project, where: str, old: str, new: str) -> None:
    before = project.digest()
    assert old in getattr(project, where)
    setattr(project, where, getattr(project, where).replace(old, new))
    assert project.digest() == before


def test_warn_uses_the_stored_result_and_says_so_once(project: Project) -> None:
    first = project.load().f(4)
    project.helpers = project.helpers.replace("def deep(x):\n    return x", "def deep(x):\n    return -x")
    changed = project.load()
    with pytest.warns(MemoWarning, match="has changed") as caught:
        assert changed.f(4) == first
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert changed.f(4) == first
        changed.f(9)
        changed.other(1)


def test_recompute_passes_old_results_by(project: Project) -> None:
    project.policy = "recompute"
    first = project.load().f(4)
    assert project.load().f.peek(4) == first
    project.helpers = project.helpers.replace("def deep(x):\n    return x", "def deep(x):\n    return -x")
    assert project.load().f(4) == first - 8
    assert project.load().f.peek(4) == first - 8


def test_ignore_ignores(project: Project) -> None:
    project.policy = "ignore"
    first = project.load().f(4)
    project.main = project.main.replace("return x + 1", "return x + 2")
    assert project.load().f(4) == first


def test_methods_reach_the_methods_of_their_class(project: Project) -> None:
    before = code_digest(project.load().Tool.method)
    project.main = project.main.replace("return x * 10", "return x * 11")
    assert code_digest(project.load().Tool.method) != before


def test_functions_without_source_count_by_their_code() -> None:
    made: dict[str, Any] = {}
    for name, text in {"a": "lambda x: x", "b": "lambda x: x", "c": "lambda x: x + 1", "d": "lambda x: x + 2"}.items():
        exec(textwrap.dedent(f"{name} = {text}"), {"__name__": "made"}, made)
    assert code_digest(made["a"]) == code_digest(made["b"])
    assert len({code_digest(made[name]) for name in "acd"}) == 3
