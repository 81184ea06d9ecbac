"""Logs on servers that people already run: NATS JetStream and PostgreSQL, one extra each.

``Log`` says what one is, and how it differs from a journal; ``perdure.cluster`` runs systems on it.
"""

from perdure.engines._local import DirectoryBlobs, JournalLog, MemoryBlobs
from perdure.engines._open import REQUIREMENTS, check_requirement, create_log, open_blobs, open_log
from perdure.engines._protocol import (
    ID_BYTES,
    LEVELS,
    Blobs,
    Bounds,
    ConflictError,
    Level,
    Log,
    LogCapabilities,
    LogEntry,
)
from perdure.engines._url import EngineUrl, is_engine_url, parse_url

__all__ = [
    "ID_BYTES",
    "LEVELS",
    "REQUIREMENTS",
    "Blobs",
    "Bounds",
    "ConflictError",
    "DirectoryBlobs",
    "EngineUrl",
    "JournalLog",
    "Level",
    "Log",
    "LogCapabilities",
    "LogEntry",
    "MemoryBlobs",
    "check_requirement",
    "create_log",
    "is_engine_url",
    "open_blobs",
    "open_log",
    "parse_url",
]
