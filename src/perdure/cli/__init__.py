"""The command line: one file per verb. It composes the rest; nothing imports it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs ``perdure`` with the given arguments, or those of the process, and returns its exit code.

    0: fine. 1: something is wrong with the data. 2: it cannot run. 130: interrupted. 141: nobody reads the output.
    """
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError as error:
        print(
            f"perdure: the command line needs {error.name}, which is not installed\n  hint: pip install 'perdure[cli]'",
            file=sys.stderr,
        )
        return 2
    from perdure.cli._main import run

    return run(arguments)
