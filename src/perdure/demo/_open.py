"""Opening the demo's wiki, by the child and by whoever looks at what it left."""

from __future__ import annotations

from typing import Any, cast

import perdure
from perdure.demo.wiki import Wiki


def open_wiki(directory: str, **options: Any) -> Wiki:
    """With its whole history, so that each moment can be looked at."""
    target: Any = Wiki
    return cast(Wiki, perdure.open(target, directory, keep_history=True, snapshot="manual", **options))
