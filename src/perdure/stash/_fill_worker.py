"""What happens in a worker: a chunk of elements becomes items, each of which is stored or sent back."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from perdure.errors import CodecError, PersistableError, RemoteError, StorageError
from perdure.missing import MISSING
from perdure.stash._base import Stash
from perdure.stash._failure import Failure

STORED, VALUE, FAILED, ABORTED = "stored", "value", "failed", "aborted"


class Source(Protocol):
    """Where items come from: pickled, and sent to the workers."""

    def _process(self, chunk: Sequence[Any]) -> Iterable[tuple[str, Any]]: ...


@dataclass(frozen=True)
class Job:
    """What a worker has to know.

    ``target``: where it stores items itself; ``None``: it sends values back. ``by_name``: each element is the name of
    the one item that is made of it, so that what is there already can be passed over. ``pack``: pickle what is sent
    back.
    """

    source: Source
    target: Stash | None
    by_name: bool
    pack: bool


class Outcome(NamedTuple):
    """What became of one item. ``element``: what it was made of. ``payload``: the value, the failure, or the error."""

    kind: str
    element: Any
    name: str
    payload: Any = None


@dataclass(frozen=True)
class FactorySource:
    """Makes items by asking a stash for them."""

    factory: Stash

    def _process(self, chunk: Sequence[str]) -> Iterator[tuple[str, Any]]:
        for name in chunk:
            value = self.factory._force(name)
            if value is MISSING:
                raise KeyError(name)
            yield name, value


# ---- in the worker ---------------------------------------------------------------------------------------------------

_jobs: dict[str, Job] = {}
_stop: Any = None


def begin_worker(stop: Any) -> None:
    """In each process of the library's own pool: leave Ctrl-C to the parent, and do not outlive it."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), name="perdure-parent", daemon=True).start()


def _end_with(sentinel: int) -> None:
    # A pool whose parent was killed would wait for ever on pipes that its own siblings hold open.
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def run_sent(job_id: str, job_bytes: bytes, chunk: Sequence[Any]) -> list[Outcome]:
    """``run`` for a job that travels as bytes and is unpickled once in each worker."""
    job = _jobs.get(job_id)
    if job is None:
        try:
            job = pickle.loads(job_bytes)  # Pickled by the parent process, which sent it through the pool's own pipe.
        except Exception as error:
            # Whatever the user's classes raise when they are unpickled: no worker can do better.
            failure = PersistableError(
                f"a worker cannot load what is to be filled: {type(error).__name__}: {error}",
                hint="can the worker import the modules? A script needs `if __name__ == '__main__':` around its work",
            )
            return [Outcome(ABORTED, None, "", failure)]
        _jobs.clear()
        _jobs[job_id] = job
    return run(job, chunk)


def run(job: Job, chunk: Sequence[Any]) -> list[Outcome]:
    """Make the items of a chunk. Never raises for what a single element does."""
    outcomes: list[Outcome] = []
    if job.by_name:
        for name in chunk:
            if _stopped() or not _make_one(job, name, name, outcomes):
                break
        return outcomes
    try:
        for name, value in job.source._process(chunk):
            if not _deliver(job, chunk, name, value, outcomes) or _stopped():
                return outcomes
    except Exception as error:
        # The user's code may raise anything. Which element it was shows when each is tried alone.
        if len(chunk) == 1:
            return [Outcome(FAILED, chunk[0], str(chunk[0]), Failure.of(str(chunk[0]), error))]
        return [outcome for element in chunk for outcome in run(job, [element])]
    return outcomes


def _make_one(job: Job, element: Any, name: str, outcomes: list[Outcome]) -> bool:
    try:
        if job.target is not None and job.target.exists(name):
            # Another process that fills the same stash was here.
            outcomes.append(Outcome(STORED, element, name))
            return True
        (pair,) = job.source._process([name])
    except Exception as error:
        # Making an item is the user's code and may raise anything; it costs this item.
        outcomes.append(Outcome(FAILED, element, name, Failure.of(name, error)))
        return True
    return _deliver(job, element, pair[0], pair[1], outcomes)


def _deliver(job: Job, element: Any, name: str, value: Any, outcomes: list[Outcome]) -> bool:
    """Store it or send it back; ``False`` where the store refuses everything, so that going on makes no sense."""
    if job.target is None:
        outcomes.append(_packed(element, name, value) if job.pack else Outcome(VALUE, element, name, value))
        return True
    try:
        job.target.dump(name, value)
    except (StorageError, RemoteError) as error:
        outcomes.append(Outcome(ABORTED, element, name, error))
        return False
    except Exception as error:
        # Too large, not storable, or the value's own pickling raised: it costs this item.
        outcomes.append(Outcome(FAILED, element, name, Failure.of(name, error)))
        return True
    outcomes.append(Outcome(STORED, element, name))
    return True


def _packed(element: Any, name: str, value: Any) -> Outcome:
    # Pickled here, one by one: a value that cannot be pickled would otherwise cost the whole chunk.
    try:
        return Outcome(VALUE, element, name, pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    except Exception as error:
        # The value's own pickling may raise anything.
        refusal = CodecError(f"the item {name!r} cannot be sent back: {type(error).__name__}: {error}")
        return Outcome(FAILED, element, name, Failure.of(name, refusal))


def _stopped() -> bool:
    return _stop is not None and bool(_stop.is_set())
