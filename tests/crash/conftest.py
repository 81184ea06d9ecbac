"""The table of figures at the end of a run, and which tests `make crash` runs beside the long forms."""

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # Each test reports three times, and the report of its teardown has all properties.
    reports = [
        report
        for outcome in ("", "passed", "failed", "error", "skipped", "xfailed", "xpassed")
        for report in terminalreporter.stats.get(outcome, [])
        if isinstance(report, pytest.TestReport) and report.when == "teardown"
    ]
    lines = _figures.table(item for report in reports for item in report.user_properties)
    if lines:
        terminalreporter.section("what was tried")
        for line in lines:
            terminalreporter.write_line(line)
