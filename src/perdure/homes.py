"""Where classes and functions live, by names that hold in every process."""

from __future__ import annotations

MAIN = "__main__"
MAIN_IN_CHILDREN = "__mp_main__"
"""What multiprocessing calls the script in the children that it starts by spawn or forkserver."""


def home_of(module: str) -> str:
    """A module's name, the same for the script and for its children."""
    return MAIN if module == MAIN_IN_CHILDREN else module
