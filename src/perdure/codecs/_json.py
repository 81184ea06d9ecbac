"""JSON: plain data that any other program can read, and that can run nothing."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.codecs._plain import PlainData
from perdure.codecs._protocol import SupportsRead, SupportsWrite
from perdure.errors import CodecError
from perdure.limits import NESTING_DEPTH_MAX

_PLAIN = PlainData(
    scalars=frozenset({type(None), bool, int, float, str}), keys=frozenset({str}), finite=True, codec="JSON"
)


class Json:
    """None, bool, int of any size, finite float, str, list, and dict with str keys; nothing else, and no conversion.

    Two exceptions: a tuple is taken and comes back as a list, and instances of subclasses of list and dict come back as
    list and dict. Dataclasses, dates, enumerations, bytes, NaN and infinities are refused. An object that occurs twice
    becomes two. ``dump`` and ``load`` hold one encoded copy in memory.
    """

    name: str = "json"

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder().encode
        self._decode = msgspec.json.Decoder().decode

    def encode(self, value: object) -> bytes:
        """One line of UTF-8 without a newline.

        Raises:
            CodecError: a part is not plain data; nothing happened.
        """
        try:
            _PLAIN.check(value)
            return self._encode(value)
        except CodecError:
            raise
        except Exception as error:
            raise CodecError(f"cannot be stored as JSON: {type(error).__name__}: {error}") from error

    def decode(self, data: bytes | memoryview) -> Any:
        """The value; white space around it is allowed.

        Raises:
            CodecError: not JSON, or nested too deeply.
        """
        try:
            value = self._decode(data)
            if len(data) > NESTING_DEPTH_MAX:
                _refuse_deep(data, value)
            return value
        except CodecError:
            raise
        except Exception as error:
            raise CodecError(f"not valid JSON: {error}") from error

    def dump(self, value: object, file: SupportsWrite) -> None:
        """As ``encode``. What ``file`` raises passes unchanged."""
        file.write(self.encode(value))

    def load(self, file: SupportsRead) -> Any:
        """As ``decode``, of all that remains in ``file``. What ``file`` raises passes unchanged."""
        return self.decode(file.read(-1))


def _refuse_deep(data: bytes | memoryview, value: object) -> None:
    data = bytes(data)
    if data.count(b"[") + data.count(b"{") > NESTING_DEPTH_MAX:
        _PLAIN.check(value)
