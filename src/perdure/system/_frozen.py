"""A state that does not move any more, as an engine behind a proxy."""

from __future__ import annotations

import threading
from typing import Any

from perdure.clock import Moment
from perdure.errors import ClosedError
from perdure.journal import Journal
from perdure.machine import Outcome, Refusing
from perdure.snapshots import SnapshotStore


class Frozen:
    """The engine of a system as it was at a seq: queries, no commands, nothing to close."""

    def __init__(
        self, seq: int, path: str | None, journal: Journal, snapshots: SnapshotStore, owed: dict[int, Outcome]
    ) -> None:
        """``owed``: outcomes that are not in the journal yet."""
        self.lock: Any = threading.RLock()
        self.seq = seq
        self.durable_seq = seq
        self.closed = False
        self.moment = Moment(journal.log_id)
        self.journal = journal
        self.snapshots = snapshots
        self._path = path
        self._owed = owed

    def known_outcomes(self) -> tuple[int, dict[int, Outcome]]:
        """The seq, and the outcomes that may be missing in the journal."""
        return self.seq, self._owed

    def close(self) -> None:
        self.closed = True
        self.lock = Refusing(ClosedError("it was closed", path=self._path, hint="open it again"))
