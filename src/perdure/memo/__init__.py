"""Results that are expensive to compute: computed once, and kept.

``@persisted`` keeps the result of a method, on its instance, for all instances of the class, in a file; ``@memo`` keeps
the results of a function by its arguments, in a directory that many processes may share. ``PersistableContainer`` makes
instances carry their results when they are pickled, ``Deallocatable`` and its company give back what results hold.
"""

from perdure.errors import PersistableError
from perdure.memo._container import PersistableContainer
from perdure.memo._dealloc import Deallocatable, dealloc, dealloc_recursive, resource
from perdure.memo._function import BoundMemo, Memo, MemoInfo
from perdure.memo._memo import memo
from perdure.memo._persisted import persisted
from perdure.memo._warnings import MemoWarning
from perdure.memo._work import PersistedWork
from perdure.missing import MISSING

__all__ = [
    "MISSING",
    "BoundMemo",
    "Deallocatable",
    "Memo",
    "MemoInfo",
    "MemoWarning",
    "PersistableContainer",
    "PersistableError",
    "PersistedWork",
    "dealloc",
    "dealloc_recursive",
    "memo",
    "persisted",
    "resource",
]

# `perdure.memo` is this package and the decorator: after `import perdure.memo` Python finds the decorator there.
vars(memo).update({name: globals()[name] for name in __all__ if name != "memo"})
