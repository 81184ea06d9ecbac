"""Commands that are collected by one thread, written by another and applied wherever somebody wants it.

An event loop collects them; a helper thread writes and syncs, because the loop must not wait for a disk; and they are
applied on the loop's thread again, in parts, so that what its tasks read of the object never changes under their hands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from perdure.clock import running
from perdure.machine._commands import Commands
from perdure.machine._refusing import lost
from perdure.machine._state import Pending

PART_COUNT = 32


class Batches(Commands):
    """The part of a machine that handles commands on behalf of others."""

    def handle_batch(self, batch: list[Pending], elsewhere: Callable[[Iterator[Sequence[Pending]]], None]) -> None:
        """Journals commands as one batch, as durably as promised, and has them applied by whoever ``elsewhere`` asks.

        ``elsewhere`` gets an iterator that applies a part of the batch at each step and gives the part; it may step in
        any thread that holds none of the machine's locks, and returns once the iterator is at its end. What becomes of
        a command is noted in it, and holds once this method has returned; before that, an error that ended the command
        from outside is not yet in the journal. Any thread may call; other commands wait meanwhile.
        """
        with self._order:
            try:
                self._commit(batch, None, True, lambda new: elsewhere(self._parts(new)))
            finally:
                for pending in batch:
                    if not pending.done:
                        pending.error, pending.done = lost(), True

    def _parts(self, batch: list[Pending]) -> Iterator[Sequence[Pending]]:
        for start in range(0, len(batch), PART_COUNT):
            part = batch[start : start + PART_COUNT]
            if self.companion is None and not self._subscribers:
                self._apply_plain(part)
            else:
                for pending in part:
                    self._apply(pending, False, True)
            # Whoever is answered now may ask for it.
            self._applied_seq = part[-1].seq
            yield part
        deferred, self._deferred = self._deferred, None
        if deferred is not None:
            raise deferred

    def _apply_plain(self, part: Sequence[Pending]) -> None:
        """``_apply`` of commands with nobody to accompany or to tell, written out: the usual case."""
        moment, run = self.moment, self._run
        before = running.moment
        with self._state_lock:
            try:
                running.moment = moment
                for pending in part:
                    if pending.client:
                        running.moment = before
                        self._apply(pending, False, True)
                        running.moment = moment
                        continue
                    moment.seq = pending.seq
                    moment.at_ns = pending.at_ns
                    moment.utc_offset_min = pending.utc_offset_min
                    moment.drawn = None
                    try:
                        context = pending.context
                        pending.result = run(pending.call) if context is None else context.run(run, pending.call)
                    except BaseException as error:  # Noted in the command, and raised to its caller.
                        running.moment = before
                        if not self._note_error(pending, error, False):
                            self._apply(pending, False, True)
                        running.moment = moment
                    pending.done = True
            finally:
                running.moment = before
