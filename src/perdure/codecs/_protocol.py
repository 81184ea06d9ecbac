"""What a codec is, and how a name becomes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from perdure.errors import UsageError


class SupportsRead(Protocol):
    """What ``load`` needs of a file: the three methods that the standard library's unpickler asks for.

    An unbuffered file may return less than asked for before its end; ``seekable``, ``seek`` and ``tell`` are used if
    they are there.
    """

    def read(self, size: int, /) -> bytes: ...
    def readline(self) -> bytes: ...
    def readinto(self, buffer: bytearray | memoryview, /) -> int | None: ...


class SupportsWrite(Protocol):
    """What ``dump`` needs of a file."""

    def write(self, data: bytes, /) -> object: ...


@runtime_checkable
class Codec(Protocol):
    """Value ↔ bytes. Any thread may call any method; a codec keeps nothing between calls.

    Each call stands alone: an object that occurs twice inside *one* value may keep its identity (pickle) or become two
    (JSON, MessagePack), and never shares anything with another call.
    """

    name: str
    """Stands in the files' headers, so that they are never read with another codec: "pickle", "json", "msgpack"."""

    def encode(self, value: object) -> bytes:
        """Bytes from which ``decode`` makes an equal value.

        Raises:
            CodecError: the value, or the part that the message names, cannot be stored; nothing happened.
        """
        ...

    def decode(self, data: bytes | memoryview) -> Any:
        """The one value that ``data``, all of it, holds.

        Raises:
            CodecError: for whatever is wrong with ``data``, and nothing else.
        """
        ...

    def dump(self, value: object, file: SupportsWrite) -> None:
        """Write ``value`` to ``file``, for states too large for ``encode``. An error of ``file`` passes unchanged.

        Raises:
            CodecError: as for ``encode``; part of the value may have been written.
        """
        ...

    def load(self, file: SupportsRead) -> Any:
        """Read one value. An error that ``file`` raises passes unchanged.

        Raises:
            CodecError: as for ``decode``; ``file`` stands anywhere.
        """
        ...


def get_codec(
    codec: str | Codec,
    *,
    package: str | None = None,
    allow: Sequence[str | type] = (),
    renames: Mapping[str, str] | None = None,
) -> Codec:
    """The codec of that name, or the codec itself.

    ``package``, ``allow`` and ``renames`` are those of ``Pickle``. They say nothing to the other codecs, which make no
    instances, and nothing to a codec that is ready made.

    Raises:
        UsageError: no codec has that name.
    """
    # The codecs are imported here because each of them imports the protocol.
    from perdure.codecs._json import Json
    from perdure.codecs._msgpack import MsgPack
    from perdure.codecs._pickle import Pickle

    if codec == "pickle":
        return Pickle(package=package, allow=allow, renames=renames)
    if codec == "json":
        return Json()
    if codec == "msgpack":
        return MsgPack()
    if isinstance(codec, (str, type)) or not isinstance(codec, Codec):
        raise UsageError(
            f"no codec: {codec!r}", hint='codec="pickle", "json", "msgpack", or an object with the methods of Codec'
        )
    return codec
