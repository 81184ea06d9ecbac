"""A Ray cluster as an executor."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from perdure.extras import needed_module

P = ParamSpec("P")
R = TypeVar("R")


class RayExecutor(Executor):
    """Runs calls as tasks of the Ray cluster to which this process is connected (``ray.init``); Ray starts one on this
    machine where it is connected to none.

    ``options``: of the tasks, as ``ray.remote`` takes them: ``num_cpus``, ``resources``, ``runtime_env``. A task whose
    worker dies is not tried again by Ray unless ``max_retries`` says so: a fill sees to that itself.

    Any thread may call. The cluster stays when the executor is shut down.

    Raises:
        UsageError: Ray is not installed.
    """

    def __init__(self, **options: Any) -> None:
        self._ray = needed_module("ray", "ray")
        self._task = self._ray.remote(_call).options(**{"max_retries": 0, **options})
        self._pending: dict[Future[Any], Any] = {}
        self._closed = False

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Begin a call. Its future raises what the call raises, or Ray's own error for a worker that it has lost."""
        if self._closed:
            raise RuntimeError("cannot submit to an executor that was shut down")
        reference = self._task.remote(fn, args, kwargs)
        future: Future[R] = reference.future()
        self._pending[future] = reference
        future.add_done_callback(lambda done: self._pending.pop(done, None))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. ``cancel_futures``: those that have not begun are not run. ``wait``: for the others."""
        self._closed = True
        pending = dict(self._pending)
        if cancel_futures:
            for reference in pending.values():
                self._ray.cancel(reference, force=False)
        if wait and pending:
            self._ray.wait(list(pending.values()), num_returns=len(pending))


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)
