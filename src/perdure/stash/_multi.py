"""Stashes that many processes fill."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from perdure.errors import CodecError, PersistableError, UsageError
from perdure.missing import MISSING
from perdure.stash._base import Stash
from perdure.stash._delegate import prime
from perdure.stash._failure import Failure
from perdure.stash._fill_pool import ExecutorLike, Workers
from perdure.stash._fill_progress import ProgressLike
from perdure.stash._fill_run import Fill
from perdure.stash._fill_worker import FactorySource, Source
from perdure.stash._preemptive import PrimablePreemptiveStash


@dataclass(eq=False)
class MultiProcessStash(PrimablePreemptiveStash):
    """Fills ``delegate`` in parallel before the first item is asked for: with what ``factory`` makes of each of its
    names.

    Each item is durable when its worker says so: where a copy of the delegate in another process writes to the same
    place (a directory, a server) the workers store what they make, otherwise the caller does. A fill that is
    interrupted goes on with what is missing, whatever the number of workers or the size of the chunks. A worker that
    dies costs its chunk one retry.

    Items that could not be made are ``Failure`` values: ``prime`` makes all the others first and then raises
    ``PersistableError``; ``iterfails`` lists them and ``reprocess_failures`` tries them again.

    Instead of a factory a subclass may say what the elements of the work are (``_create_data``) and which items a
    chunk of them becomes (``_process``, in a worker).

    ``chunk_size``: elements sent to a worker at once; 0 lets perdure choose. ``workers``: processes; 0 is one per
    core, a negative number leaves so many cores free, a float in (0, 1] is that share of them. ``executor``: any
    ``concurrent.futures.Executor``, a function that makes one, or a Dask client; by default a process pool, in the
    start method of ``multiprocessing``. ``progress``: see ``Reporter``: ``None``: a bar on a terminal when it lasts;
    ``True``, ``False``, or a function that is called with a ``FillProgress``.
    """

    factory: Stash | None = None
    chunk_size: int = 0
    workers: Workers = 0
    executor: ExecutorLike | None = field(default=None, repr=False)
    progress: ProgressLike = field(default=None, repr=False)

    _transient: ClassVar[frozenset[str]] = PrimablePreemptiveStash._transient | {
        "executor",
        "progress",
        "_failures",
        "_prime_lock",
    }

    def _reset(self) -> None:
        super()._reset()
        self._failures: dict[str, tuple[Any, Failure]] = {}
        self._prime_lock = threading.RLock()

    # ---- what a subclass may say -------------------------------------------------------------------------------------

    def _create_data(self) -> Iterable[Any]:
        """The elements of the work: by default the names that the factory knows. Called in the caller's process."""
        return self._needed_factory().keys()

    def _process(self, chunk: Sequence[Any]) -> Iterable[tuple[str, Any]]:
        """The (name, value) pairs that a chunk of elements becomes: by default what the factory makes. Called in a
        worker.

        What it has yielded before it raises is stored; then each element of the chunk is tried alone.
        """
        return FactorySource(self._needed_factory())._process(chunk)

    def _is_done(self, element: Any) -> bool:
        """Whether nothing has to be made of ``element``, because an earlier fill has. Only asked of a subclass's own
        elements.
        """
        return False

    def _needed_factory(self) -> Stash:
        if self.factory is None:
            raise UsageError(
                f"{type(self).__name__} needs a factory", hint="factory=, or a subclass with _create_data and _process"
            )
        return self.factory

    # ---- filling -----------------------------------------------------------------------------------------------------

    def prime(self) -> None:
        """Make everything that is missing, in parallel, and note that this has been done.

        Raises:
            PersistableError: some items could not be made; all others are stored.
            StorageError, RemoteError: the delegate refuses; what was stored before is stored.
        """
        with self._prime_lock:
            if self.has_data:
                return
            prime(self.delegate)
            prime(self.factory)
            self._fill()
            self._set_has_data(True)

    def _fill(self) -> None:
        self._failures.clear()
        self._run(list(self._missing()))
        if self._failures:
            raise self._failed()

    @property
    def _by_name(self) -> bool:
        # The library's own _process makes one item of each element, named by it.
        return type(self)._process is MultiProcessStash._process

    def _missing(self) -> Iterator[Any]:
        elements = self._create_data()
        if self._by_name:
            there = set(self._filled_delegate().keys())
            yield from (name for name in dict.fromkeys(elements) if name not in there)
        else:
            yield from (element for element in elements if not self._is_done(element))

    def _run(self, elements: Sequence[Any]) -> None:
        Fill(
            self._source(),
            self._filled_delegate(),
            by_name=self._by_name,
            executor=self.executor,
            workers=self.workers,
            chunk_size=self.chunk_size,
            progress=self.progress,
            title=type(self).__name__,
            on_failure=self._note_failure,
        ).run(elements)

    def _source(self) -> Source:
        if self._by_name:
            return FactorySource(self._needed_factory())
        # A copy without what only the caller needs: the delegate may hold much, and may be for one process.
        source = copy.copy(self)
        source.delegate = None
        return source

    def _note_failure(self, element: Any, failure: Failure) -> None:
        self._failures[failure.name] = (element, failure)

    def _failed(self) -> PersistableError:
        first = next(iter(self._failures.values()))[1]
        return PersistableError(
            f"{len(self._failures)} items could not be made, the first: {first}",
            hint="all others are stored. iterfails() lists the failures with their tracebacks, reprocess_failures() "
            "tries them again, and MultiProcessRobustStash goes on without them",
        )

    def invalidate(self) -> None:
        """Take it for unfilled from now on. The items stay; the next call makes what is missing."""
        super().invalidate()

    def iterfails(self) -> Iterator[Failure]:
        """The failures of the last fill."""
        return iter([failure for _, failure in self._failures.values()])

    def reprocess_failures(self) -> set[str]:
        """Try again what failed, and nothing else; the names that were tried. What fails again is in ``iterfails``."""
        with self._prime_lock:
            failed, self._failures = self._failures, {}
            self._run([element for element, _ in failed.values()])
            return set(failed)


