"""The sign for "there is no value", because ``None`` is a value."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Missing(Enum):
    """The type of ``MISSING``, its only member: it survives pickling, and ``value is MISSING`` narrows types."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"

    __str__ = __repr__


MISSING: Final = Missing.MISSING
"""Stands where there is nothing. ``None`` is a value like any other."""
