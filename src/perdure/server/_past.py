"""The system as it was, for the page and for clients: one reconstruction at a time, and the last one kept."""

from __future__ import annotations

import datetime
import threading
from typing import Any

from perdure.system import Control, System, system_of


class Past:
    """Any thread may ask; each blocks, in proportion to the state and to the commands since its last snapshot."""

    def __init__(self, system: System) -> None:
        self._control = Control(system)
        self._lock = threading.Lock()
        self._kept: tuple[int, Any] | None = None

    def at(self, when: int | datetime.datetime) -> tuple[int, Any]:
        """The seq, and the root as it was. Raises like ``Control.at``. Nobody changes what comes back."""
        with self._lock:
            if self._kept is not None and self._kept[0] == when:
                return self._kept
            copy = system_of(self._control.at(when))
            self._kept = copy.engine.seq if isinstance(when, datetime.datetime) else when, copy.state.root
            return self._kept
