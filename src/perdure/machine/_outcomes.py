"""What became of a command that did not simply return: a small entry behind it in the journal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from perdure.errors import CorruptError
from perdure.journal import Draft
from perdure.machine._answers import StoredAnswer, name_of
from perdure.records import OUTCOME, Entry

Status = Literal["raised", "aborted", "interrupted"]


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """``raised``: its changes stay, and a replay must raise the same type. ``aborted``, ``interrupted``: it left
    nothing, and a replay passes over it. ``error``: module and name of the exception's type. ``answer``: where the
    command was aborted and its request may be repeated, what that one is told.
    """

    seq: int
    status: Status
    error: str
    answer: StoredAnswer | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Outcome).decode


def outcome_draft(seq: int, status: Status, error: BaseException, answer: StoredAnswer | None = None) -> Draft:
    fields = (seq, status, name_of(error))
    return Draft(OUTCOME, _encode(fields if answer is None else (*fields, answer)))


def read_outcome(entry: Entry | Draft) -> Outcome:
    """What an entry of the kind ``OUTCOME`` says. Raises ``CorruptError``."""
    try:
        return _decode(entry.payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CorruptError("the outcome of a command cannot be read", seq=entry.seq) from error


def outcomes_in(entries: Iterable[Any]) -> dict[int, Outcome]:
    """By the seq of their command."""
    found = {}
    for entry in entries:
        if entry.kind == OUTCOME:
            outcome = read_outcome(entry)
            found[outcome.seq] = outcome
    return found
