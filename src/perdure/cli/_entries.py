"""The commands in a directory, in order, for the verbs that read a journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perdure.errors import PerdureError
from perdure.fs import Fs
from perdure.journal import BINARY, Framing, Segment, entries_of
from perdure.machine import Outcome
from perdure.records import Entry
from perdure.repair import SegmentFile, Survey, survey
from perdure.system import with_outcome


@dataclass
class Readable:
    """The part of a journal that hangs together up to its end. ``error``: what stands behind it is damaged.

    ``settled_seq``: up to here the outcomes of all commands have been written.
    """

    segments: list[Segment]
    first_seq: int
    last_seq: int
    error: PerdureError | None
    framing: Framing = BINARY
    settled_seq: int = 0

    def entries(self, after: int = 0, before: int | None = None) -> Iterator[Entry]:
        """Those with ``after < seq < before``. Raises ``CorruptError`` at the first damaged one."""
        last = self.last_seq if before is None else min(self.last_seq, before - 1)
        after = max(after, self.first_seq - 1)
        if last > after:
            for _, entries in entries_of(Fs(), self.framing, self.segments, after, last):
                yield from entries
        if self.error is not None and (before is None or before > self.last_seq + 1):
            raise self.error

    def commands(self, after: int = 0, before: int | None = None) -> Iterator[tuple[Entry, Outcome | None]]:
        """Commands with what became of them. Raises like ``entries``, behind the last one that can be read.

        Of the last append the outcomes may be still to be written, or among what is damaged: then their status is
        "unknown".
        """
        errors: list[PerdureError] = []
        ended = False  # Then only commands of the last append are left.

        def good() -> Iterator[Entry]:
            nonlocal ended
            try:
                # The outcome of the last one may stand behind `before`.
                yield from self.entries(after)
            except PerdureError as error:
                errors.append(error)
            ended = True

        for entry, outcome in with_outcome(good(), {}):
            if before is not None and entry.seq >= before:
                return
            yield (
                entry,
                outcome or (_unknown(entry.seq) if ended and (errors or entry.seq > self.settled_seq) else None),
            )
        if errors:
            raise errors[0]


def _unknown(seq: int) -> Outcome:
    return Outcome(seq, "unknown", "")  # type: ignore[arg-type]


def readable(directory: str, secrets: Sequence[bytes] = (), *, dicts: bool = False) -> tuple[Survey, Readable]:
    """What there is to read, from headers and the last segment alone. ``dicts``: see ``survey``."""
    found = survey(directory, secrets=secrets, deep=False, dicts=dicts)
    segments: list[Segment] = []
    error: PerdureError | None = None
    last: SegmentFile | None = None
    for file in reversed(found.segments):
        if file.segment is None:
            if segments:
                break
            error = file.error
            continue
        if segments and (file.number != segments[0].number - 1 or file.base_seq > segments[0].base_seq):
            break
        if last is None:
            last = file
            error = error or file.tail_error
        segments.insert(0, file.segment)
    base = segments[0].base_seq if segments else 1
    last_seq = last.last_seq if last is not None else 0
    # A mark is written behind the outcomes, and so is a snapshot. The changes of a dict have been made when they are
    # written.
    newest_seq = max((file.seq for file in found.good_snapshots), default=0)
    settled_seq = last_seq if found.is_dict or (last is not None and last.marked) else newest_seq
    return found, Readable(segments, base, last_seq, error, found.framing, settled_seq)
