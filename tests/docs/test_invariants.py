"""The page on invariants names tests that exist, and has a row for each invariant."""

from __future__ import annotations

import re

from tests.docs._pages import DOCS, ROOT

PAGE = (DOCS / "explanation" / "invariants.md").read_text("utf-8")
ROWS = re.findall(r"^\| (I\d+) \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)


def test_every_invariant_has_one_row() -> None:
    assert [name for name, _, _ in ROWS] == [f"I{number}" for number in range(1, 41)]


def test_every_test_that_is_named_exists() -> None:
    # The contracts are shipped, so some tests are defined in the package.
    defined: set[str] = set()
    for folder in (ROOT / "tests", ROOT / "src" / "perdure" / "testing"):
        for path in folder.rglob("*.py"):
            defined.update(re.findall(r"^\s*(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE))
    for name, _, shown_by in ROWS:
        tests = re.findall(r"`(test_\w+)`", shown_by)
        assert tests, name
        assert not set(tests) - defined, name
