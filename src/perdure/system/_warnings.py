"""Warnings of systems."""

from __future__ import annotations

import warnings


class PerdureWarning(UserWarning):
    """Something that works and deserves a look."""


class ChangedCodeWarning(PerdureWarning):
    """Commands were replayed with code that is not the one that journaled them."""


class EngineWarning(PerdureWarning):
    """An engine does not promise, or cannot be proven to promise, that acknowledged commands survive a power cut."""


def warn(message: str, category: type[Warning], *, stacklevel: int) -> None:
    warnings.warn(message, category, stacklevel=stacklevel + 1)
