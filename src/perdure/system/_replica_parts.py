"""What a replica of a system is made of, from the arguments that ``open`` takes, too."""

from __future__ import annotations

import os
from typing import Any

from perdure.clock import SystemClock
from perdure.codecs import get_codec
from perdure.errors import UsageError
from perdure.fs import Fs
from perdure.machine import Machine, Place, RecoveryReport
from perdure.system import _builtins
from perdure.system._determinism import check_class
from perdure.system._lag import Replica
from perdure.system._open import OpenOptions, package_of, secrets_of
from perdure.system._proxy import make_proxy, tied
from perdure.system._runtime import System
from perdure.system._state import ObjectState

_OPTIONS = frozenset("durability codec allow snapshot keep_history validate secret renames clock fs".split())


def replica_parts(cls: type, where: str | os.PathLike[str] | None, options: OpenOptions) -> tuple[ObjectState, Place]:
    """An empty state, and how its files are kept. ``where``: ``None`` for nowhere.

    Raises:
        UsageError: the arguments do not make sense. NotDeterministicError: as ``open`` does.
    """
    if not isinstance(cls, type):
        raise UsageError(f"a replica is made from the class, not from {cls!r}")
    for name in options:
        if name not in _OPTIONS:
            raise UsageError(f"{name}= means nothing to a replica", hint=f"one of {', '.join(sorted(_OPTIONS))}")
    durability = options.get("durability", "always")
    validate = options.get("validate", "error")
    snapshot = options.get("snapshot", "auto")
    if cls not in _builtins.TYPES:
        check_class(cls, validate=validate, stacklevel=4)
    renames = options.get("renames")
    allow = (*options.get("allow", ()), SystemClock, cls)
    codec = get_codec(options.get("codec", "pickle"), package=package_of(cls), allow=allow, renames=renames)
    place = Place(
        None if where is None else os.path.abspath(os.fspath(where)),
        durability,
        snapshot,
        options.get("keep_history", False),
        secrets_of(options.get("secret")),
        options.get("clock"),
        options.get("fs") or Fs(),
    )
    return ObjectState(cls, codec, renames=renames), place


def replica_proxy(machine: Machine, state: ObjectState, report: RecoveryReport, replica: Replica) -> Any:
    """The proxy of a replica."""
    return make_proxy(System(machine, state, path=machine.path, report=report, replica=replica))


def rebind(proxy: Any, machine: Machine, state: ObjectState, report: RecoveryReport, replica: Replica) -> None:
    """Makes the proxy of a closed system with the same state object that of a replica."""
    tied(proxy, System(machine, state, path=machine.path, report=report, replica=replica))
