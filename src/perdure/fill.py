"""Filling a stash in parallel, through any executor.

``fill`` makes items with a function; ``MultiProcessStash`` and its kin (``perdure.stash``) do the same as layers,
which fill themselves when they are first asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from perdure.stash import (
    Failure,
    FillProgress,
    MultiProcessFactoryStash,
    MultiProcessRobustStash,
    MultiProcessStash,
    Stash,
)
from perdure.stash._fill_pool import ExecutorLike, Workers
from perdure.stash._fill_progress import ProgressLike
from perdure.stash._fill_ray import RayExecutor
from perdure.stash._fill_run import Fill

__all__ = [
    "FillProgress",
    "FillReport",
    "MultiProcessFactoryStash",
    "MultiProcessRobustStash",
    "MultiProcessStash",
    "RayExecutor",
    "fill",
]


class FillReport(NamedTuple):
    """What a fill has done. ``made``: new items. ``there``: names that had their items before. ``failures``: the
    rest.
    """

    made: int
    there: int
    failures: list[Failure]


def fill(
    stash: Stash,
    names: Iterable[str],
    make: Callable[[str], Any],
    *,
    workers: Workers = 0,
    executor: ExecutorLike | None = None,
    chunk_size: int = 0,
    progress: ProgressLike = None,
) -> FillReport:
    """Store ``make(name)`` for each of ``names`` that has no item yet.

    ``make``: a function that workers can import. The other arguments are those of ``MultiProcessStash``, and so is
    what a fill promises: items are durable one by one, an interrupted fill goes on where it was, a worker that dies
    costs its chunk one retry.

    Raises:
        StorageError, RemoteError: the stash refuses; what was stored before is stored.
        CodecError, PersistableError: the workers cannot even begin.
    """
    wanted = list(dict.fromkeys(names))
    there = set(stash.keys())
    missing = [name for name in wanted if name not in there]
    failures: list[Failure] = []
    Fill(
        _Function(make),
        stash,
        by_name=True,
        executor=executor,
        workers=workers,
        chunk_size=chunk_size,
        progress=progress,
        title=f"fill {type(stash).__name__}",
        on_failure=lambda _, failure: failures.append(failure),
    ).run(missing)
    return FillReport(len(missing) - len(failures), len(wanted) - len(missing), failures)


@dataclass(frozen=True)
class _Function:
    """A source of items that is one function."""

    make: Callable[[str], Any]

    def _process(self, chunk: Sequence[str]) -> Iterator[tuple[str, Any]]:
        for name in chunk:
            yield name, self.make(name)
