"""The spelling of coopy: ``init_persistent_system``."""

from __future__ import annotations

import os
import weakref
from typing import Any, TypeVar, overload

from perdure.errors import UsageError
from perdure.system._open import open as _open
from perdure.system._proxy import system_of

T = TypeVar("T")

_open_here: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


@overload
def init_persistent_system(obj: type[T], basedir: str | os.PathLike[str] | None = None) -> T: ...
@overload
def init_persistent_system(obj: T, basedir: str | os.PathLike[str] | None = None) -> T: ...
def init_persistent_system(obj: Any, basedir: str | os.PathLike[str] | None = None) -> Any:
    """``open(obj, basedir)``. Called again for a directory that this process has open this way, it gives the same
    system.

    Raises what ``open`` raises.
    """
    cls = obj if isinstance(obj, type) else type(obj)
    path = os.path.realpath(cls.__name__.lower() if basedir is None else os.fspath(basedir))
    present: Any = _open_here.get(path)
    if present is not None and not system_of(present).engine.closed:
        if not issubclass(type(present._perdure_root), cls):
            raise UsageError(f"this process has a {type(present).__name__} open there", path=path)
        return present
    proxy: Any = _open(obj, path)
    _open_here[path] = proxy
    return proxy
