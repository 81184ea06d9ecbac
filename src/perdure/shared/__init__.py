"""Dicts, lists of jobs and systems that many processes use at once, without a server to start.

The first process that opens a directory owns it and serves the others over a socket beside the files; when it ends,
another one takes over.
"""

from perdure.shared._containers import SharedDict, SharedList
from perdure.shared._dict import SharedPersistentDict
from perdure.shared._system import SharedControl, open_shared
from perdure.shared._tracker import SharedTracker

SharedPOD = SharedPersistentOrderedDict = SharedPersistentDict
SharedProgressTracker = SharedTracker

__all__ = [
    "SharedControl",
    "SharedDict",
    "SharedList",
    "SharedPOD",
    "SharedPersistentDict",
    "SharedPersistentOrderedDict",
    "SharedProgressTracker",
    "SharedTracker",
    "open_shared",
]
