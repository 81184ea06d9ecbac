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
from perdure.machine._replica import ReplicaMachine
from perdure.machine._replica_opening import (
    clear_unused,
    create_replica,
    has_snapshot,
    load_received,
    open_replica,
    open_replica_in_memory,
)
from perdure.machine._role import ROLE_NAME, fenced, term_of
from perdure.machine._state import Companion, Pending, State, Verdict

__all__ = [
    "INTERRUPTING",
    "QUARANTINE_DIRECTORY",
    "ROLE_NAME",
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
    "ReplicaMachine",
    "State",
    "TooLargeError",
    "Verdict",
    "can_fork",
    "clear_unused",
    "collector_off",
    "create_replica",
    "fenced",
    "fork_writer",
    "has_snapshot",
    "load_received",
    "load_snapshot",
    "name_of",
    "open_machine",
    "open_replica",
    "open_replica_in_memory",
    "outcomes_in",
    "read_outcome",
    "replay",
    "store_error",
    "store_result",
    "term_of",
]
