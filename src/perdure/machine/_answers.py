"""What a command was answered, kept so that a repeated request can be told the same."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import msgspec

from perdure.codecs import Codec
from perdure.errors import CodecError, OutcomeUnknownError, RejectedError

_OVERHEAD_BYTES = 64


class StoredAnswer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """``data``: of the value, or of the exception; empty where it cannot be stored, and ``message`` says why, or what
    the exception said. ``error``: module and name of the exception's type.
    """

    kind: Literal["returned", "raised", "unkept"]
    data: bytes = b""
    error: str = ""
    message: str = ""

    @property
    def size_bytes(self) -> int:
        return len(self.data) + len(self.error) + len(self.message) + _OVERHEAD_BYTES


_NOTHING = StoredAnswer("returned")
"""``None``, which is what most commands return."""


class Answer(NamedTuple):
    """Where ``error`` is ``None`` it is ``result``."""

    result: Any
    error: BaseException | None


def name_of(error: BaseException) -> str:
    """Module and name of an exception's type."""
    kind = type(error)
    return f"{kind.__module__}.{kind.__qualname__}"


def store_result(result: Any, codec: Codec) -> StoredAnswer:
    """Never fails: of what cannot be stored it is kept that it cannot."""
    if result is None:
        return _NOTHING
    try:
        return StoredAnswer("returned", codec.encode(result))
    except CodecError as refused:
        return StoredAnswer("unkept", message=refused.message)


def store_error(error: BaseException, codec: Codec) -> StoredAnswer:
    """Never fails: of an exception that cannot be stored its type's name and its message are kept."""
    try:
        data = codec.encode(error)
    except CodecError:
        data = b""
    return StoredAnswer("raised", data, name_of(error), str(error))


def restore(stored: StoredAnswer | None, seq: int, codec: Codec) -> Answer:
    """The answer, or an ``OutcomeUnknownError`` that says why it is not there any more (``None``: forgotten)."""
    if stored is None:
        return _lost("is not kept any more", seq)
    if stored.kind == "unkept":
        return _lost(f"could not be stored: {stored.message}", seq)
    try:
        value = codec.decode(stored.data) if stored.data else None
    except CodecError as refused:
        return _lost(f"cannot be loaded: {refused.message}", seq)
    if stored.kind == "returned":
        return Answer(value, None)
    if isinstance(value, BaseException):
        return Answer(None, value)
    return Answer(None, RejectedError(f"{stored.error}: {stored.message}", seq=seq))


def _lost(why: str, seq: int) -> Answer:
    return Answer(None, OutcomeUnknownError(f"this request has run, once; its answer {why}", seq=seq))
