"""``Tracker``: a dict of jobs that a long-running program works off, and takes up again after a crash."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, Self, TextIO

from perdure.errors import ClosedError, DuplicateKeyError, UsageError
from perdure.mapping._dict import PersistentDict
from perdure.mapping._jobs import ABORTED, DONE, ERROR, TRIES, Jobs, fresh, is_open
from perdure.mapping._keys import Key
from perdure.mapping._leases import LEASE, holder_of, is_gone, worker_id
from perdure.mapping._opened import Opened
from perdure.mapping._progress import Progress

LEASE_S = 600.0
"""How long a claimed job stays with its worker, unless that asks for more time."""
_NS = 1_000_000_000

Wanted = Callable[[Any], bool]


class Tracker(PersistentDict):
    """A ``PersistentDict`` whose values are jobs: dicts with ``_done``, ``_tries``, ``_aborted``, and what you add.

    A job that somebody works on has a ``_lease``, one that failed has its traceback as ``_error``. ``max_tries``: how
    often a job is tried, 0 for any number. Every change of a job is journaled, so that a later run goes on where this
    one ends, however it ends. What is named "do" only looks; what is named "try" counts a try of each job that it
    hands out, before it does. Methods that take a key raise ``KeyError`` where there is no such job, and nothing has
    changed then. Any thread may call.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        max_tries: int = 0,
        init: Mapping[Key, Any] | Iterable[tuple[Key, Any]] | None = None,
        *,
        lease_s: float = LEASE_S,
        **options: Any,
    ) -> None:
        """``lease_s``: how long a claimed job stays with its worker. ``options``: those of ``PersistentDict``.

        Raises what ``PersistentDict`` raises.
        """
        self._max_tries = _checked(max_tries)
        self._lease_ns = round(lease_s * _NS)
        filled = None if init is None else {key: filled_in(value) for key, value in dict(init).items()}
        super().__init__(path, filled, **options)

    def _join(self, opened: Opened) -> None:
        super()._join(opened)
        if not opened.values.tracked:
            self.close()
            raise UsageError("jobs are plain data", path=opened.path, hint='codec="json"')
        with opened.lock:
            if opened.jobs is None:
                opened.jobs = Jobs(opened.state, self._max_tries)
            elif opened.jobs.max_tries != self._max_tries:
                known = opened.jobs.max_tries
                self.close()
                raise UsageError(f"it is open in this process with max_tries={known}", path=opened.path)
        self._jobs: Jobs = opened.jobs

    @classmethod
    def on(cls, handle: PersistentDict, *, max_tries: int, lease_s: float) -> Self:
        """One more handle, a tracker, on a dict that is open; what has been put into it stays as it is."""
        return cls._on(handle._opened, _max_tries=_checked(max_tries), _lease_ns=round(lease_s * _NS))

    @property
    def max_tries(self) -> int:
        """How often a job is tried; 0: any number."""
        return self._max_tries

    def __setitem__(self, key: Key, value: Any) -> None:
        """A job: fields that it lacks are filled in."""
        super().__setitem__(key, filled_in(value))

    def setdefault(self, key: Key, default: Any = None) -> Any:
        return super().setdefault(key, filled_in(default or {}))

    def update(self, *values: Any, **named: Any) -> None:
        """As in ``PersistentDict``; fields that jobs lack are filled in."""
        if len(values) == 1 and not named and isinstance(values[0], str):
            super().update(values[0])
        else:
            super().update((key, filled_in(value)) for key, value in dict(*values, **named).items())

    # ---- adding

    def add(self, key: Key, fields: Mapping[str, Any] | None = None) -> None:
        """Raises ``DuplicateKeyError`` where the key is there: nothing has changed then."""
        with self.locked():
            if key in self:
                raise DuplicateKeyError(f"the key is there already: {key!r}", path=self.path)
            self[key] = fields or {}

    def add_if_absent(self, key: Key, fields: Mapping[str, Any] | None = None) -> bool:
        """Whether it was added."""
        with self.locked():
            if key in self:
                return False
            self[key] = fields or {}
            return True

    def add_many(self, keys: Iterable[Key]) -> None:
        """All of them, or, with a ``DuplicateKeyError``, none."""
        with self.locked():
            new = list(keys)
            seen: set[Key] = set()
            for key in new:
                if key in self or key in seen:
                    raise DuplicateKeyError(f"the key is there already: {key!r}", path=self.path)
                seen.add(key)
            self.update((key, fresh()) for key in new)

    def add_many_if_absent(self, keys: Iterable[Key]) -> int:
        """How many were added."""
        with self.locked():
            new = {key: fresh() for key in keys if key not in self}
            self.update(new)
            return len(new)

    # ---- one job

    def _job(self, key: Key) -> Any:
        job = self[key]
        if not isinstance(job, dict):
            raise UsageError(f"{key!r} is no job but {job!r}", path=self.path, hint="convert_to_tracker() makes it one")
        return job

    def _set(self, key: Key, drop: tuple[str, ...] = (), /, **fields: Any) -> None:
        """Sets fields of a job and takes others away, in one entry."""
        with self.locked():
            job = self._job(key)
            if any(name in job for name in drop):
                job.edit(fields, drop)
            else:
                job.update(fields)

    def mark_done(self, key: Key) -> None:
        """Also ends its lease, and forgets how it failed before. Raises ``KeyError``."""
        self._set(key, (LEASE, ERROR), **{DONE: True})

    def mark_not_done(self, key: Key) -> None:
        with self.locked():
            self._set(key, **{DONE: False})
            self._jobs.end_all(key)

    def increment_tries(self, key: Key) -> None:
        with self.locked():
            self._set(key, **{TRIES: self.tries(key) + 1})

    def decrement_tries(self, key: Key) -> None:
        """Not below zero."""
        with self.locked():
            self._set(key, **{TRIES: max(0, self.tries(key) - 1)})

    def reset_tries(self, key: Key) -> None:
        self._set(key, **{TRIES: 0})

    def abort(self, key: Key) -> None:
        """Gives a job up: it is not to be done, until ``unabort``. Also ends its lease."""
        with self.locked():
            self._set(key, (LEASE,), **{ABORTED: True})
            self._jobs.end_all(key)

    def unabort(self, key: Key) -> None:
        self._set(key, **{ABORTED: False})

    def done(self, key: Key) -> bool:
        return bool(self._job(key).get(DONE))

    def tries(self, key: Key) -> int:
        return int(self._job(key).get(TRIES, 0))

    def aborted(self, key: Key) -> bool:
        return bool(self._job(key).get(ABORTED))

    def should_do(self, key: Key, *, allow_aborted: bool = False) -> bool:
        """Whether it is neither done nor aborted, and has tries left. Raises ``KeyError``."""
        return self._to_do(self._job(key), allow_aborted)

    def should_do_add(self, key: Key, *, allow_aborted: bool = False) -> bool:
        """The same; a key that is not there is added, and should be done."""
        return self.add_if_absent(key) or self.should_do(key, allow_aborted=allow_aborted)

    def should_try(self, key: Key, *, allow_aborted: bool = False) -> bool:
        """Whether it should be done. If so, this counts a try of it. Raises ``KeyError``."""
        with self.locked():
            self._job(key)
            return self._try(key, allow_aborted) is not None

    def should_try_add(self, key: Key, *, allow_aborted: bool = False) -> bool:
        """The same; a key that is not there is added, and should be tried."""
        with self.locked():
            self.add_if_absent(key)
            return self.should_try(key, allow_aborted=allow_aborted)

    def _to_do(self, job: Any, allow_aborted: bool) -> bool:
        return is_open(job, self._max_tries, allow_aborted=allow_aborted, allow_failed=True)

    def _try(self, key: Key, allow_aborted: bool) -> Any:
        """Counts a try, and returns the job; ``None``, and nothing counted, where it should not be done."""
        with self.locked():
            job = self._data.get(key)
            if not self._to_do(job, allow_aborted):
                return None
            self._opened.answer(True)
            self._set(key, **{TRIES: self.tries(key) + 1})
            self._jobs.begin(key)
            return job

    # ---- many jobs. Keys that are added while one of these is gone through come in their turn.

    def _iterate(self, wanted: Wanted) -> Iterator[tuple[Key, Any]]:
        seen: set[Key] = set()
        data = self._data
        while True:
            fresh_keys = [key for key in list(data) if key not in seen]
            if not fresh_keys:
                return
            for key in fresh_keys:
                seen.add(key)
                job = data.get(key)
                if job is not None and wanted(job):
                    yield key, job

    def todo_items(self, *, allow_aborted: bool = False) -> Iterator[tuple[Key, Any]]:
        """Jobs that are neither done nor aborted, and have tries left."""
        return self._iterate(lambda job: self._to_do(job, allow_aborted))

    def todo_keys(self, *, allow_aborted: bool = False) -> Iterator[Key]:
        return (key for key, _ in self.todo_items(allow_aborted=allow_aborted))

    def todo_values(self, *, allow_aborted: bool = False) -> Iterator[Any]:
        return (job for _, job in self.todo_items(allow_aborted=allow_aborted))

    def try_items(self, *, allow_aborted: bool = False) -> Iterator[tuple[Key, Any]]:
        """The same; this counts a try of each job as it comes."""
        for key in self.todo_keys(allow_aborted=allow_aborted):
            job = self._try(key, allow_aborted)
            if job is not None:
                yield key, job

    def try_keys(self, *, allow_aborted: bool = False) -> Iterator[Key]:
        return (key for key, _ in self.try_items(allow_aborted=allow_aborted))

    def try_values(self, *, allow_aborted: bool = False) -> Iterator[Any]:
        return (job for _, job in self.try_items(allow_aborted=allow_aborted))

    def aborted_items(self, *, allow_aborted: bool = True) -> Iterator[tuple[Key, Any]]:
        """Jobs that were given up."""
        return self._iterate(lambda job: allow_aborted and isinstance(job, dict) and bool(job.get(ABORTED)))

    def aborted_keys(self, *, allow_aborted: bool = True) -> Iterator[Key]:
        return (key for key, _ in self.aborted_items(allow_aborted=allow_aborted))

    def aborted_values(self, *, allow_aborted: bool = True) -> Iterator[Any]:
        return (job for _, job in self.aborted_items(allow_aborted=allow_aborted))

    # ---- counting. Of no jobs at all, every share is 0.

    def counts(self) -> dict[str, int]:
        """All the numbers at one moment: ``total``, ``done``, ``tried``, ``aborted``, ``failed``, ``claimed``."""
        with self.locked():
            jobs = self._jobs
            return {
                "total": len(self),
                "done": jobs.done,
                "tried": jobs.tried,
                "aborted": jobs.aborted,
                "failed": jobs.failed,
                "claimed": len(jobs.leased),
            }

    def num_done(self) -> int:
        return self._count("done")

    def num_tried(self) -> int:
        """Jobs that were begun at least once."""
        return self._count("tried")

    def num_aborted(self) -> int:
        return self._count("aborted")

    def fraction_done(self) -> float:
        return self._fraction("done")

    def fraction_tried(self) -> float:
        return self._fraction("tried")

    def fraction_aborted(self) -> float:
        return self._fraction("aborted")

    def percent_done(self) -> float:
        return 100 * self._fraction("done")

    def percent_tried(self) -> float:
        return 100 * self._fraction("tried")

    def percent_aborted(self) -> float:
        return 100 * self._fraction("aborted")

    def percent_not_done(self) -> float:
        return 100 * self._fraction_not("done")

    def percent_not_tried(self) -> float:
        return 100 * self._fraction_not("tried")

    def percent_not_aborted(self) -> float:
        return 100 * self._fraction_not("aborted")

    def _count(self, what: str) -> int:
        if self.closed:
            raise ClosedError("it was closed", path=self.path, hint="open it again")
        with self.locked():
            return int(getattr(self._jobs, what))

    def _fraction(self, what: str) -> float:
        with self.locked():
            return self._count(what) / len(self) if len(self) else 0.0

    def _fraction_not(self, what: str) -> float:
        with self.locked():
            return (len(self) - self._count(what)) / len(self) if len(self) else 0.0

    # ---- workers

    def claim(self, n: int = 1, *, worker: str | None = None, lease_s: float | None = None) -> list[Key]:
        """Up to ``n`` jobs for this worker alone; none where none is free. Each counts as tried once more.

        A job stays with its worker until it is done, aborted, failed or released, until ``lease_s`` seconds have passed
        without a ``heartbeat``, or until the worker's process is gone. ``worker``: this process, if nothing is said.
        """
        worker = worker or worker_id()
        lease_ns = self._lease_ns if lease_s is None else round(lease_s * _NS)
        with self.locked():
            now_ns = self._opened.now_ns()
            keys = list(self._free_keys(n, now_ns))
            if keys:
                self._opened.answer(keys)
                lease = {"worker": worker, "until": now_ns + lease_ns}
                with self.transaction() if len(keys) > 1 else nullcontext():
                    for key in keys:
                        self._job(key).update({TRIES: self.tries(key) + 1, LEASE: lease})
            return keys

    def _free_keys(self, n: int, now_ns: int) -> Iterator[Key]:
        jobs = self._jobs
        for key in islice(jobs.free, n):
            n -= 1
            yield key
        gone: dict[str, bool] = {}
        for key in list(jobs.leased) if n > 0 else ():
            if n <= 0:
                return
            job = self._data[key]
            holder = holder_of(job, now_ns)
            if holder is not None and holder not in gone:
                gone[holder] = is_gone(holder)
            if (holder is None or gone[holder]) and is_open(job, self._max_tries):
                n -= 1
                yield key

    def release(self, key: Key) -> None:
        """Gives a job back that was claimed, or is being tried; the try is not counted."""
        with self.locked():
            if self._is_begun(key):
                self._set(key, (LEASE,), **{TRIES: max(0, self.tries(key) - 1)})
                self._jobs.end(key)

    def heartbeat(self, key: Key, *, worker: str | None = None, lease_s: float | None = None) -> bool:
        """Asks for more time. ``False``: the job has gone to another worker, or is nobody's; drop it."""
        worker = worker or worker_id()
        lease_ns = self._lease_ns if lease_s is None else round(lease_s * _NS)
        with self.locked():
            job = self._job(key)
            lease = job.get(LEASE)
            if not isinstance(lease, dict) or lease.get("worker") != worker:
                return False
            job[LEASE] = {"worker": worker, "until": self._opened.now_ns() + lease_ns}
            return True

    def fail(self, key: Key, error: BaseException | str) -> None:
        """The try came to nothing. The traceback's text is kept as ``_error``, and the lease ends.

        The job is tried again while ``max_tries`` allows it; without that bound only after ``retry_failed``.
        """
        text = error if isinstance(error, str) else "".join(traceback.format_exception(error))
        with self.locked():
            # A lone surrogate, as file names may have, cannot be stored.
            text = text.encode("utf-8", "backslashreplace").decode()
            # A try that began with claim(), or in this process with should_try() and the like, has been counted.
            tries = self.tries(key) + (not self._is_begun(key))
            self._set(key, (LEASE,), **{ERROR: text, TRIES: tries})
            self._jobs.end(key)

    def _is_begun(self, key: Key) -> bool:
        return LEASE in self._job(key) or self._jobs.is_begun(key)

    def failures(self) -> dict[Key, str]:
        """The traceback of each job that failed the last time and is not done."""
        with self.locked():
            jobs = self._data.items()
            return {key: job[ERROR] for key, job in jobs if isinstance(job, dict) and ERROR in job}

    def retry_failed(self) -> int:
        """Makes every failed job a fresh one, and returns how many."""
        with self.transaction():
            keys = list(self.failures())
            for key in keys:
                self._set(key, (ERROR, LEASE), **{TRIES: 0})
        return len(keys)

    def progress(
        self, description: str = "jobs", *, file: TextIO | None = None, interval_s: float | None = None
    ) -> AbstractContextManager[Any]:
        """``with tracker.progress():`` a bar on a terminal, a line every now and then elsewhere.

        ``file``: standard error, if nothing is said. ``interval_s``: between two looks.
        """
        return Progress(self.counts, description, file=file, interval_s=interval_s)

    def convert_to_tracker(self, **options: Any) -> Self:
        """It is one."""
        return self


ProgressTracker = Tracker


def filled_in(value: Any) -> dict[str, Any]:
    """A job, made of a value: a dict gets the fields that it lacks, anything else becomes its ``value``."""
    return {**fresh(), **value} if isinstance(value, Mapping) else {**fresh(), "value": value}


def converted(opened: Opened, *, max_tries: int = 0, lease_s: float = LEASE_S) -> Tracker:
    """A tracker on an opened dict, all of whose values have become jobs, in one entry."""
    if not opened.values.tracked:
        raise UsageError("jobs are plain data", path=opened.path, hint='codec="json"')
    with opened.transaction():
        for key, value in list(opened.state.data.items()):
            if not isinstance(value, dict):
                opened.set(key, filled_in(value))
            elif missing := {name: initial for name, initial in fresh().items() if name not in value}:
                value.update(missing)
    return Tracker._on(opened, _max_tries=_checked(max_tries), _lease_ns=round(lease_s * _NS))


def _checked(max_tries: Any) -> int:
    if type(max_tries) is not int or max_tries < 0:
        raise UsageError(f"max_tries={max_tries!r}", hint="a whole number; 0 for any number of tries")
    return max_tries
