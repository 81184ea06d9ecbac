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
from perdure.mapping._lines import LinesFraming
from perdure.mapping._lines_snapshots import LinesSnapshotStore
from perdure.mapping._opening import DictPlace, place_of
from perdure.mapping._operations import Operation, apply
from perdure.mapping._state import DictState
from perdure.mapping._tracked_dict import TrackedDict
from perdure.mapping._tracked_list import TrackedList
from perdure.mapping._tracker import ProgressTracker, Tracker
from perdure.mapping._values import values_for

POD = PersistentOrderedDict = PersistentDict

__all__ = [
    "POD",
    "DictPlace",
    "DictState",
    "ImportReport",
    "LinesFraming",
    "LinesSnapshotStore",
    "Operation",
    "PersistentDict",
    "PersistentOrderedDict",
    "ProgressTracker",
    "Skipped",
    "TrackedDict",
    "TrackedList",
    "Tracker",
    "apply",
    "import_diskcache",
    "import_shelve",
    "import_sqlitedict",
    "import_tastypy",
    "place_of",
    "values_for",
]
