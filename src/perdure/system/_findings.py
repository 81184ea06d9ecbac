"""What the reading of a class finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ._warnings import PerdureWarning

Severity = Literal["error", "warning"]


class DeterminismWarning(PerdureWarning):
    """A method may not replay to the same state. The message gives the place, the call and what to use instead."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing in one place that would or may differ at replay.

    ``rule``: clock, randomness, generator, async, io, environment, identity, hash, set-order, background, global,
    cache, unread.
    ``method``: the command that leads there, as ``Wiki.create_page``. ``what``: what is done, ``replacement``: what
    to do instead, both as they stand in messages.
    """

    severity: Severity
    rule: str
    method: str
    file: str
    line: int
    what: str
    replacement: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.method}: {self.what}; {self.replacement}"
