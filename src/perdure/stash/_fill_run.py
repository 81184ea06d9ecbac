"""A fill: elements in chunks, chunks to workers, what comes back to the stash."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, wait
from dataclasses import dataclass
from typing import Any

from perdure.errors import PersistableError, UsageError
from perdure.stash._base import Stash
from perdure.stash._failure import Failure
from perdure.stash._fill_pool import ExecutorLike, Pool, Workers
from perdure.stash._fill_progress import ProgressLike, Reporter
from perdure.stash._fill_worker import ABORTED, FAILED, VALUE, Job, Outcome, Source

CHUNKS_PER_WORKER = 8
CHUNK_ELEMENTS_MAX = 256
WINDOW_PER_WORKER = 3
BARREN_CRASHES_MAX = 3
"""After so many crashes with nothing finished in between the workers are tried with nothing to do."""


@dataclass
class _Chunk:
    """``crashes``: how often its workers died under it, for whatever reason."""

    elements: list[Any]
    crashes: int = 0


class Fill:
    """One run. Elements that are done stay done whatever happens to the rest.

    A chunk whose worker dies is tried again; if that happens twice, its elements are tried one by one with nothing
    beside them, and one that kills its worker even then is a failure.

    ``on_failure``: called with the element and the ``Failure``.
    """

    def __init__(
        self,
        source: Source,
        target: Stash,
        *,
        by_name: bool,
        executor: ExecutorLike | None,
        workers: Workers,
        chunk_size: int,
        progress: ProgressLike,
        title: str,
        on_failure: Callable[[Any, Failure], None],
    ) -> None:
        if chunk_size < 0:
            raise UsageError(f"chunk_size={chunk_size}", hint="0 lets perdure choose")
        # On this machine workers store what they make themselves. What an executor's workers reach, if they are
        # elsewhere, nobody here can know; and threads of this process may as well leave it to the caller.
        stores_itself = executor is None and target.reaches_workers
        self._job = Job(source, target if stores_itself else None, by_name, pack=executor is None)
        self._target = target
        self._executor = executor
        self._workers = workers
        self._chunk_size = chunk_size
        self._progress = progress
        self._title = title
        self._on_failure = on_failure
        self._todo: deque[_Chunk] = deque()
        self._in_flight: dict[Future[list[Outcome]], _Chunk] = {}
        self._barren_crashes = 0

    def run(self, elements: Sequence[Any]) -> None:
        """Make items of all elements.

        Raises:
            StorageError, RemoteError: the stash refuses; what was stored before is stored.
            CodecError, PersistableError: the workers cannot even begin.
        """
        self._reporter = Reporter(self._progress, self._title, len(elements))
        if not elements:
            return
        self._pool = Pool(self._executor, self._workers, self._job)
        size = self._chunk_size or max(
            1, min(CHUNK_ELEMENTS_MAX, -(-len(elements) // (self._pool.workers * CHUNKS_PER_WORKER)))
        )
        self._todo.extend(_Chunk(list(elements[start : start + size])) for start in range(0, len(elements), size))
        try:
            while self._todo or self._in_flight:
                self._submit()
                done, _ = wait(self._in_flight, return_when=FIRST_COMPLETED)
                broken = [self._take(future) for future in done]
                if any(broken):
                    self._replace_workers()
                self._reporter.tell()
        finally:
            for future in self._in_flight:
                future.cancel()
            self._pool.close()
            self._reporter.end()

    def _submit(self) -> None:
        window = self._pool.workers * WINDOW_PER_WORKER
        while self._todo and len(self._in_flight) < window:
            suspect = self._todo[0].crashes >= 2
            alone = any(chunk.crashes >= 2 for chunk in self._in_flight.values())
            if self._in_flight and (suspect or alone):
                return
            chunk = self._todo.popleft()
            try:
                future = self._pool.submit(chunk.elements)
            except BrokenExecutor:
                self._todo.appendleft(chunk)
                self._replace_workers()
                continue
            self._in_flight[future] = chunk

    def _take(self, future: Future[list[Outcome]]) -> bool:
        """Take what a chunk has brought; whether it says that the workers are dead."""
        chunk = self._in_flight.pop(future)
        try:
            outcomes = future.result()
        except BrokenExecutor as error:
            self._crashed(chunk, error)
            return True
        except (Exception, CancelledError) as error:
            # An executor may raise anything for a worker that it has lost or a result that it could not carry.
            self._crashed(chunk, error)
            return False
        self._barren_crashes = 0
        for outcome in outcomes:
            self._note(outcome)
        self._reporter.done += len(chunk.elements)
        return False

    def _note(self, outcome: Outcome) -> None:
        if outcome.kind == ABORTED:
            raise outcome.payload
        if outcome.kind == FAILED:
            self._fail(outcome.element, outcome.payload)
        elif outcome.kind == VALUE:
            value = outcome.payload
            if self._job.pack:
                value = pickle.loads(value)  # Pickled by our own worker a moment ago, and sent through the pool's pipe.
            try:
                self._target.dump(outcome.name, value)
            except UsageError as error:
                self._fail(outcome.element, Failure.of(outcome.name, error))

    def _fail(self, element: Any, failure: Failure) -> None:
        self._reporter.failed += 1
        self._on_failure(element, failure)

    # ---- workers that die --------------------------------------------------------------------------------------------

    def _crashed(self, chunk: _Chunk, error: BaseException) -> None:
        chunk.crashes += 1
        if chunk.crashes == 1:
            self._todo.appendleft(chunk)
        elif chunk.crashes == 2:
            self._todo.extend(_Chunk([element], crashes=2) for element in chunk.elements)
        else:
            (element,) = chunk.elements
            died = PersistableError(f"its worker died ({type(error).__name__}: {error}): killed, or out of memory?")
            self._fail(element, Failure.of(str(element), died))
            self._reporter.done += 1
        if not isinstance(error, BrokenExecutor):
            self._suspect_the_workers()

    def _replace_workers(self) -> None:
        # The others in flight are lost, too, unless they were done just before.
        wait(self._in_flight)
        for future in list(self._in_flight):
            self._take(future)
        self._pool.rebuild()
        self._suspect_the_workers()

    def _suspect_the_workers(self) -> None:
        """After some crashes with nothing finished in between: find out whether it is the elements or the workers."""
        self._barren_crashes += 1
        if self._barren_crashes < BARREN_CRASHES_MAX:
            return
        self._barren_crashes = 0
        try:
            outcomes = self._pool.submit([]).result()
        except (Exception, CancelledError) as error:
            # An executor may raise anything; this is where it becomes an error of the tree.
            raise PersistableError(
                f"the workers cannot even begin: {type(error).__name__}: {error}",
                hint="can they import the program? A script needs `if __name__ == '__main__':` around its work",
            ) from error
        for outcome in outcomes:
            self._note(outcome)
