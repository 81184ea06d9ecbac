"""What stashes on servers have in common: a connection per process, and one border for foreign errors."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from perdure.errors import (
    OutcomeUnknownError,
    RejectedError,
    RemoteError,
    UnauthorizedError,
    UnreachableError,
)
from perdure.stash._closeable import CloseableStash
from perdure.stash._coded import CodedStash

Result = TypeVar("Result")


@dataclass(eq=False)
class RemoteStash(CodedStash, CloseableStash):
    """A stash behind a connection that is made at the first use, once in each process, and made anew when it breaks."""

    _transient: ClassVar[frozenset[str]] = CodedStash._transient | {"_connected", "_connection_lock", "_pid"}

    def _reset(self) -> None:
        super()._reset()
        self._connected: Any = None
        self._connection_lock = threading.RLock()
        self._pid = 0

    @property
    def _connection(self) -> Any:
        if self._connected is not None and self._pid == os.getpid():
            return self._connected
        with self._connection_lock:
            if self._connected is None or self._pid != os.getpid():
                # A forked child leaves its parent's connection alone: two processes on one socket read each other's
                # answers.
                self._connected = self._connect()
                self._pid = os.getpid()
            return self._connected

    @abstractmethod
    def _connect(self) -> Any:
        """Make the connection."""

    @abstractmethod
    def _disconnect(self, connection: Any) -> None:
        """Let it go."""

    def close(self) -> None:
        """Close the connection. The next call makes a new one."""
        with self._connection_lock:
            connection, self._connected = self._connected, None
            if connection is not None and self._pid == os.getpid():
                self._disconnect(connection)

    @property
    def reaches_workers(self) -> bool:
        """Yes: the server is there for every process."""
        return True


def remote_error(kind: str, what: str, where: str, error: BaseException) -> RemoteError:
    """``kind``: "unreachable", "unknown", "unauthorized" or "rejected"."""
    said = " ".join(str(error).split())[:300] or type(error).__name__
    kinds: Mapping[str, tuple[Callable[..., RemoteError], str, str]] = {
        "unreachable": (UnreachableError, "nobody answers", "is the server running? Try again when it is"),
        "unknown": (OutcomeUnknownError, "no answer came in time", "try again: storing an item twice is harmless"),
        "unauthorized": (UnauthorizedError, "the server wants other credentials", "check user and password or keys"),
        "rejected": (RejectedError, "the server refused", ""),
    }
    make, message, hint = kinds[kind]
    return make(f"{what}: {message}: {said}", path=where, hint=hint or None)
