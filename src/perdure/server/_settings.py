"""What a server allows its clients."""

from __future__ import annotations

from dataclasses import dataclass

from perdure import limits


@dataclass(frozen=True)
class ServerLimits:
    """Bounds on what clients may ask for; ``perdure.limits`` has the defaults and says what each one is."""

    body_bytes_max: int = limits.SERVER_BODY_BYTES_MAX
    header_bytes_max: int = limits.SERVER_HEADER_BYTES_MAX
    nesting_depth_max: int = limits.SERVER_NESTING_DEPTH_MAX
    calls_max: int = limits.SERVER_CALLS_MAX
    connections_max: int = limits.SERVER_CONNECTIONS_MAX
    receive_timeout_s: float = limits.SERVER_RECEIVE_TIMEOUT_S
    call_timeout_s: float = limits.SERVER_CALL_TIMEOUT_S
    idle_timeout_s: float = limits.SERVER_IDLE_TIMEOUT_S
    stop_timeout_s: float = limits.SERVER_STOP_TIMEOUT_S
