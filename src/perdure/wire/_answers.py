"""An answer, or what went wrong, ↔ the body of a response."""

from __future__ import annotations

import builtins
import sys
from collections import deque
from collections.abc import Set as AbstractSet
from typing import Any, Literal

import msgspec

from perdure import errors
from perdure.codecs import Codec
from perdure.errors import CodecError, PerdureError, RejectedError
from perdure.wire._formats import JSON, OWN

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
_encode_json = msgspec.json.Encoder().encode
_encode_msgpack = msgspec.msgpack.Encoder().encode
_decode_msgpack = msgspec.msgpack.Decoder().decode
_MESSAGE_LENGTH_MAX = 2_000

FailureKind = Literal[
    "body", "unauthorized", "forbidden", "host", "unknown-method", "unknown-path", "wrong-verb", "slow", "raised",
    "gone", "too-large", "unsupported-type", "arguments", "key-reused", "refused", "busy", "unsendable", "storage",
    "running", "unknown-outcome", "stopping",
]  # fmt: skip


class Answer(msgspec.Struct):
    """What JSON and MessagePack have in a 200. ``is_self``: the method returned the object itself.

    ``unsendable``: a command has run, and what it returned cannot be written in this format; why.
    """

    result: Any = None
    is_self: bool = False
    unsendable: str | None = None


class Failure(msgspec.Struct, omit_defaults=True):
    """What every other response has under ``error``.

    ``kind``: what went wrong, of a fixed list. ``type``, ``args`` and ``data``: of the exception that a method raised.
    """

    kind: str
    message: str
    hint: str | None = None
    type: str | None = None
    args: list[Any] | None = None
    data: bytes | None = None
    outcome: str | None = None


class _Failed(msgspec.Struct):
    error: Failure


_decode_failed_json = msgspec.json.Decoder(_Failed).decode
_decode_failed_msgpack = msgspec.msgpack.Decoder(_Failed).decode


# ---- results


def sendable(value: Any) -> Any:
    """What msgspec does not write by itself: sets of others in lists, plain objects by their public attributes."""
    if isinstance(value, (deque, AbstractSet)):
        return list(value)
    if isinstance(value, dict):
        return dict(value)
    attributes = getattr(value, "__dict__", None)
    if attributes is None or callable(value):
        raise TypeError(f"a {type(value).__module__}.{type(value).__qualname__} cannot be sent as plain data")
    return {name: item for name, item in attributes.items() if not name.startswith("_")}


_encode_json_of_objects = msgspec.json.Encoder(enc_hook=sendable).encode
_encode_msgpack_of_objects = msgspec.msgpack.Encoder(enc_hook=sendable).encode


def encode_answer(kind: str, result: Any, codec: Codec | None, *, is_self: bool = False) -> bytes:
    """The body of a 200.

    Raises:
        CodecError: the result cannot be written in this format.
    """
    answer = Answer(None if is_self else result, is_self)
    if kind == OWN:
        assert codec is not None
        return _encode_own(answer, codec)
    try:
        return _encode_json_of_objects(answer) if kind == JSON else _encode_msgpack_of_objects(answer)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CodecError(str(error) or "nested too deeply") from error


def _encode_own(answer: Answer, codec: Codec) -> bytes:
    if type(answer.result) in _PLAIN:
        try:
            return b"\x01" + _encode_msgpack(answer)
        except (OverflowError, ValueError):
            pass  # An int beyond 64 bits, or text that is not valid Unicode: the codec knows what to do.
    return b"\x00" + codec.encode(answer.result)


def unsendable(kind: str, why: str) -> bytes:
    """The body of a 200 for a command that has run, and whose result cannot be written in this format."""
    answer = Answer(unsendable=why)
    if kind == OWN:
        return b"\x01" + _encode_msgpack(answer)
    return _encode_json(answer) if kind == JSON else _encode_msgpack(answer)


def read_answer(kind: str, body: bytes, returns: Any, codec: Codec | None) -> Answer:
    """What ``encode_answer`` wrote. ``returns``: the hint of the result, which plain data is converted to.

    Raises:
        CodecError: it cannot be read.
    """
    try:
        if kind == OWN:
            if codec is None:
                raise CodecError("an answer in perdure's own format came without being asked for")
            if body[:1] == b"\x00":
                return Answer(codec.decode(memoryview(body)[1:]))
            return msgspec.convert(_decode_msgpack(memoryview(body)[1:]), Answer)
        answer = msgspec.convert(_decode_msgpack(body), Answer)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CodecError(f"the answer cannot be read: {error}") from error
    if returns is not Any and not answer.is_self and answer.unsendable is None:
        try:
            answer.result = msgspec.convert(answer.result, returns)
        except msgspec.ValidationError:
            # The hint promises another type than the method returned, and at home nobody would have looked.
            return answer
    return answer


# ---- failures


def encode_failure(kind: str, failure: Failure) -> bytes:
    """The body of every response that is not a 200. perdure's own format has it as MessagePack."""
    return _encode_json(_Failed(failure)) if kind == JSON else _encode_msgpack(_Failed(failure))


def failure_of(error: BaseException, codec: Codec | None) -> Failure:
    """What a method raised. ``codec``: where it is given, the exception itself travels, too."""
    data = None
    if codec is not None:
        try:
            data = codec.encode(error)
        except CodecError:
            data = None
    args = list(error.args) if all(type(item) in _PLAIN for item in error.args) else None
    kind = type(error)
    message = error.message if isinstance(error, PerdureError) else str(error)
    hint = error.hint if isinstance(error, PerdureError) else None
    try:
        _encode_msgpack(args)
    except (OverflowError, ValueError):
        args = None
    return Failure(
        "raised",
        message.encode("utf-8", "backslashreplace").decode()[:_MESSAGE_LENGTH_MAX],
        hint,
        f"{kind.__module__}.{kind.__qualname__}",
        args if data is None else None,
        data,
    )


def read_failure(kind: str, body: bytes) -> Failure:
    """What ``encode_failure`` wrote; something else that answered is described as such."""
    try:
        failed = _decode_failed_json(body) if kind == JSON else _decode_failed_msgpack(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Failure("unknown", body[:200].decode("utf-8", "replace") or "an empty answer")
    return failed.error


def exception_of(failure: Failure, cls: type, codec: Codec | None) -> BaseException:
    """The exception that a method raised, as its own type where that is known here."""
    if failure.data is not None and codec is not None:
        try:
            value = codec.decode(failure.data)
        except CodecError:
            value = None
        if isinstance(value, BaseException):
            return value
    kind = _exception_class(failure.type or "", cls)
    if kind is not None and failure.args is not None:
        try:
            return kind(*failure.args)
        except Exception:
            # Its constructor wants something else than its args, as some do.
            kind = None
    return RejectedError(f"{failure.type}: {failure.message}", hint=failure.hint)


def _exception_class(name: str, cls: type) -> type[BaseException] | None:
    """Only exceptions, of Python itself, of perdure, and of the package of the class; nothing is imported."""
    module, _, short = name.rpartition(".")
    found: Any = None
    if module == "builtins":
        found = getattr(builtins, short, None)
    elif module == "perdure.errors":
        found = getattr(errors, short, None)
    elif module.partition(".")[0] == cls.__module__.partition(".")[0]:
        found = vars(sys.modules[module]).get(short) if module in sys.modules else None
    return found if isinstance(found, type) and issubclass(found, Exception) else None
