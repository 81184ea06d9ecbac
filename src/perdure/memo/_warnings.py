"""Warnings of stored results: something was wrong with them, and the result is right all the same."""

from __future__ import annotations

import os
import sys
import warnings

from perdure.system import PerdureWarning

_HERE = os.path.dirname(os.path.abspath(__file__))


class MemoWarning(PerdureWarning):
    """A stored result could not be used or not be stored, or was computed by other code."""


def warn(message: str) -> None:
    """Warn at the line of the first caller outside this package."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and os.path.dirname(os.path.abspath(frame.f_code.co_filename)) == _HERE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, MemoWarning, stacklevel=level)
