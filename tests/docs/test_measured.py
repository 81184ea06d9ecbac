"""The tables of measurements that pages quote: each has its measurement, and quoting puts it there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import _report
from benchmarks.__main__ import MODULES
from tests.docs._pages import ROOT

BEGIN = re.compile(r"<!-- measured: (.+?) -->")
TABLE = _report.Table(("case", "measured", "medians"), [("a | b", "2.00", "x 1 µs")], "A note.")


def test_every_quote_has_its_measurement_and_an_end() -> None:
    quoted = set()
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        text = page.read_text("utf-8")
        assert len(BEGIN.findall(text)) == text.count("<!-- end of measured -->"), page
        quoted.update(name.removesuffix(" short") for name in BEGIN.findall(text))
    assert quoted <= {*MODULES, "others"}
    assert {"system", "others"} <= quoted


def test_quoting_replaces_what_was_there_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "page.md"
    page.write_text(
        "before\n<!-- measured: one -->\nold\n<!-- end of measured -->\nbetween\n"
        "<!-- measured: one short -->\n<!-- end of measured -->\n"
        "<!-- measured: two -->\nkept\n<!-- end of measured -->\nafter\n",
        "utf-8",
    )
    (tmp_path / "README.md").write_text("nothing quoted\n", "utf-8")
    monkeypatch.setattr(_report, "ROOT", tmp_path)
    for _ in range(2):
        changed = _report.quote({"one": TABLE.markdown()}, {"one": TABLE.markdown(short=True)})
    text = page.read_text("utf-8")
    assert changed == []
    assert "old" not in text
    assert "| a \\| b | 2.00 | x 1 µs |" in text
    assert "| a \\| b | 2.00 |\n" in text
    assert text.count("A note.") == 1
    assert text.count(f"Measured: {_report.machine()}.") == 2
    assert text.startswith("before\n")
    assert "\nbetween\n" in text
    assert "<!-- measured: two -->\nkept\n<!-- end of measured -->\nafter\n" in text


def test_what_others_are_compared_in_says_who_is_faster() -> None:
    table = _report.against_all([_report.Against("zict", "get", 12.34), _report.Against("Another", "set", 0.5)])
    assert [list(row) for row in table.rows] == [["Another", "set", "0.50 ×"], ["zict", "get", "12.3 ×"]]
