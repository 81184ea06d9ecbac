"""The machine: state + journal + snapshots.

A prevalent system, a persistent dict and a follower differ only in their ``State``; recovery, group commit and
snapshots are here, once.
"""

from perdure.machine._answers import name_of, store_error, store_result
from perdure.machine._forked import BoundedWriter, Child, TooLargeError, can_fork, fork_writer
from perdure.machine._machine import Machine
from perdure.machine._opening import QUARANTINE_DIRECTORY, Place, Progress, RecoveryReport, load_snapshot, open_machine
from perdure.machine._outcomes import Outcome, outcomes_in, read_outcome
from perdure.machine._receipts import Receipts
from perdure.machine._refusing import Refusing
from perdure.machine._replay import INTERRUPTING, collector_off, replay
from perdure.machine._state import Companion, Pending, State, Verdict

__all__ = [
    "INTERRUPTING",
    "QUARANTINE_DIRECTORY",
    "BoundedWriter",
    "Child",
    "Companion",
    "Machine",
    "Outcome",
    "Pending",
    "Place",
    "Progress",
    "Receipts",
    "RecoveryReport",
    "Refusing",
    "State",
    "TooLargeError",
    "Verdict",
    "can_fork",
    "collector_off",
    "fork_writer",
    "load_snapshot",
    "name_of",
    "open_machine",
    "outcomes_in",
    "read_outcome",
    "replay",
    "store_error",
    "store_result",
]
