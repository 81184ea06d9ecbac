"""Each error that perdure raises stands with its remedy on the page that people look at after a crash."""

from __future__ import annotations

import inspect

import pytest

from perdure import errors
from tests.docs._pages import DOCS

PAGE = (DOCS / "how-to" / "repair.md").read_text("utf-8")
CLASSES = [
    name
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, errors.PerdureError) and value.__name__ == name
]


@pytest.mark.parametrize("name", CLASSES)
def test_the_error_stands_on_the_page(name: str) -> None:
    assert f"`{name}`" in PAGE
