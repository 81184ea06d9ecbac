"""Snapshots: whole states, each at a seq, that bound how much has to be replayed.

``SnapshotStore`` says what a store of them is; ``FileSnapshotStore`` keeps one file each, ``MemorySnapshotStore`` a
dict.
"""

from perdure.snapshots._files import FileSnapshotStore, snapshot_name
from perdure.snapshots._format import SnapshotReader
from perdure.snapshots._memory import MemorySnapshotStore
from perdure.snapshots._protocol import Digest, Dump, Snapshot, SnapshotHeader, SnapshotStore, Source, Writer
from perdure.snapshots._transfer import SnapshotBytes, receive, send

__all__ = [
    "Digest",
    "Dump",
    "FileSnapshotStore",
    "MemorySnapshotStore",
    "Snapshot",
    "SnapshotBytes",
    "SnapshotHeader",
    "SnapshotReader",
    "SnapshotStore",
    "Source",
    "Writer",
    "receive",
    "send",
    "snapshot_name",
]
