"""What refuses: a lock that cannot be had, and the error of a commit that nobody finished."""

from __future__ import annotations

import copy

from perdure.errors import PerdureError, WriteError


class Refusing:
    """A lock that cannot be had: entering it raises."""

    def __init__(self, error: PerdureError) -> None:
        self.error = error

    def __enter__(self) -> None:
        raise copy.copy(self.error)

    def __exit__(self, *_: object) -> None:
        return

    acquire = __enter__

    def release(self) -> None:
        return


def lost() -> WriteError:
    """What the caller of a command is told whose commit was interrupted."""
    return WriteError(
        "the thread that committed this command was interrupted",
        outcome="unknown",
        hint="close it and open it again: recovery decides whether the command is there",
    )
