"""Making and opening a log by its URL."""

from __future__ import annotations

from perdure.engines._protocol import LEVELS, Blobs, Log
from perdure.engines._url import EngineUrl
from perdure.errors import RejectedError, UsageError

REQUIREMENTS = ("fsync", "fsync-majority")


def create_log(url: EngineUrl, log_id: bytes) -> None:
    """Makes an empty log with this id. Raises ``LockedError`` where there is one, and what connecting raises."""
    if url.engine == "nats":
        from perdure.engines._nats_log import create_nats_log

        create_nats_log(url, log_id)
    else:
        from perdure.engines._postgres_log import create_postgres_log

        create_postgres_log(url, log_id)


def open_log(url: EngineUrl) -> Log:
    """A log that is there; it is never made. Raises ``MissingError`` where it is not, and what connecting raises."""
    if url.engine == "nats":
        from perdure.engines._nats_log import NatsLog

        return NatsLog(url)
    from perdure.engines._postgres_log import PostgresLog

    return PostgresLog(url)


def open_blobs(place: str) -> Blobs:
    """Where snapshots go, if not into the engine: any place that fsspec knows."""
    from perdure.engines._fsspec_blobs import FsspecBlobs

    return FsspecBlobs(place)


def check_requirement(log: Log, require: str | None) -> None:
    """Raises ``RejectedError`` where the engine does not promise as much, or it cannot be proven."""
    if require is None:
        return
    if require not in REQUIREMENTS:
        raise UsageError(f"require={require!r}", hint=f"one of {', '.join(map(repr, REQUIREMENTS))}")
    found = log.capabilities
    if LEVELS.index(found.level) < LEVELS.index(require):
        raise RejectedError(
            f"require={require!r} is not proven: {found.durability}",
            path=log.url,
            hint="see “What each engine promises”",
        )
