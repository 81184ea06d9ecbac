"""What a machine keeps, and what it needs to know about it."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context
from threading import Lock
from typing import Any, Literal, Protocol

from perdure.codecs import Codec
from perdure.journal import Draft
from perdure.snapshots import Source, Writer

Verdict = Literal["keep", "unchanged", "restore"]
"""What a raising command leaves: its partial changes, nothing (proven), or something that must be undone."""


class State(Protocol):
    """The thing that outlives the process. The machine calls these under its locks, never two at once.

    ``Call`` is whatever ``decode`` makes of a payload; the machine hands it on without looking.
    """

    description: Mapping[str, Any]
    """Codec, class and code fingerprints; written into segments and snapshots."""

    answers: Codec
    """What keeps results and exceptions of requests that may be repeated."""

    def check(self, description: Mapping[str, Any], path: str | None) -> None:
        """Raises ``UsageError`` where files with this description hold something else than this state."""
        ...

    def decode(self, payload: bytes) -> Any:
        """The call that a payload stands for. Raises ``CodecError`` or ``ReplayError``; changes nothing."""
        ...

    def run(self, call: Any) -> Any:
        """Applies a call. Whatever it raises is the command's outcome."""
        ...

    def execute(self, payload: bytes) -> Any:
        """``run(decode(payload))``, as fast as it goes: a replay consists of this."""
        ...

    def verdict(self, call: Any, error: Exception) -> Verdict:
        """What is left of a call that raised ``error``."""
        ...

    def dump(self, file: Writer) -> None:
        """Writes the whole state, in a stream. Raises ``CodecError`` where something in it cannot be stored."""
        ...

    def read(self, file: Source) -> Any:
        """A whole state, read from a stream, not yet taken over. Raises ``CodecError``."""
        ...

    def take_over(self, value: Any) -> None:
        """Makes a value that ``read`` returned the state."""
        ...

    def digest(self, value: Any = None) -> bytes:
        """Of the state, or of a value that ``read`` returned."""
        ...

    @property
    def value(self) -> Any:
        """The state itself."""
        ...


class Companion(Protocol):
    """Something that is kept in step with a machine's state: a second copy to fall back to, or to compare with."""

    def before(self, pending: Pending) -> None:
        """Before a command runs. Must not fail."""
        ...

    def after(self, pending: Pending) -> None:
        """After a command has run, whether or not it raised, and its changes are kept.

        Raises ``PerdureError`` to tell the caller of something wrong; the command has happened all the same.
        """
        ...

    def rolled_back(self) -> None:
        """After the machine itself brought the state back to where it was before the running command."""
        ...

    def replaced(self) -> None:
        """After the state was replaced by a later one."""
        ...

    def roll_back(self) -> bool:
        """Brings the state back to where it was before the running command; ``False`` if it cannot."""
        ...


class Pending(Draft, eq=False):
    """A command between its call and its answer. ``context``, ``done``, ``taken`` and ``wake`` are group commit's."""

    call: Any = None
    error: BaseException | None = None
    result: Any = None
    context: Context | None = None
    done: bool = False
    taken: bool = False
    wake: Lock | None = None