@dataclass(eq=False)
class MultiProcessFactoryStash(MultiProcessStash):
    """A ``MultiProcessStash`` that also makes single items: what the fill did not make is made by ``factory`` when it
    is asked for.

    ``dump_factory_nones``: store ``None`` where that is what the factory made when asked for a single item.
    """

    dump_factory_nones: bool = True

    def load(self, name: str) -> Any:
        """The delegate's value, after priming, or else what the factory makes."""
        value = MultiProcessFactoryStash._find_or_make(self, name)
        return None if value is MISSING else value

    def _force(self, name: str) -> Any:
        return MultiProcessFactoryStash._find_or_make(self, name)

    def _find_or_make(self, name: str) -> Any:
        self.prime()
        delegate, factory = self._filled_delegate(), self._needed_factory()
        value = delegate.get(name, MISSING)
        if value is MISSING:
            value = factory._force(name)
            if value is not MISSING and (value is not None or self.dump_factory_nones):
                delegate.dump(name, value)
        return value

    def get(self, name: str, default: Any = None) -> Any:
        """The delegate's value or ``default``, after priming."""
        return super().get(name, default)

    def get_many(self, names: Iterable[str]) -> dict[str, Any]:
        """What the delegate has of ``names``, after priming."""
        return super().get_many(names)

    def _stamp(self, name: str) -> object:
        stamp = super()._stamp(name)
        # Not there yet is no absence: it would be made.
        return None if stamp is MISSING else stamp


@dataclass(eq=False)
class MultiProcessRobustStash(MultiProcessStash):
    """A ``MultiProcessStash`` whose failures are values: stored as ``Failure`` in the place of the items, so that the
    fill comes to its end.

    ``FailureFilterStash`` hides them. A delegate whose codec cannot hold them (JSON) makes them last as long as this
    object.
    """

    def _fill(self) -> None:
        self._failures.clear()
        self._run(list(self._missing()))

    def _note_failure(self, element: Any, failure: Failure) -> None:
        super()._note_failure(element, failure)
        try:
            self._filled_delegate().dump(failure.name, failure)
        except CodecError:
            # A codec for plain data; the failure is kept here.
            return

    def iterfails(self) -> Iterator[Failure]:
        """The failures of all fills, whichever process they were in. Loads every item."""
        seen = set()
        for _, failure in tuple(self._failures.values()):
            seen.add(failure.name)
            yield failure
        for name, value in self._filled_delegate().items():
            if isinstance(value, Failure) and name not in seen:
                yield value

    def reprocess_failures(self) -> set[str]:
        """Try again what failed, and nothing else; the names that were tried. What fails again is in ``iterfails``."""
        with self._prime_lock:
            names = {failure.name for failure in self.iterfails()}
            kept, self._failures = self._failures, {}
            elements = [element for element, _ in kept.values()]
            elsewhere = names - set(kept)
            if self._by_name:
                elements += sorted(elsewhere)
            elif elsewhere:
                elements += [element for element in self._create_data() if str(element) in elsewhere]
            for name in names:
                self._filled_delegate().delete(name)
            self._run(elements)
            return names
