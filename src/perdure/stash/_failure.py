"""What stands where a value would be, had making it not failed."""

from __future__ import annotations

import traceback as traceback_module
from dataclasses import dataclass

from perdure.errors import PersistableError


@dataclass(frozen=True)
class Failure:
    """A value that could not be made: plain text, so that every stash and every process can hold it.

    ``name``: the item's. ``kind``: the exception's class, as "module.Class". ``message``: what it said.
    ``traceback``: its text, as Python would have printed it where it happened.
    """

    name: str
    kind: str
    message: str
    traceback: str = ""

    @classmethod
    def of(cls, name: str, error: BaseException) -> Failure:
        """The failure to make the item ``name`` that ``error`` tells of."""
        kind = type(error)
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        text = "".join(traceback_module.format_exception(error))
        return cls(_clean(name), _clean(module + kind.__qualname__), _clean(_message_of(error)), _clean(text))

    def rethrow(self) -> None:
        """Raise ``PersistableError`` with what is known. The exception itself stayed in the process where it
        happened.
        """
        raise PersistableError(
            f"making {self.name!r} failed with {self.kind}: {self.message}",
            hint="its traceback there:\n" + self.traceback if self.traceback else None,
        )

    def __str__(self) -> str:
        return f"{self.name!r}: {self.kind}: {self.message}"


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # The exception's class is the user's, and so is its __str__.
        return f"(it cannot say: {type(second).__name__})"


def _clean(text: str) -> str:
    # Lone surrogates cannot be stored by every codec and database.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
