"""Where workers come from: the library's own process pool, anybody's executor, or a Dask client."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import Any

from perdure.errors import CodecError, PersistableError, UsageError
from perdure.stash._fill_worker import Job, Outcome, begin_worker, run, run_sent

Workers = int | float
ExecutorLike = Executor | Callable[[], Executor] | Any


def worker_count(workers: Workers) -> int:
    """How many that is: 0 all cores, negative all but so many, a float in (0, 1] that share of them.

    Raises:
        UsageError: it is none of these.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(workers, float):
        if not 0 < workers <= 1:
            raise UsageError(f"workers={workers}", hint="a share of the cores is a float above 0 and up to 1")
        return max(1, round(cores * workers))
    if not isinstance(workers, int) or isinstance(workers, bool):
        raise UsageError(f"workers={workers!r}", hint="a number, 0 for all cores, or a share of them")
    return workers if workers > 0 else max(1, cores + workers)


class Pool:
    """An executor that runs chunks. Made anew when its workers have died, where it is known how.

    ``executor``: ``None`` for a process pool of the library's own; an executor, which stays open; a function that makes
    one; or whatever has ``get_executor``, as a Dask client does.
    """

    def __init__(self, executor: ExecutorLike | None, workers: Workers, job: Job) -> None:
        self.workers = worker_count(workers)
        self._given = executor
        self._job = job
        self._job_id = secrets.token_hex(8)
        self._job_bytes = b""
        self._stop: Any = None
        if executor is None:
            self._job_bytes = _sendable(job)
        elif not isinstance(executor, Executor) and not callable(executor) and not hasattr(executor, "get_executor"):
            raise UsageError(
                f"executor={executor!r}",
                hint="a concurrent.futures.Executor, a function that makes one, or a Dask client",
            )
        self._executor = self._make()

    def _make(self) -> Executor:
        given = self._given
        if given is None:
            context = multiprocessing.get_context()
            if self._stop is None:
                self._stop = context.Event()
            return ProcessPoolExecutor(self.workers, context, initializer=begin_worker, initargs=(self._stop,))
        if isinstance(given, Executor):
            return given
        if hasattr(given, "get_executor"):
            # By default Dask takes every function for pure and answers a repeated call with the result of the first.
            made = given.get_executor(pure=False)
        else:
            made = given()
        if not callable(getattr(made, "submit", None)):
            raise UsageError(f"executor= made {made!r}, which has no submit")
        executor: Executor = made
        return executor

    def submit(self, chunk: Sequence[Any]) -> Future[list[Outcome]]:
        """Begin a chunk. Raises ``BrokenExecutor`` where the workers have died."""
        if self._given is None:
            return self._executor.submit(run_sent, self._job_id, self._job_bytes, chunk)
        return self._executor.submit(run, self._job, chunk)

    def rebuild(self) -> None:
        """Replace the workers, which have died.

        Raises:
            PersistableError: the executor was given ready-made, so nobody here knows how.
        """
        if isinstance(self._given, Executor):
            raise PersistableError(
                "the executor's workers have died", hint="give a function that makes the executor: then it is made anew"
            )
        self._shut_down()
        self._executor = self._make()

    def close(self) -> None:
        """End the workers after the items that they have in hand. What was given stays open."""
        if self._stop is not None:
            self._stop.set()
        self._shut_down()

    def _shut_down(self) -> None:
        if self._given is None:
            self._executor.shutdown(wait=True, cancel_futures=True)
        elif not isinstance(self._given, Executor):
            # Not every executor takes cancel_futures; what was not begun has been cancelled one by one.
            self._executor.shutdown(wait=True)


def _sendable(job: Job) -> bytes:
    try:
        return pickle.dumps(job, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        # Whatever the user's classes raise when they are pickled.
        raise CodecError(
            f"the factory cannot be sent to workers: {type(error).__name__}: {error}",
            hint="keep locks, open files, connections and lambdas out of it, or use executor=ThreadPoolExecutor()",
        ) from error
