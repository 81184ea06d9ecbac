"""The journal contract, run on every journal that perdure ships."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure.journal import FileJournal, Journal, MemoryJournal
from perdure.records import Chain
from perdure.testing import JournalContract


class _OfFiles(JournalContract):
    segment_bytes_max = 1 << 20
    secret = b""

    def _open(self, path: Path) -> FileJournal:
        chain = Chain([self.secret]) if self.secret else None
        return FileJournal(str(path), chain=chain, segment_bytes_max=self.segment_bytes_max)

    @pytest.fixture
    def journal(self, tmp_path: Path) -> Iterator[Journal]:
        journal = self._open(tmp_path)
        yield journal
        journal.close()

    @pytest.fixture
    def reopen(self, tmp_path: Path) -> Callable[[], Journal]:
        return lambda: self._open(tmp_path)


class TestFileJournal(_OfFiles):
    pass


class TestFileJournalOfManySegments(_OfFiles):
    segment_bytes_max = 200


class TestFileJournalWithSecret(_OfFiles):
    secret = b"a secret"


class TestMemoryJournal(JournalContract):
    @pytest.fixture
    def journal(self) -> Journal:
        return MemoryJournal()
