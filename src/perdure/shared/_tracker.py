"""``SharedTracker``: a list of jobs that any number of processes work off together."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Self, TextIO

from perdure.codecs import Codec
from perdure.errors import UsageError
from perdure.fs import Fs
from perdure.journal import Durability
from perdure.mapping import LEASE_S, Key, Progress, filled_in, worker_id
from perdure.shared._dict import SharedPersistentDict


class SharedTracker(SharedPersistentDict):
    """A ``Tracker`` for many processes at once: ``claim()`` hands each job to one worker only.

    A job comes back when its worker has died, or has let its lease run out. What is named "do" only looks; what is
    named "try" counts a try of each job that it hands out, before it does, but hands a job to everybody who asks. See
    ``Tracker`` for what a job is, and ``SharedPersistentDict`` for how processes share one.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        max_tries: int = 0,
        init: Mapping[Key, Any] | Iterable[tuple[Key, Any]] | None = None,
        *,
        lease_s: float = LEASE_S,
        codec: str | Codec = "json",
        durability: Durability = "everysec",
        gzipped: bool = False,
        file_size: int = 1000,
        fs: Fs | None = None,
    ) -> None:
        """``lease_s``: how long a claimed job stays with its worker. The rest is as of ``Tracker``.

        Raises what ``SharedPersistentDict`` raises.
        """
        if type(max_tries) is not int or max_tries < 0:
            raise UsageError(f"max_tries={max_tries!r}", hint="a whole number; 0 for any number of tries")
        options = {"codec": codec, "durability": durability, "gzipped": gzipped, "file_size": file_size}
        filled = None if init is None else {key: filled_in(value) for key, value in dict(init).items()}
        self._begin(path, filled, options, {"max_tries": max_tries, "lease_s": lease_s}, fs)
        try:
            len(self)
        except BaseException:
            self.close()
            raise

    @property
    def _lease_s(self) -> float:
        return float(self._tracker_options["lease_s"])

    # ---- adding

    def add(self, key: Key, fields: Mapping[str, Any] | None = None) -> None:
        """Raises ``DuplicateKeyError`` where the key is there: nothing has changed then."""
        self._do("add", key, dict(fields or {}))

    def add_if_absent(self, key: Key, fields: Mapping[str, Any] | None = None) -> bool:
        """Whether it was added."""
        return bool(self._do("add_if_absent", key, dict(fields or {})))

    def add_many(self, keys: Iterable[Key]) -> None:
        """All of them, or, with a ``DuplicateKeyError``, none."""
        self._do("add_many", list(keys))

    def add_many_if_absent(self, keys: Iterable[Key]) -> int:
        """How many were added."""
        return int(self._do("add_many_if_absent", list(keys)))

    # ---- one job

    def mark_done(self, key: Key) -> None:
        """Also ends its lease, and forgets how it failed before. Raises ``KeyError``."""
        self._do("mark_done", key)

    def mark_not_done(self, key: Key) -> None:
        self._do("mark_not_done", key)

    def increment_tries(self, key: Key) -> None:
        self._do("increment_tries", key)

    def decrement_tries(self, key: Key) -> None:
        """Not below zero."""
        self._do("decrement_tries", key)

    def reset_tries(self, key: Key) -> None:
        self._do("reset_tries", key)

    def abort(self, key: Key) -> None:
        """Gives a job up: it is not to be done, until ``unabort``. Also ends its lease."""
        self._do("abort", key)

    def unabort(self, key: Key) -> None:
        self._do("unabort", key)

    def done(self, key: Key) -> bool:
        return bool(self._do("done", key))

    def tries(self, key: Key) -> int:
        return int(self._do("tries", key))

    def aborted(self, key: Key) -> bool:
        return bool(self._do("aborted", key))

    def should_do(self, key: Key, *, allow_aborted: bool = False) -> bool:
        """Whether it is neither done nor aborted, and has tries left. Raises ``KeyError``."""
        return bool(self._do("should_do", key, allow_aborted=allow_aborted))

    def should_do_add(self, key: Key, *, allow_aborted: bool = False) -> bool:
        """The same; a key that is not there is added, and should be done."""
        return bool(self._do("should_do_add", key, allow_aborted=allow_aborted))

    def should_try(self, key: Key, *, allow_aborted: bool = False) -> bool:
        """Whether it should be done. If so, this counts a try of it. Raises ``KeyError``."""
        return bool(self._do("should_try", key, allow_aborted=allow_aborted))

    def should_try_add(self, key: Key, *, allow_aborted: bool = False) -> bool:
        """The same; a key that is not there is added, and should be tried."""
        return bool(self._do("should_try_add", key, allow_aborted=allow_aborted))

    # ---- many jobs. Keys that are added while one of these is gone through come in their turn.

    def _iterate(self, which: str, **options: Any) -> Iterator[tuple[Key, Any]]:
        seen: set[Key] = set()
        while True:
            fresh = [key for key in self._do(which, **options) if key not in seen]
            if not fresh:
                return
            seen.update(fresh)
            yield from self._values_of(fresh)

    def _iterate_keys(self, which: str, **options: Any) -> Iterator[Key]:
        seen: set[Key] = set()
        while True:
            fresh = [key for key in self._do(which, **options) if key not in seen]
            if not fresh:
                return
            seen.update(fresh)
            yield from fresh

    def todo_keys(self, *, allow_aborted: bool = False) -> Iterator[Key]:
        """Of jobs that are neither done nor aborted, and have tries left."""
        return self._iterate_keys("todo_keys", allow_aborted=allow_aborted)

    def todo_items(self, *, allow_aborted: bool = False) -> Iterator[tuple[Key, Any]]:
        return self._iterate("todo_keys", allow_aborted=allow_aborted)

    def todo_values(self, *, allow_aborted: bool = False) -> Iterator[Any]:
        return (job for _, job in self.todo_items(allow_aborted=allow_aborted))

    def try_keys(self, *, allow_aborted: bool = False) -> Iterator[Key]:
        return (key for key, _ in self.try_items(allow_aborted=allow_aborted))

    def try_items(self, *, allow_aborted: bool = False) -> Iterator[tuple[Key, Any]]:
        """The same; this counts a try of each job as it comes."""
        for key in self.todo_keys(allow_aborted=allow_aborted):
            job = self._do("try", key, allow_aborted)
            if job is not None:
                yield key, job

    def try_values(self, *, allow_aborted: bool = False) -> Iterator[Any]:
        return (job for _, job in self.try_items(allow_aborted=allow_aborted))

    def aborted_keys(self, *, allow_aborted: bool = True) -> Iterator[Key]:
        """Of jobs that were given up."""
        return self._iterate_keys("aborted_keys", allow_aborted=allow_aborted)

    def aborted_items(self, *, allow_aborted: bool = True) -> Iterator[tuple[Key, Any]]:
        return self._iterate("aborted_keys", allow_aborted=allow_aborted)

    def aborted_values(self, *, allow_aborted: bool = True) -> Iterator[Any]:
        return (job for _, job in self.aborted_items(allow_aborted=allow_aborted))

    # ---- counting. Of no jobs at all, every share is 0.

    def counts(self) -> dict[str, int]:
        """All the numbers at one moment: ``total``, ``done``, ``tried``, ``aborted``, ``failed``, ``claimed``."""
        return self._do("counts")  # type: ignore[no-any-return]

    def num_done(self) -> int:
        return self.counts()["done"]

    def num_tried(self) -> int:
        """Jobs that were begun at least once."""
        return self.counts()["tried"]

    def num_aborted(self) -> int:
        return self.counts()["aborted"]

    def _fraction(self, what: str, *, rest: bool = False) -> float:
        counts = self.counts()
        total, count = counts["total"], counts[what]
        return (total - count if rest else count) / total if total else 0.0

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
        return 100 * self._fraction("done", rest=True)

    def percent_not_tried(self) -> float:
        return 100 * self._fraction("tried", rest=True)

    def percent_not_aborted(self) -> float:
        return 100 * self._fraction("aborted", rest=True)

    # ---- workers

    def claim(self, n: int = 1, *, worker: str | None = None, lease_s: float | None = None) -> list[Key]:
        """Up to ``n`` jobs for this worker alone; none where none is free. See ``Tracker.claim``."""
        lease_s = self._lease_s if lease_s is None else lease_s
        return list(self._do("claim", n, worker=worker or worker_id(), lease_s=lease_s))

    def release(self, key: Key) -> None:
        """Gives a job back that was claimed, or is being tried; the try is not counted."""
        self._do("release", key)

    def heartbeat(self, key: Key, *, worker: str | None = None, lease_s: float | None = None) -> bool:
        """Asks for more time. ``False``: the job has gone to another worker, or is nobody's; drop it."""
        lease_s = self._lease_s if lease_s is None else lease_s
        return bool(self._do("heartbeat", key, worker=worker or worker_id(), lease_s=lease_s))

    def fail(self, key: Key, error: BaseException | str) -> None:
        """The try came to nothing. The traceback's text is kept as ``_error``, and the lease ends.

        A try that was counted is not counted again; but one without a lease is, where the owner has changed since.
        """
        text = error if isinstance(error, str) else "".join(traceback.format_exception(error))
        # A lone surrogate, as file names may have, cannot be sent as text.
        self._do("fail", key, text.encode("utf-8", "backslashreplace").decode())

    def failures(self) -> dict[Key, str]:
        """The traceback of each job that failed the last time and is not done."""
        return self._do("failures")  # type: ignore[no-any-return]

    def retry_failed(self) -> int:
        """Makes every failed job a fresh one, and returns how many."""
        return int(self._do("retry_failed"))

    def progress(
        self, description: str = "jobs", *, file: TextIO | None = None, interval_s: float | None = None
    ) -> AbstractContextManager[Any]:
        """``with tracker.progress():`` a bar on a terminal, a line every now and then elsewhere. Of all processes."""
        return Progress(self.counts, description, file=file, interval_s=interval_s)

    def convert_to_tracker(self, max_tries: int = 0, **options: Any) -> Self:
        """It is one."""
        return self
