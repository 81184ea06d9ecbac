"""How objects are taken apart for pickling, without what other libraries do to exceptions.

Some libraries (tblib, which Dask imports) replace how every exception of the process is pickled, so that it carries its
traceback and needs that library to be loaded again. What is stored must not depend on what happens to be imported:
exceptions are taken apart by their own ``__reduce_ex__``, everything else as the process says.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Callable
from typing import Any

_registered: dict[type, Callable[[Any], Any]] = copyreg.dispatch_table
_seen = -1
_own: dict[type, Callable[[Any], Any]] | None = None


def dumps(value: object, protocol: int) -> bytes:
    """As ``pickle.dumps``, but exceptions by their own ``__reduce_ex__``."""
    if _own_reducers() is None:
        return pickle.dumps(value, protocol)
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol)
    use_own_reducers(pickler)
    pickler.dump(value)
    return file.getvalue()


def use_own_reducers(pickler: pickle.Pickler) -> None:
    """Make ``pickler`` take exceptions apart by their own ``__reduce_ex__``."""
    own = _own_reducers()
    if own is not None:
        pickler.dispatch_table = own


def _own_reducers() -> dict[type, Callable[[Any], Any]] | None:
    # None when nobody has registered an exception: a table of one's own costs the pickler an error per object.
    # Thread-safe: at worst computed twice.
    global _seen, _own
    length = len(_registered)
    if length != _seen:
        others = {kind: reduce for kind, reduce in list(_registered.items()) if not issubclass(kind, BaseException)}
        _own = None if len(others) == length else others
        _seen = length
    return _own
