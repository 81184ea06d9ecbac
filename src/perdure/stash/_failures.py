"""Layers that turn errors into values and back into absence."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from perdure.errors import CodecError, PerdureError, RecordTooLargeError
from perdure.missing import MISSING
from perdure.stash._base import Stash
from perdure.stash._delegate import DelegateStash
from perdure.stash._failure import Failure

_logger = logging.getLogger(__name__)


@dataclass(eq=False)
class ProtectiveStash(DelegateStash):
    """Where making an item raises, the item is a ``Failure`` instead: as a factory it lets the others be made. Where an
    item cannot be stored, a ``Failure`` is stored in its place; a store that refuses everything raises all the same.

    ``log_errors``: also log them, with their tracebacks.
    """

    log_errors: bool = True

    def load(self, name: str) -> Any:
        """The delegate's value, or a ``Failure``."""
        try:
            return super().load(name)
        except Exception as error:
            # Making an item is the user's code and may raise anything; the error goes on as the value.
            return self._failed(name, error)

    def get(self, name: str, default: Any = None) -> Any:
        """The delegate's value, or ``default``, or a ``Failure``."""
        try:
            return super().get(name, default)
        except Exception as error:
            # As in ``load``.
            return self._failed(name, error)

    def get_many(self, names: Iterable[str]) -> dict[str, Any]:
        """What there is of ``names``, failures among them."""
        return Stash.get_many(self, names)

    def _force(self, name: str) -> Any:
        try:
            return super()._force(name)
        except Exception as error:
            # As in ``load``.
            return self._failed(name, error)

    def dump(self, name: str, value: Any) -> None:
        """Store the value in the delegate, or the ``Failure`` to store it."""
        try:
            super().dump(name, value)
        except Exception as error:
            # Its own pickling may raise anything, and so may a delegate of the user's.
            if isinstance(error, PerdureError) and not isinstance(error, CodecError | RecordTooLargeError):
                raise  # No fault of the value's.
            super().dump(name, self._failed(name, error))

    def _failed(self, name: str, error: Exception) -> Failure:
        if self.log_errors:
            _logger.error("the item %r could not be made or stored", name, exc_info=error)
        return Failure.of(name, error)


@dataclass(eq=False)
class FailureFilterStash(DelegateStash):
    """Shows no ``Failure``: an item that could not be made is absent. Listing the names therefore loads the items."""

    def load(self, name: str) -> Any:
        """The delegate's value; ``None`` where it is a failure."""
        value = super().load(name)
        return None if isinstance(value, Failure) else value

    def get(self, name: str, default: Any = None) -> Any:
        """The delegate's value; ``default`` where it is absent or a failure."""
        value = super().get(name, default)
        return default if isinstance(value, Failure) else value

    def get_many(self, names: Iterable[str]) -> dict[str, Any]:
        """What there is of ``names``, without failures."""
        found = super().get_many(names)
        return {name: value for name, value in found.items() if not isinstance(value, Failure)}

    def exists(self, name: str) -> bool:
        """Whether there is an item that is no failure."""
        return super().exists(name) and not isinstance(super().get(name, MISSING), Failure | type(MISSING))

    def keys(self) -> Iterator[str]:
        """The names of the items that are no failures."""
        names = super().keys()
        return (name for name in names if not isinstance(DelegateStash._force(self, name), Failure))

    def _force(self, name: str) -> Any:
        value = super()._force(name)
        return MISSING if isinstance(value, Failure) else value

    def _stamp(self, name: str) -> object:
        return super()._stamp(name) if self.exists(name) else MISSING

    def __len__(self) -> int:
        return sum(1 for _ in self.keys())

    def clear(self) -> None:
        """Clear the delegate, failures included."""
        super().clear()
