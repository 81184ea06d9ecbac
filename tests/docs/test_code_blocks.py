"""Every page's code runs, prints what the page says and raises what the page says."""

from __future__ import annotations

import codeop
import re
from pathlib import Path

import pytest

from tests.docs._pages import DOCS, ROOT, blocks_of, run_page

# Pages whose code is run by another test, which must name them.
ELSEWHERE = {
    "how-to/stashes.md": "tests/unit/stash/test_pages.py",
    "how-to/fill-in-parallel.md": "tests/unit/stash/test_pages.py",
    "how-to/moving-from-joblib-diskcache-zensols.md": "tests/unit/stash/test_pages.py",
    "how-to/three-machines.md": "tests/engines/test_pages.py",
}
# Pages that need what a test machine may not have, and why nothing of them is run.
NEED_MORE = {"how-to/shared-store-on-s3.md": "needs an object store"}

PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
HERE = [page for page in PAGES if page not in ELSEWHERE and page not in NEED_MORE]


@pytest.mark.parametrize("page", [*HERE, "../README.md"])
def test_the_code_on_a_page_does_what_the_page_says(page: str, tmp_path: Path) -> None:
    text = (DOCS / page).read_text("utf-8")
    problems = run_page(text, tmp_path)
    assert not problems, f"{page}\n" + "\n".join(problems)


def test_the_tutorial_can_be_typed_at_pythons_prompt() -> None:
    """There an empty line ends a class, and what follows an indented block needs one before it."""
    for block in blocks_of((DOCS / "tutorial.md").read_text("utf-8")):
        if block.language == "python" and not block.title:
            typed = ""
            for line in [*block.text.splitlines(), ""]:
                typed += line + "\n"
                begun = line.startswith(" ") or codeop.compile_command(typed, symbol="single") is None
                typed = typed if begun else ""
            assert not typed.strip(), f"line {block.line}: the prompt would still wait after it"


@pytest.mark.parametrize("page", HERE)
def test_what_is_not_run_says_why(page: str) -> None:
    for block in blocks_of((DOCS / page).read_text("utf-8")):
        assert block.language != "py" or block.reason, f"{page}:{block.line}: not run, and no reason is given"


def test_pages_covered_elsewhere_are_named_there() -> None:
    for page, test in ELSEWHERE.items():
        assert page in PAGES
        assert re.search(rf"\b{re.escape(Path(page).stem)}\b", (ROOT / test).read_text("utf-8")), page
    assert set(NEED_MORE) <= set(PAGES)


def test_the_page_of_mistakes_has_twenty() -> None:
    text = (DOCS / "explanation" / "mistakes.md").read_text("utf-8")
    assert len(re.findall(r"^## ", text, re.MULTILINE)) == 20


# --- the test can fail ---


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('```python\nprint(1)\n```\n```text title="output"\n2\n```\n', "instead of"),
        ('```python\nprint(1)\n```\n```text title="error"\nValueError: x\n```\n', "nothing was raised"),
        ("```python\nint('x')\n```\n```text title=\"error\"\nValueError: x\n```\n", "instead of"),
        ("```python\nint('x')\n```\n", "ValueError"),
        ("```console\n$ echo a\nb\n```\n", "instead of"),
        ("```python\nimport os\nos._exit(3)\n```\n", "ended with 3"),
    ],
)
def test_what_a_page_says_wrongly_is_found(text: str, problem: str, tmp_path: Path) -> None:
    assert problem in "".join(run_page(text, tmp_path))


def test_what_a_page_says_rightly_passes(tmp_path: Path) -> None:
    text = (
        '```python title="one.py"\nclass One: ...\n```\n'
        "```python\nimport one\nprint('a', 17, 'b')\nprint('x\\ny')\n```\n```text title=\"output\"\na … b\n…\ny\n```\n"
        "```python\nint('x')\n```\n```text title=\"error\"\nValueError: …'x'\n```\n"
        "```console\n$ echo a \\\n>   b\na b\n$ python -c 'import one; print(2)'\n2\n```\n"
        "<!-- not run: to see that it is not -->\n```python\nimport os; os._exit(3)\n```\n"
    )
    assert run_page(text, tmp_path) == []
