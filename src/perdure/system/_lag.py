"""What stands behind the proxy of a replica, beside its machine."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Lag(NamedTuple):
    """How far a replica is behind its primary.

    ``entries``: those that it has heard of and not applied; ``None`` before it has heard of any. ``seconds``: how old
    the state may be: since the primary was last heard, and where entries are missing, since the last one was called.
    ``connected``: whether a feed is open.
    """

    entries: int | None
    seconds: float | None
    connected: bool


class Replica(Protocol):
    """What keeps a replica in step."""

    def lag(self) -> Lag: ...

    def promote(self, where: str | None) -> str | None:
        """See ``Control.promote``; returns the directory."""
        ...

    def stop(self) -> None:
        """Returns when nothing is followed any more. Idempotent."""
        ...
