"""Warnings of systems."""

from __future__ import annotations

import warnings


class PerdureWarning(UserWarning):
    """Something that works and deserves a look."""


class ChangedCodeWarning(PerdureWarning):
    """Commands were replayed with code that is not the one that journaled them."""


def warn(message: str, category: type[Warning], *, stacklevel: int) -> None:
    warnings.warn(message, category, stacklevel=stacklevel + 1)
