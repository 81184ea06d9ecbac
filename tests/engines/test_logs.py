"""The log contract, run on every log that perdure ships."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from perdure.engines import DirectoryBlobs, JournalLog, Log, MemoryBlobs, create_log, open_log, parse_url
from perdure.journal import FileJournal, MemoryJournal
from perdure.testing import LogContract
from tests.engines._nats import NatsCluster


def opener(url: str) -> Iterator[Callable[[], Log]]:
    """Makes a log, and a function that connects to it; what that gives is closed at the end."""
    parsed = parse_url(url)
    create_log(parsed, os.urandom(16))
    with ExitStack() as stack:

        def open_it() -> Log:
            log = open_log(parsed)
            stack.callback(log.close)
            return log

        yield open_it


class TestFileJournalAsLog(LogContract):
    alone = True

    @pytest.fixture
    def make(self, tmp_path: Path) -> Iterator[Callable[[], Log]]:
        (tmp_path / "log").mkdir()
        log = JournalLog(FileJournal(str(tmp_path / "log")), DirectoryBlobs(str(tmp_path / "blobs")))
        yield lambda: log
        log.close()


class TestMemoryJournalAsLog(LogContract):
    alone = True

    @pytest.fixture
    def make(self) -> Callable[[], Log]:
        log = JournalLog(MemoryJournal(), MemoryBlobs())
        return lambda: log


class TestNats(LogContract):
    @pytest.fixture
    def make(self, nats_url: str) -> Iterator[Callable[[], Log]]:
        yield from opener(nats_url)


class TestNatsOfThree(LogContract):
    @pytest.fixture
    def make(self, nats_three: NatsCluster, name: str) -> Iterator[Callable[[], Log]]:
        yield from opener(nats_three.url(name))


class TestPostgres(LogContract):
    @pytest.fixture
    def make(self, postgres_url: str) -> Iterator[Callable[[], Log]]:
        yield from opener(postgres_url)
