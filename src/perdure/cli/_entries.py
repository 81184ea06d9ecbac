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
    """The part of a journal that hangs together up to its end. ``error``: what stands behind it is damaged."""

    segments: list[Segment]
    first_seq: int
    last_seq: int
    error: PerdureError | None
    framing: Framing = BINARY

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

        Of that one the outcome may be among what is damaged; then its status is "unknown".
        """
        errors: list[PerdureError] = []

        def good() -> Iterator[Entry]:
            try:
                # The outcome of the last one may stand behind `before`.
                yield from self.entries(after)
            except PerdureError as error:
                errors.append(error)

        for entry, outcome in with_outcome(good(), {}):
            if before is not None and entry.seq >= before:
                return
            yield entry, outcome or (_unknown(entry.seq) if errors else None)
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
    return found, Readable(segments, base, last.last_seq if last is not None else 0, error, found.framing)
