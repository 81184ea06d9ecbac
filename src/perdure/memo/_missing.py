"""The sign for "there is no value", because ``None`` is one."""

from __future__ import annotations

import enum
from typing import Final


class Missing(enum.Enum):
    """The type of ``MISSING``, which is its only member: ``value is MISSING`` narrows types."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"

    __str__ = __repr__


MISSING: Final = Missing.MISSING
