"""What a journal is: an ordered list of entries that outlives the process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, Protocol, TypeVar

import msgspec

from perdure.records import COMMAND, NO_CLIENT, Entry

Durability = Literal["always", "everysec", "never"]

Wait = TypeVar("Wait", covariant=True)


class Draft(msgspec.Struct):
    """An entry that has no place yet: what ``Journal.append`` takes, and where it writes the place it gave.

    ``seq``, ``at_ns``, ``utc_offset_min`` and ``more`` are set by ``append`` and mean nothing before.
    """

    kind: int
    payload: bytes
    client: bytes = NO_CLIENT
    counter: int = 0
    seq: int = 0
    at_ns: int = 0
    utc_offset_min: int = 0
    more: bool = False

    def entry(self) -> Entry:
        """What a reader of the journal gets."""
        return Entry(
            self.seq, self.at_ns, self.kind, self.payload, self.utc_offset_min, self.client, self.counter, self.more
        )


class Capabilities(NamedTuple):
    """What a journal can promise.

    ``entry_bytes_max``: the largest payload. ``durability``: what an entry survives once ``sync`` has returned, in
    words. ``shared``: whether others may append, too, so that the order is known only when the entry is read back.
    """

    entry_bytes_max: int
    durability: str
    shared: bool


class Journal(Protocol):
    """An ordered list of entries, numbered from 1 without gaps.

    One thread at a time may call the methods that write (``append``, ``mark``, ``trim``, ``close``); the machine's
    lock sees to that. ``sync`` and ``read`` may be called by any thread at any time.
    """

    log_id: bytes
    """16 bytes that name this journal among all; snapshots carry it."""
    last_seq: int
    """Of the last entry; 0 when there is none yet."""
    durable_seq: int
    """Everything up to here survives whatever the journal promises to survive."""
    last_at_ns: int
    """The time of the last entry, nanoseconds since the Unix epoch; the next one is not earlier."""
    capabilities: Capabilities

    @property
    def failure(self) -> str | None:
        """Why nothing can be appended any more until it is opened again; ``None`` while all is well."""
        ...

    @property
    def bytes_written(self) -> int:
        """How much was appended since it was opened."""
        ...

    def append(self, drafts: Sequence[Draft], *, expected: int | None = None) -> None:
        """Puts entries at the end, in this order, and hands them to the storage: all of them or none.

        They are ordered, not yet durable: see ``sync``. ``expected``: refuse unless ``last_seq`` is this.

        Raises:
            RecordTooLargeError: nothing was written; carry on.
            WriteError: ``outcome`` tells; "not-written": nothing is left behind, carry on or retry.
        """
        ...

    def sync(self) -> int:
        """Returns when everything appended before the call is durable, with ``durable_seq``.

        Raises:
            WriteError: outcome "unknown"; the journal takes no further entries. Open it again to learn what is there.
        """
        ...

    def mark(self) -> None:
        """Writes down how far the journal is durable, so that a reader knows it. Does nothing where that is written."""
        ...

    def read(self, after: int = 0, before: int | None = None) -> Iterator[Entry]:
        """Entries with ``after < seq < before``, in order.

        Raises:
            MissingError: some of them were trimmed, or a file is gone.
            CorruptError: some of them are damaged.
        """
        ...

    def trim(self, before: int) -> None:
        """Allows the journal to forget entries with ``seq < before``. The numbering goes on. Failing is not an
        error.
        """
        ...

    def close(self) -> None:
        """Makes everything durable and lets go. Idempotent. Raises ``WriteError`` like ``sync``, after letting go."""
        ...


class CopyingJournal(Journal, Protocol):
    """A journal that can be a copy of another one: the same entries with the same seqs, times and log id."""

    def copy(self, entries: Sequence[Entry]) -> None:
        """Puts entries of the other journal at the end, as they are: all of them or none. Else like ``append``.

        Raises:
            UsageError: they do not continue this one. Nothing was written.
            WriteError: as ``append`` does.
        """
        ...


def start_of_last_append(entries: Sequence[Entry]) -> int:
    """The first seq of the last append that has a command in it; behind the last entry where there is none.

    Outcomes are written in front of the next commands, so those of all commands before it are known.
    """
    for position in range(len(entries) - 1, -1, -1):
        if entries[position].kind == COMMAND:
            while position > 0 and entries[position - 1].more:
                position -= 1
            return entries[position].seq
    return entries[-1].seq + 1 if entries else 0
