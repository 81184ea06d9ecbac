"""A hook of mkdocs: a link to a source file leads to a page that shows it.

Pages link as the repository has it, ``../../src/perdure/fs.py``, so that the link works there, too. Only files that
some page links to become pages.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(((?:\.\./)+src/perdure/([\w/]+)\.py)\)")
FOLDER = "source"


def on_files(files: Files, config: Any) -> Files:
    """Adds a page for each source file that is linked to."""
    names = {match[2] for page in files.documentation_pages() for match in LINK.finditer(page.content_string)}
    for name in sorted(names):
        code = (ROOT / "src" / "perdure" / f"{name}.py").read_text("utf-8")
        # More backquotes than any docstring has.
        text = f'---\nsearch: {{exclude: true}}\n---\n# perdure/{name}.py\n\n``````python linenums="1"\n{code}``````\n'
        files.append(File.generated(config, f"{FOLDER}/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns the links round."""

    def turned(match: re.Match[str]) -> str:
        target = posixpath.relpath(f"{FOLDER}/{match[2]}.md", posixpath.dirname(page.file.src_uri) or ".")
        return f"]({target})"

    return LINK.sub(turned, markdown)
