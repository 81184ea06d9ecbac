"""Every public name has its place in the reference."""

from __future__ import annotations

import importlib
import inspect
import re
import types
from collections.abc import Iterator
from typing import Any

import pytest

from tests.docs._pages import DOCS

FACADES = ["perdure", "perdure.memo", "perdure.stash", "perdure.fill", "perdure.testing"]
# Said in the text of a page, because they are names for something that has an entry, or are what their entry says.
NO_ENTRY = {"__version__"}


def entries() -> list[str]:
    """What the pages of the reference ask to be generated, as dotted names."""
    pages = (page.read_text("utf-8") for page in sorted((DOCS / "reference").glob("*.md")))
    return [name for page in pages for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE)]


def resolve(dotted: str) -> Any:
    parts = dotted.split(".")
    # `perdure.memo` is a decorator, and `perdure.memo.memo` is in the package of the same name.
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    raise LookupError(dotted)


def documented() -> Iterator[Any]:
    for entry in entries():
        found = resolve(entry)
        yield found
        if isinstance(found, types.ModuleType):
            yield from (value for name, value in vars(found).items() if not name.startswith("_"))


@pytest.mark.parametrize("facade", FACADES)
def test_every_public_name_is_in_the_reference(facade: str) -> None:
    module = importlib.import_module(facade)
    known = list(documented())
    missing = [
        name
        for name in module.__all__
        if name not in NO_ENTRY and not any(getattr(module, name) is value for value in known)
    ]
    assert not missing, f"in {facade}.__all__ and on no page below docs/reference: {', '.join(missing)}"


def test_no_entry_stands_twice() -> None:
    found = entries()
    assert len(found) == len(set(found))


def test_every_error_is_on_the_page_of_errors() -> None:
    errors = importlib.import_module("perdure.errors")
    assert "perdure.errors" in entries()
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, errors.PerdureError):
            assert value.__doc__, name
