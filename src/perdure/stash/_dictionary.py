"""Items in memory."""

from __future__ import annotations

import secrets
import threading
from collections.abc import KeysView
from dataclasses import dataclass, field
from typing import Any, ClassVar

from perdure.missing import MISSING
from perdure.stash._base import Stash, check_name


@dataclass(eq=False)
class DictionaryStash(Stash):
    """Items in a dict: as long as the process lives, and the objects themselves, not copies.

    ``_data``: the dict to use, which stays yours. Threads may share the stash.
    """

    _data: dict[str, Any] | None = field(default=None, repr=False)

    _transient: ClassVar[frozenset[str]] = frozenset({"_lock"})

    def __post_init__(self) -> None:
        if self._data is None:
            self._data = {}
        super().__post_init__()

    def _reset(self) -> None:
        self._lock = threading.RLock()

    @property
    def data(self) -> dict[str, Any]:
        """The dict itself."""
        assert self._data is not None
        return self._data

    def load(self, name: str) -> Any:
        """The object that was stored; ``None`` where there is none."""
        return self.data.get(check_name(name))

    def get(self, name: str, default: Any = None) -> Any:
        """The object that was stored, or ``default``."""
        return self.data.get(check_name(name), default)

    def exists(self, name: str) -> bool:
        """Whether the dict has it."""
        return check_name(name) in self.data

    def dump(self, name: str, value: Any) -> None:
        """Keep this very object."""
        with self._lock:
            self.data[check_name(name)] = value

    def put_if_absent(self, name: str, value: Any) -> bool:
        """Store it unless there is an item of that name; whether it was stored. Of many threads one wins."""
        with self._lock:
            if name in self.data:
                return False
            self.dump(name, value)
            return True

    def delete(self, name: str | None = None) -> None:
        """Forget it, or all."""
        if name is None:
            self.clear()
        else:
            self.data.pop(check_name(name), None)

    def clear(self) -> None:
        """Empty the dict."""
        self.set_fill_mark(None)
        self.data.clear()

    def keys(self) -> KeysView[str]:
        """The names as they are now, in the order in which they came."""
        return dict.fromkeys(tuple(self.data)).keys()

    def __len__(self) -> int:
        return len(self.data)

    def _stamp(self, name: str) -> object:
        value = self.data.get(name, MISSING)
        # Whoever remembers the stamp keeps the object, so no other takes its place in memory.
        return value if value is MISSING else f"{_SESSION}-{id(value)}"


_SESSION = secrets.token_hex(8)
