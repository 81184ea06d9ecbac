"""Opening a system whose log is on an engine."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

from perdure.clock import Clock
from perdure.cluster import ClusterOptions, Node, open_node
from perdure.engines import is_engine_url, parse_url
from perdure.errors import UsageError
from perdure.system._companions import Checker, Shadow
from perdure.system._proxy import make_proxy
from perdure.system._runtime import System
from perdure.system._state import ObjectState
from perdure.system._warnings import ChangedCodeWarning, EngineWarning, warn

TIMEOUT_S = 30.0


class EngineOptions(TypedDict, total=False):
    """The keyword arguments of ``open`` that concern engines. With a directory they are refused.

    ``create``: make the system where there is none; without it opening never makes anything. ``leader``: be the only
    node that writes; ``perdure.control(…).fencing_token`` is what others can be shown. ``require``: "fsync" or
    "fsync-majority": refuse to open unless it is proven that an acknowledged command survives a power cut of the
    server, or of a minority of servers for good. ``snapshots``: where snapshots go if not into the engine, any place
    that fsspec knows. ``timeout``: seconds after which a command without an answer raises, and opening gives up.
    """

    create: bool
    leader: bool
    require: str | None
    snapshots: str | None
    timeout: float


def open_on_engine(
    url: str,
    state: ObjectState,
    initial: Callable[[], Any],
    engine: EngineOptions,
    *,
    snapshot: str | float,
    keep_history: bool,
    read_only: bool,
    rollback: str,
    check: bool,
    clock: Clock | None,
) -> Any:
    """A proxy for a node. Raises like ``perdure.cluster.open_node``."""
    parsed = parse_url(url)
    options = ClusterOptions(
        create=engine.get("create", False),
        leader=engine.get("leader", False),
        require=engine.get("require"),
        snapshots=engine.get("snapshots"),
        timeout_s=_timeout(engine.get("timeout", TIMEOUT_S)),
        snapshot=snapshot,
        keep_history=keep_history,
        read_only=read_only,
        clock=clock,
    )
    if options.leader and read_only:
        raise UsageError('leader=True writes, mode="r" does not')
    node, report = open_node(parsed, state, initial, options)
    try:
        checker = Checker(state) if check else None
        if not read_only:
            node.companion = checker or (Shadow(state) if rollback == "shadow" else None)
        _tell(node, parsed.shown)
        system = System(node, state, path=parsed.shown, report=report, checker=checker)
        # The node's threads know the node, so dropping the proxy alone would not end them.
        weakref.finalize(system, node.close)
        return make_proxy(system)
    except BaseException:
        node.close()
        raise


def _tell(node: Node, url: str) -> None:
    capabilities = node.log.capabilities
    if capabilities.level not in ("fsync", "fsync-majority"):
        warn(f"{url} ({capabilities.server}): {capabilities.durability}", EngineWarning, stacklevel=5)
    if node.other_code:
        warn(
            f"{url}: commands in the log were written by a node with other code; digests tell whether it matters",
            ChangedCodeWarning,
            stacklevel=5,
        )


def _timeout(seconds: object) -> float:
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or seconds <= 0:
        raise UsageError(f"timeout={seconds!r}", hint="seconds")
    return float(seconds)


_ENGINE_NAMES = frozenset(EngineOptions.__annotations__)


def check_engine_options(where: object, engine: Mapping[str, object], refused: Mapping[str, bool]) -> bool:
    """Whether this is an engine's URL. ``refused``: what has no meaning there, and whether it was given.

    Raises ``UsageError`` where options are given that have no meaning for such a place.
    """
    for name in engine:
        if name not in _ENGINE_NAMES:
            raise TypeError(f"open() got an unexpected keyword argument {name!r}")
    if not is_engine_url(where):
        for name, value in engine.items():
            if value:
                raise UsageError(f"{name}= is for engines (nats://…, postgresql://…), and this is a directory")
        return False
    for name, given in refused.items():
        if given:
            raise UsageError(f"{name}= has no meaning on an engine", hint="leave it away")
    return True
