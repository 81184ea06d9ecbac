"""The spelling of coopy and copycat: ``init_persistent_system`` and ``init_system``."""

from __future__ import annotations

import os
import weakref
from typing import Any, TypedDict, TypeVar, Unpack, overload

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


class SystemOptions(TypedDict, total=False):
    """The keyword arguments of ``init_system``."""

    snapshot_time: float
    master: bool
    replication: bool
    port: int
    host: str
    password: str | None


@overload
def init_system(obj: type[T], basedir: str | os.PathLike[str] | None = None, **options: Unpack[SystemOptions]) -> T: ...
@overload
def init_system(obj: T, basedir: str | os.PathLike[str] | None = None, **options: Unpack[SystemOptions]) -> T: ...
def init_system(
    obj: Any,
    basedir: str | os.PathLike[str] | None = None,
    snapshot_time: float = 0,
    master: bool = False,
    replication: bool = False,
    port: int = 5466,
    host: str = "127.0.0.1",
    password: str | None = None,
) -> Any:
    """Like ``init_persistent_system``; ``snapshot_time``: seconds between two snapshots, 0 for automatic ones.

    Raises:
        UsageError: ``master`` or ``replication`` were asked for, which are not part of this version.
        and what ``open`` raises.
    """
    if master or replication:
        raise UsageError(
            "replication is not part of this version", hint="mode='r' reads beside a writer on one machine"
        )
    proxy = init_persistent_system(obj, basedir)
    machine = system_of(proxy).machine
    if snapshot_time and machine is not None:
        machine.set_snapshot_interval(snapshot_time)
    return proxy
