"""What all stashes have in common that turn values into bytes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, ClassVar

from perdure.codecs import Codec, get_codec
from perdure.errors import CodecError
from perdure.stash._base import Stash
from perdure.stash._failure import Failure


@dataclass(eq=False)
class CodedStash(Stash):
    """A stash whose values are bytes somewhere.

    ``codec``: "pickle" (restricted: see ``perdure.codecs``), "json", "msgpack", or a ``Codec``. ``allow``: packages or
    classes that values may contain besides value types and the classes of ``package``, which is the top-level package
    of the code that made the stash unless it is given.
    """

    codec: str | Codec = field(default="pickle", kw_only=True)
    allow: Sequence[str | type] = field(default=(), kw_only=True)
    package: str | None = field(default=None, kw_only=True, repr=False)

    _transient: ClassVar[frozenset[str]] = frozenset({"_ready_codec"})
    _ready_codec: ClassVar[Codec | None] = None

    def __post_init__(self) -> None:
        if self.package is None:
            self.package = package_of_caller()
        super().__post_init__()

    @property
    def _codec(self) -> Codec:
        ready = self._ready_codec
        if ready is None:
            # A failure is stored in the place of a value, so it is always allowed.
            ready = get_codec(self.codec, package=self.package, allow=(*self.allow, Failure))
            vars(self)["_ready_codec"] = ready
        return ready

    def _encode(self, name: str, value: Any) -> bytes:
        try:
            return self._codec.encode(value)
        except CodecError as error:
            raise CodecError(f"the item {name!r} cannot be stored: {error.message}", hint=error.hint) from error

    def _decode(self, name: str, data: bytes | memoryview, where: str) -> Any:
        try:
            return self._codec.decode(data)
        except CodecError as error:
            raise CodecError(
                f"the item {name!r} cannot be loaded: {error.message}", path=where, offset=error.offset, hint=error.hint
            ) from error


def package_of_caller() -> str | None:
    """The top-level package of the nearest caller outside perdure and the standard library's helpers."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        package = str(module).partition(".")[0]
        if package not in ("perdure", "dataclasses", "functools", "contextlib", "copy", ""):
            return package
        frame = frame.f_back
    return None
