"""What is known of all jobs at once: how many are done, and which are free. Kept in step with every change."""

from __future__ import annotations

from typing import Any

from perdure.mapping._leases import LEASE
from perdure.mapping._state import ALL, DictState

DONE, TRIES, ABORTED, ERROR = "_done", "_tries", "_aborted", "_error"

_DONE, _TRIED, _ABORTED, _FAILED = 1, 2, 4, 8


def fresh() -> dict[str, Any]:
    """The fields of a job that nobody has begun."""
    return {DONE: False, TRIES: 0, ABORTED: False}


class Jobs:
    """An index of jobs. It follows the dict also where somebody changes fields by hand.

    ``free``: keys that may be claimed, in the order in which they became free. ``leased``: keys that somebody has, or
    had. One thread at a time, under the lock of the opened dict.
    """

    def __init__(self, state: DictState, max_tries: int) -> None:
        self._state = state
        self.max_tries = max_tries
        self._flags: dict[Any, int] = {}
        self._counts = [0] * 16
        self.free: dict[Any, None] = {}
        self.leased: dict[Any, None] = {}
        self._begun: dict[Any, tuple[int, int]] = {}
        self._rebuild()
        state.observer = self.look_at

    def look_at(self, key: Any) -> None:
        """Something about this job has changed."""
        if key is ALL:
            self._rebuild()
            return
        job = dict.get(self._state.data, key)
        before = self._flags.pop(key, None)
        if before is not None:
            self._counts[before] -= 1
        if job is None and key not in self._state.data:
            self.free.pop(key, None)
            self.leased.pop(key, None)
            self._begun.pop(key, None)
            return
        self._add(key, job)

    def _rebuild(self) -> None:
        self._flags = {}
        self._counts = [0] * 16
        free, self.free, self.leased = self.free, {}, {}
        # What was free before keeps its place among the free.
        data = self._state.data
        self._begun = {key: begun for key, begun in self._begun.items() if key in data}
        for key in [*(key for key in free if key in data), *(key for key in data if key not in free)]:
            self._add(key, dict.__getitem__(data, key))

    def _add(self, key: Any, job: Any) -> None:
        flags = 0
        if isinstance(job, dict):
            get = job.get
            flags = (_DONE if get(DONE) else 0) | (_TRIED if get(TRIES) else 0) | (_ABORTED if get(ABORTED) else 0)
            flags |= _FAILED if ERROR in job else 0
        self._flags[key] = flags
        self._counts[flags] += 1
        if is_open(job, self.max_tries) and LEASE not in job:
            self.free.setdefault(key)
            self.leased.pop(key, None)
        else:
            self.free.pop(key, None)
            if isinstance(job, dict) and LEASE in job:
                self.leased.setdefault(key)
            else:
                self.leased.pop(key, None)

    def begin(self, key: Any) -> None:
        """A try of a job that nobody has claimed was counted. Several can be under way at once."""
        self._begun[key] = self._state.data[key][TRIES], self._begun.get(key, (0, 0))[1] + 1

    def end(self, key: Any) -> None:
        """One of them has ended."""
        tries, count = self._begun.pop(key, (0, 0))
        if count > 1:
            self._begun[key] = min(tries, self._state.data[key][TRIES]), count - 1

    def end_all(self, key: Any) -> None:
        self._begun.pop(key, None)

    def is_begun(self, key: Any) -> bool:
        """Whether a try was counted, and neither ended nor was taken back."""
        # Looked up, and not kept in step: a transaction may take back what ended the try, or the try itself.
        job = self._state.data[key]
        return key in self._begun and not job.get(DONE) and bool(job.get(TRIES, 0) >= self._begun[key][0])

    def count(self, flag: int) -> int:
        return sum(count for flags, count in enumerate(self._counts) if flags & flag)

    @property
    def done(self) -> int:
        return self.count(_DONE)

    @property
    def tried(self) -> int:
        return self.count(_TRIED)

    @property
    def aborted(self) -> int:
        return self.count(_ABORTED)

    @property
    def failed(self) -> int:
        return self.count(_FAILED)


def is_open(job: Any, max_tries: int, *, allow_aborted: bool = False, allow_failed: bool = False) -> bool:
    """Whether a job is still to be tried: not done, not aborted, and its tries are not used up.

    One that has failed is tried again while ``max_tries`` allows it; without that bound, once it was asked for.
    """
    if not isinstance(job, dict) or job.get(DONE) or (job.get(ABORTED) and not allow_aborted):
        return False
    if max_tries:
        return bool(job.get(TRIES, 0) < max_tries)
    return allow_failed or ERROR not in job
