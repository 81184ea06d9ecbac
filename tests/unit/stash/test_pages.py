"""The how-to pages on stashes say nothing that does not run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGES = ["stashes", "fill-in-parallel", "moving-from-joblib-diskcache-zensols"]


def code_of(page: str) -> str:
    """All blocks marked ``python``, in order, as one program. Blocks marked ``py`` need what is not here."""
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    return "\n".join(blocks)


def run_page(page: str, folder: Path, *, before: str = "") -> None:
    script = folder / "page.py"
    script.write_text(before + code_of(page), "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs_twice(page: str, tmp_path: Path) -> None:
    run_page(page, tmp_path)
    for made in ("texts", "old"):
        # What the page itself makes for the example.
        if (tmp_path / made).exists():
            (tmp_path / made).rename(tmp_path / f"{made}-before")
    run_page(page, tmp_path)


def test_the_format_page_has_the_bytes_that_are_written() -> None:
    from perdure.stash import _items, _names

    text = (ROOT / "docs" / "format" / "stash-item-v1.md").read_text("utf-8")
    for name in (None, "né"):
        assert b"".join(_items.pack(b"\x80\x05K\x01.", name)).hex(" ") in text
    for name, form in re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", text, re.MULTILINE):
        assert _names.encode(name, 200) == form
