"""Stashes that hold something that has to be let go."""

from __future__ import annotations

from abc import abstractmethod
from types import TracebackType
from typing import Self

from perdure.stash._base import Stash


class CloseableStash(Stash):
    """A stash with something to close: a context manager, too."""

    @abstractmethod
    def close(self) -> None:
        """Make everything durable that was promised to be, and let go. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
