"""Pairs from a file, into a dict, with a report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from perdure.errors import CodecError
from perdure.mapping._dict import PersistentDict
from perdure.mapping._keys import check_key

_BATCH_COUNT = 1000
SKIPPED_KEPT_MAX = 10_000

Pair = tuple[Any, Callable[[], Any]]
"""A key, and what reads its value; that may raise ``CodecError``, with the reason why the value cannot be had."""


@dataclass(frozen=True)
class Skipped:
    """A key that was passed over, and why."""

    key: str
    reason: str


@dataclass
class ImportReport:
    """``imported``: pairs that are in the dict now. ``skipped_count``: that are not; the first of them are named."""

    imported: int = 0
    skipped_count: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    def skip(self, key: object, reason: str) -> None:
        self.skipped_count += 1
        if len(self.skipped) < SKIPPED_KEPT_MAX:
            self.skipped.append(Skipped(key if isinstance(key, str) else repr(key), reason))


def take_over(pairs: Iterable[Pair], into: PersistentDict) -> ImportReport:
    """Puts pairs into a dict, many to an entry. What the dict cannot store is passed over and reported."""
    report = ImportReport()
    batch: dict[Any, Any] = {}
    for key, read in pairs:
        try:
            check_key(key)
            value = read()
            # Whether it can be stored must be known of each by itself: an entry takes all of its values or none.
            into._opened.values.take(value)
        except CodecError as error:
            report.skip(key, error.message)
            continue
        batch[key] = value
        if len(batch) >= _BATCH_COUNT:
            _put(batch, into, report)
            batch = {}
    _put(batch, into, report)
    into.sync()
    return report


def _put(batch: dict[Any, Any], into: PersistentDict, report: ImportReport) -> None:
    if batch:
        into.update(batch)
        report.imported += len(batch)


def text_of(raw: bytes) -> str:
    """A key's text. Raises ``CodecError`` where the bytes are none."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CodecError(f"the key is not UTF-8: {raw!r}") from error
