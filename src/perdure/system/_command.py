"""One call ↔ the payload of its entry.

A payload is one of two things, told apart by its first byte. A *plain* call, whose arguments are all of None, bool,
int of 64 bits, float, str and bytes, is the same under every codec: the MessagePack array ``[method, [arguments]]`` or
``[method, [arguments], {keywords}]``. It is immutable, so it needs no decoding before it runs. Any other call is a
zero byte and then the codec's bytes of ``(method, arguments, keywords)``.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from perdure.codecs import Codec
from perdure.errors import CodecError

_PLAIN_TYPES = frozenset({type(None), bool, int, float, str, bytes})
_CODEC_MARK = 0
_DATA_HINT = "what a command is given must be data; keep open files, functions and the like outside of the system"
_encode_plain = msgspec.msgpack.Encoder().encode
decode_plain = msgspec.msgpack.Decoder().decode
PLAIN_WITHOUT_KEYWORDS = 0x92  # MessagePack's array of two.

Arguments = tuple[Any, ...]
Keywords = dict[str, Any]


@dataclass(frozen=True)
class Command:
    """A command as it stands in the journal.

    ``at``: when, aware, in UTC. ``outcome``: "returned", "raised" (its changes stay), "aborted" or "interrupted" (it
    left nothing). ``error``: the exception's type, where there was one.
    """

    seq: int
    at: datetime.datetime
    method: str
    args: Arguments = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    outcome: str = "returned"
    error: str | None = None


def encode_command(codec: Codec, method: str, args: Arguments, kwargs: Keywords) -> tuple[bytes, Arguments, Keywords]:
    """The payload of a call, and the arguments to run it with: those that a replay will see.

    Raises:
        CodecError: an argument cannot be stored; the message names it. Nothing has happened.
    """
    for value in args:
        if type(value) not in _PLAIN_TYPES:
            break
    else:
        try:
            if not kwargs:
                return _encode_plain((method, args)), args, kwargs
            if all(type(value) in _PLAIN_TYPES for value in kwargs.values()):
                return _encode_plain((method, args, kwargs)), args, kwargs
        except (OverflowError, UnicodeEncodeError):
            pass  # An int beyond 64 bits, or text that is not valid Unicode: the codec may know what to do.
    try:
        data = codec.encode((method, args, kwargs))
    except CodecError as error:
        raise _named(error, codec, method, args, kwargs) from error
    # What runs is decoded from the journaled bytes, so that what runs now is what will run at replay; and the caller's
    # list stays the caller's.
    _, decoded_args, decoded_kwargs = codec.decode(data)
    return b"\x00" + data, tuple(decoded_args), decoded_kwargs


def decode_command(codec: Codec, payload: bytes) -> tuple[str, Arguments, Keywords]:
    """The call that a payload stands for.

    Raises:
        CodecError: the payload holds no call, or something that is not allowed.
    """
    try:
        if payload[0] == _CODEC_MARK:
            method, args, kwargs = codec.decode(payload[1:])
        else:
            parts = decode_plain(payload)
            method, args = parts[0], parts[1]
            kwargs = parts[2] if len(parts) > 2 else {}
        if type(method) is not str or type(kwargs) is not dict:
            raise TypeError("not a method's name and arguments")
        return method, tuple(args), kwargs
    except CodecError:
        raise
    except (msgspec.DecodeError, TypeError, ValueError, IndexError, KeyError, RecursionError) as error:
        raise CodecError(f"an entry does not hold a call: {error}") from error


def _named(error: CodecError, codec: Codec, method: str, args: Arguments, kwargs: Keywords) -> CodecError:
    """The same error, saying which argument it is about."""
    named = {f"argument {position}": value for position, value in enumerate(args, 1)}
    named |= {f"argument {name}=": value for name, value in kwargs.items()}
    for name, value in named.items():
        try:
            codec.encode(value)
        except CodecError as own:
            return CodecError(f"{method}(): {name}: {own.message}", hint=own.hint or _DATA_HINT)
    return CodecError(f"{method}(): {error.message}", hint=error.hint or _DATA_HINT)
