"""What a program did to its files, as far as a power cut cares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

Kind = Literal[
    "create", "write", "truncate", "rename", "link", "unlink", "mkdir", "rmdir", "sync", "sync_names", "promise"
]


class Event(NamedTuple):
    """One step. Paths are relative to the directory under test, which is ``""`` itself.

    ``offset``: of a write; ``None`` at the end of the file. ``size_bytes``: what a truncation leaves. ``acknowledged``
    and ``tried``: of a promise, which is no file operation but what the program said at this point.
    """

    kind: Kind
    path: str = ""
    target: str = ""
    offset: int | None = None
    data: bytes = b""
    size_bytes: int = 0
    acknowledged: int = 0
    tried: int = 0

    def __str__(self) -> str:
        if self.kind == "promise":
            return f"promise: {self.acknowledged} acknowledged, {self.tried} tried"
        text = f"{self.kind} {self.path or '.'}"
        if self.kind == "write":
            return f"{text}, {len(self.data)} bytes" + ("" if self.offset is None else f" at {self.offset}")
        if self.kind == "truncate":
            return f"{text} to {self.size_bytes} bytes"
        return f"{text} → {self.target}" if self.target else text


class Log:
    """Where a workload says what it promised. Operations are counted from 1, in the order in which they are tried.

    Each call is a moment in the recording: power may fail before it and after it.
    """

    def __init__(
        self,
        events: list[Event],
        acknowledged: int = 0,
        tried: int = 0,
        *,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """``before``: called before each note, to bring ``events`` up to date."""
        self._events = events
        self._before = before
        self._acknowledged = acknowledged
        self._tried = tried

    def tried(self, count: int) -> None:
        """The first ``count`` operations may leave traces from now on. Say it before trying.

        A smaller number than before withdraws: what was refused must leave no trace from now on.
        """
        self._tried = count
        self._note()

    def acknowledged(self, count: int) -> None:
        """The first ``count`` operations survive everything from now on. Say it after the call that promises it."""
        self._acknowledged = max(self._acknowledged, count)
        self._note()

    def _note(self) -> None:
        self._before()
        self._events.append(Event("promise", acknowledged=self._acknowledged, tried=self._tried))
