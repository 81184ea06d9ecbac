"""What a publisher answers where it gives no feed and no snapshot."""

from __future__ import annotations

from typing import Literal

from perdure.errors import PerdureError

Reason = Literal["malformed", "no-snapshot", "log", "ahead", "diverged", "fenced", "trimmed", "too-many", "closed"]

_STATUS: dict[Reason, int] = {
    "malformed": 400,
    "no-snapshot": 404,
    "log": 409,
    "ahead": 409,
    "diverged": 409,
    "fenced": 409,
    "trimmed": 410,
    "too-many": 503,
    "closed": 503,
}


class FeedRefusedError(PerdureError):
    """``reason`` says why, in one word for programs; ``status`` is the HTTP status for it."""

    def __init__(self, reason: Reason, message: str, *, seq: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, seq=seq, hint=hint)
        self.reason: Reason = reason

    @property
    def status(self) -> int:
        return _STATUS[self.reason]
