"""A command line in this process, and a module of the user's beside it."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from perdure.cli import main

SOURCE = """
import datetime

import perdure


class Page:
    def __init__(self, name, text):
        self.name = name
        self.text = text
        self.tags = {"a", "b"}


class Wiki:
    def __init__(self):
        self.pages = {}
        self.events = []

    def create(self, name, text):
        self.pages[name] = Page(name, text)

    def put(self, page, when=None):
        self.pages[page.name] = page
        self.events.append((when, perdure.clock.now(), perdure.rng.random()))

    def edit(self, name, text):
        self.pages[name].text = text

    def extend(self, *items):
        self.events.extend(items)

    def fail(self):
        self.events.append("failed")
        raise ValueError("no")

    @perdure.abort_exception
    def guarded(self):
        self.events.append("guarded")
        raise KeyError("no")

    def in_order_of_a_set(self):
        self.events.append(list({"some", "words", "in", "a", "set", "of", "strings"}))


if __name__ == "__main__":
    import sys

    wiki = perdure.open(Wiki, sys.argv[1], snapshot="manual", keep_history=True)
    wiki.put(Page(f"Home{len(wiki.pages)}", "text"))
    perdure.control(wiki).close()
    print(len(wiki.__dict__))
"""

_numbers = itertools.count()


class Done(NamedTuple):
    """What a command line came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> Done:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return call


class App:
    """A module in the current directory. ``spec``: its class on a command line."""

    def __init__(self, folder: Path) -> None:
        self.name = f"wiki_app_{next(_numbers)}"
        self.path = folder / f"{self.name}.py"
        self.spec = f"{self.name}:Wiki"
        self.write(SOURCE)

    def write(self, source: str) -> None:
        self.path.write_text(source)
        sys.modules.pop(self.name, None)
        importlib.invalidate_caches()

    @property
    def module(self) -> Any:
        return importlib.import_module(self.name)


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = App(tmp_path)
    yield made
    sys.modules.pop(made.name, None)
    main_module = sys.modules["__main__"]
    for name in ("Page", "Wiki"):
        if hasattr(main_module, name):
            delattr(main_module, name)
