"""Dicts and lists of jobs that outlive the process.

``PersistentDict`` is a dict whose changes, at any depth, stand in a journal of readable lines; ``Tracker`` is one whose
values are jobs, handed to workers and worked off.
"""

from perdure.mapping._dict import PersistentDict
from perdure.mapping._importers import (
    ImportReport,
    Skipped,
    import_diskcache,
    import_shelve,
    import_sqlitedict,
    import_tastypy,
)
from perdure.mapping._keys import Key
from perdure.mapping._leases import is_gone, worker_id
from perdure.mapping._lines import LinesFraming
from perdure.mapping._lines_snapshots import LinesSnapshotStore, WrongLineError
from perdure.mapping._opened import Request
from perdure.mapping._opening import DictPlace, place_of
from perdure.mapping._operations import (
    OPERATIONS_IN_PLACE,
    OPERATIONS_OF_DICTS,
    OPERATIONS_OF_LISTS,
    Operation,
    apply,
)
from perdure.mapping._place import path_of, resolve
from perdure.mapping._progress import Progress
from perdure.mapping._recorder import Recorder
from perdure.mapping._state import DictState
from perdure.mapping._steps import apply_steps, steps_of
from perdure.mapping._tracked_dict import TrackedDict
from perdure.mapping._tracked_list import TrackedList
from perdure.mapping._tracker import LEASE_S, ProgressTracker, Tracker, filled_in
from perdure.mapping._values import adopt, decode_json, encode_json, values_for

POD = PersistentOrderedDict = PersistentDict

__all__ = [
    "LEASE_S",
    "OPERATIONS_IN_PLACE",
    "OPERATIONS_OF_DICTS",
    "OPERATIONS_OF_LISTS",
    "POD",
    "DictPlace",
    "DictState",
    "ImportReport",
    "Key",
    "LinesFraming",
    "LinesSnapshotStore",
    "Operation",
    "PersistentDict",
    "PersistentOrderedDict",
    "Progress",
    "ProgressTracker",
    "Recorder",
    "Request",
    "Skipped",
    "TrackedDict",
    "TrackedList",
    "Tracker",
    "WrongLineError",
    "adopt",
    "apply",
    "apply_steps",
    "decode_json",
    "encode_json",
    "filled_in",
    "import_diskcache",
    "import_shelve",
    "import_sqlitedict",
    "import_tastypy",
    "is_gone",
    "path_of",
    "place_of",
    "resolve",
    "steps_of",
    "values_for",
    "worker_id",
]
