"""What a measurement prints, and putting it into the pages that quote it."""

from __future__ import annotations

import datetime
import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
_QUOTE = re.compile(r"(<!-- measured: (\w+)( short)? -->\n).*?(<!-- end of measured -->)", re.DOTALL)


class Table(NamedTuple):
    """``rows``: as they are printed. The last column explains; a short quote leaves it out."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self, *, short: bool = False) -> str:
        width = len(self.columns) - 1 if short else len(self.columns)
        lines = [_line(self.columns[:width]), "|" + "---|" * width, *(_line(row[:width]) for row in self.rows)]
        return "\n".join(lines) + "\n" + (f"\n{self.note}\n" if self.note and not short else "")


class Against(NamedTuple):
    """``ratio``: how many times as fast as ``candidate`` perdure is; below 1 the other one is faster."""

    candidate: str
    case: str
    ratio: float


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def figure(value: float) -> str:
    """With as many digits as a measurement deserves."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def machine() -> str:
    """When and on what."""
    today = datetime.date.today().isoformat()
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return f"{today}, {_processor()}, {os.cpu_count()} cores, {system}, Python {platform.python_version()}"


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.machine()
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def against_all(found: Sequence[Against]) -> Table:
    """One row for each of the others and each case."""
    rows = [
        (one.candidate, one.case, f"{figure(one.ratio)} ×" if one.ratio >= 1 else f"{one.ratio:.2f} ×")
        for one in sorted(found, key=lambda one: one.candidate.lower())
    ]
    note = "How many times as fast as the other one perdure is, in the same run; below 1 the other one is faster."
    return Table(("beside", "what", "perdure is"), rows, note)


def quote(tables: dict[str, str], short: dict[str, str]) -> list[Path]:
    """Puts the tables between ``<!-- measured: name -->`` and ``<!-- end of measured -->`` on every page that has them.

    ``tables``, ``short``: Markdown by name. Returns the pages that have changed.
    """
    changed = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text("utf-8")
        new = _QUOTE.sub(lambda match: _quoted(match, (short if match[3] else tables).get(match[2])), text)
        if new != text:
            page.write_text(new, "utf-8")
            changed.append(page)
    return changed


def _quoted(match: re.Match[str], table: str | None) -> str:
    return match[0] if table is None else f"{match[1]}\nMeasured: {machine()}.\n\n{table}\n{match[4]}"
