"""Items numbered as they come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from perdure.errors import UsageError
from perdure.missing import MISSING, Missing
from perdure.stash._directory import DirectoryStash


@dataclass(eq=False)
class IncrementKeyDirectoryStash(DirectoryStash):
    """A directory of items named "0", "1", "2" and so on: ``dump(value)`` stores under the next number, ``load()``
    gives the newest.

    Of several processes that dump at once each gets a number of its own. ``name``: tells apart the series that share
    a directory.
    """

    pattern: str = ""
    name: str = "data"

    _FIRST: ClassVar[int] = 0

    def __post_init__(self) -> None:
        self.pattern = self.pattern or "{series}-{name}.dat"
        if "{series}" in self.pattern:
            if not self.name.isidentifier():
                raise UsageError(f"name={self.name!r}", hint="letters, digits and underscores")
            self.pattern = self.pattern.replace("{series}", self.name)
        super().__post_init__()

    def keys(self) -> Iterator[str]:
        """The numbers, in order."""
        names = super().keys()
        return iter(sorted((name for name in names if _is_number(name)), key=int))

    def get_last_key(self, inc: bool = False) -> str | None:
        """The newest number, or with ``inc`` the one after it; ``None`` where there is none yet and ``inc`` is not
        given.
        """
        last = max((int(name) for name in DirectoryStash.keys(self) if _is_number(name)), default=None)
        if inc:
            return str(self._FIRST if last is None else last + 1)
        return None if last is None else str(last)

    def load(self, name: str | None = None) -> Any:
        """The value of that number, by default the newest; ``None`` where there is none."""
        if name is None:
            name = self.get_last_key()
        return None if name is None else super().load(name)

    def get(self, name: str | None = None, default: Any = None) -> Any:
        """The value of that number, by default the newest, or ``default``."""
        if name is None:
            name = self.get_last_key()
        return default if name is None else super().get(name, default)

    def dump(self, name: Any, value: Any = MISSING) -> None:
        """Store a value under the next number, or, given two arguments, under that number.

        Raises:
            UsageError: the name is no number.
        """
        if not isinstance(value, Missing):
            if not isinstance(name, str) or not _is_number(name):
                raise UsageError(f"items are named by numbers here, not {name!r}")
            super().dump(name, value)
            return
        while True:
            # Somebody else may have taken the number in between.
            key = self.get_last_key(inc=True)
            assert key is not None
            if self.put_if_absent(key, name):
                return


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and (name == "0" or name[0] != "0")
