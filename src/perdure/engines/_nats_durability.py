"""What a JetStream server does with an acknowledged entry, as far as it can be told.

A server answers when its share of the replicas has written, and by default syncs only every two minutes: a power cut,
even of one machine of three, then takes acknowledged entries along. Whether ``sync_interval: always`` is set only the
servers' monitoring pages tell: ``monitor=host:8222,…`` in the URL names them.
"""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from perdure.engines._protocol import Level
from perdure.engines._url import EngineUrl

_MONITOR_S = 3.0


def durability_of(config: Any, url: EngineUrl) -> tuple[Level, str]:
    """What is proven, and what is known, in words."""
    replicas = int(config.num_replicas or 1)
    monitors = [host for host in url.options.get("monitor", "").split(",") if host]
    syncing = [_syncs_always(host) for host in monitors]
    if str(config.storage).lower().endswith("memory"):
        return "memory", f"{replicas} replica(s) in memory: nothing survives all of them stopping"
    kept = "1 replica" if replicas == 1 else f"{replicas} replicas, acknowledged by a majority"
    if False in syncing:
        return (
            "replicated" if replicas > 1 else "memory",
            f"{kept}; synced only now and then: a power cut loses acknowledged entries (set sync_interval: always)",
        )
    if syncing.count(True) >= replicas:
        return (
            "fsync-majority" if replicas > 1 else "fsync",
            f"{kept}; synced before it is acknowledged",
        )
    return (
        "replicated" if replicas > 1 else "memory",
        f"{kept}; whether it is synced is not known (name the servers' monitoring ports: ?monitor=host:8222,…)",
    )


def _syncs_always(host: str) -> bool | None:
    """``None`` where the page cannot be read."""
    address = host if "://" in host else f"http://{host}"
    try:
        with urllib.request.urlopen(f"{address}/varz", timeout=_MONITOR_S) as page:
            found = json.loads(page.read())
    except (OSError, ValueError):
        return None
    config = found.get("jetstream", {}).get("config") or {}
    return bool(config.get("sync_always"))
