"""MessagePack: plain data in fewer bytes than JSON, with bytes and integer keys."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.codecs._plain import PlainData
from perdure.codecs._protocol import SupportsRead, SupportsWrite
from perdure.errors import CodecError

_PLAIN = PlainData(
    scalars=frozenset({type(None), bool, int, float, str, bytes}),
    keys=frozenset({str, int}),
    finite=False,
    codec="MessagePack",
)


class MsgPack:
    """None, bool, int of 64 bits, float, str, bytes, list, and dict with str or int keys; nothing else, no conversion.

    Two exceptions: a tuple is taken and comes back as a list, and instances of subclasses of list and dict come back as
    list and dict. An object that occurs twice becomes two. ``dump`` and ``load`` hold one encoded copy in memory.
    """

    name: str = "msgpack"

    def __init__(self) -> None:
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder().decode

    def encode(self, value: object) -> bytes:
        """The bytes of one MessagePack object.

        Raises:
            CodecError: a part is not plain data, or an integer is longer than 64 bits; nothing happened.
        """
        try:
            _PLAIN.check(value)
            return self._encode(value)
        except CodecError:
            raise
        except OverflowError as error:
            raise CodecError(
                "MessagePack takes integers from -2**63 to 2**64 - 1", hint='codec="json" takes any'
            ) from error
        except Exception as error:
            raise CodecError(f"cannot be stored as MessagePack: {type(error).__name__}: {error}") from error

    def decode(self, data: bytes | memoryview) -> Any:
        """The value.

        Raises:
            CodecError: not MessagePack, nested too deeply, or not plain (extension types, dates, other keys).
        """
        try:
            value = self._decode(data)
            # MessagePack knows more types than are promised here, dates among them.
            _PLAIN.check(value)
            return value
        except CodecError:
            raise
        except Exception as error:
            raise CodecError(f"not valid MessagePack: {error}") from error

    def dump(self, value: object, file: SupportsWrite) -> None:
        """As ``encode``. What ``file`` raises passes unchanged."""
        file.write(self.encode(value))

    def load(self, file: SupportsRead) -> Any:
        """As ``decode``, of all that remains in ``file``. What ``file`` raises passes unchanged."""
        return self.decode(file.read(-1))
