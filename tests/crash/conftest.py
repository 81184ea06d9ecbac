"""What crash tests tried travels with their reports; ``tests/conftest.py`` prints the table at the end of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.crash import _figures


@pytest.fixture(autouse=True)
def _figures_travel_with_the_report(record_property: Callable[[str, object], None]) -> Iterator[None]:
    before = _figures.counts.copy()
    yield
    for name, value in _figures.as_properties(before):
        record_property(name, value)
