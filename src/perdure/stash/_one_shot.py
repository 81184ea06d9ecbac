"""Items that one piece of work makes all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import InitVar, dataclass
from typing import Any

from perdure.errors import PersistableError, UsageError
from perdure.stash._preemptive import PrimablePreemptiveStash

Pairs = Iterable[tuple[str, Any]]


@dataclass(eq=False)
class OneShotFactoryStash(PrimablePreemptiveStash):
    """Fills ``delegate`` from ``worker`` before the first item is asked for, once and for all.

    ``worker``: a function that returns (name, value) pairs, or the pairs themselves. If it is interrupted, what it
    has made stays, the fill is not taken for complete, and the next call begins it again; a worker that can be read
    only once cannot begin again, and that is an error rather than half a stash. A subclass may have the worker as a
    method or a property instead.
    """

    # Set only where it is given: it would hide a subclass's method.
    worker: InitVar[Callable[[], Pairs] | Pairs | None] = None

    def __post_init__(self, worker: Callable[[], Pairs] | Pairs | None) -> None:
        if worker is not None:
            vars(self)["worker"] = worker
        super().__post_init__()

    def _fill(self) -> None:
        worker: Callable[[], Pairs] | Pairs | None = getattr(self, "worker", None)
        delegate = self._filled_delegate()
        if worker is None:
            raise UsageError(
                "OneShotFactoryStash needs a worker", hint="worker=a function that returns (name, value) pairs"
            )
        pairs = worker() if callable(worker) else worker
        if iter(pairs) is pairs and not callable(worker):
            if vars(self).get("_used_up"):
                raise PersistableError(
                    "the worker is an iterator and was read before, so the stash cannot be filled again",
                    hint="give a function that returns the pairs, or a list of them",
                )
            vars(self)["_used_up"] = True
        for name, value in pairs:
            delegate.dump(name, value)
