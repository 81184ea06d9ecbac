"""Snapshots that live and die with the process."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeVar

from perdure.errors import CodecError
from perdure.snapshots._protocol import Digest, Dump, Snapshot, SnapshotHeader, Source

Value = TypeVar("Value")


class MemorySnapshotStore:
    """The ``SnapshotStore`` protocol on a dict. A forked child cannot write into it: use it with inline writing."""

    survives_fork = False

    def __init__(self) -> None:
        self._drafts: dict[str, tuple[bytes, bytes]] = {}
        self._published: dict[int, tuple[Snapshot, bytes, bytes]] = {}

    def write(self, header: SnapshotHeader, dump: Dump, digest: Digest, prove: Callable[[Source], bytes]) -> str:
        content = io.BytesIO()
        dump(content)
        expected = digest()
        content.seek(0)
        if prove(content) != expected:
            raise CodecError("the state does not come back as it was stored", seq=header.seq)
        draft = f"draft-{header.seq}"
        self._drafts[draft] = content.getvalue(), expected
        return draft

    def publish(self, draft: str, header: SnapshotHeader) -> Snapshot:
        content, digest = self._drafts.pop(draft)
        snapshot = Snapshot(header, f"snapshot-{header.seq}", len(content))
        self._published[header.seq] = snapshot, content, digest
        return snapshot

    def discard(self, draft: str) -> None:
        self._drafts.pop(draft, None)

    def newest_first(self) -> list[Snapshot]:
        return [self._published[seq][0] for seq in sorted(self._published, reverse=True)]

    def load(self, snapshot: Snapshot, load: Callable[[Source], Value]) -> tuple[Value, bytes]:
        _, content, digest = self._published[snapshot.seq]
        return load(io.BytesIO(content)), digest

    def prune(self, keep: int) -> int:
        for seq in sorted(self._published, reverse=True)[max(1, keep) :]:
            del self._published[seq]
        return min(self._published, default=0)
