"""The log contract, run on every log that perdure ships."""

from __future__ import annotations

import asyncio
import gc
import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from perdure.engines import DirectoryBlobs, JournalLog, Log, MemoryBlobs, _nats_follow, create_log, open_log, parse_url
from perdure.errors import ClosedError, MissingError, PerdureError, UnreachableError
from perdure.journal import FileJournal, MemoryJournal
from perdure.testing import LogContract
from perdure.testing._log_contract import followed
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

    def test_a_lost_message_breaks_the_stream_and_is_no_trimming(
        self, log: Log, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(3):
            log.append(b"%d" % number, bytes(23) + bytes([number]))
        whole = _nats_follow._take_batch

        async def losing(box: asyncio.Queue[Any], found: queue.SimpleQueue[Any], path: str) -> str:
            """As when a connection breaks while the second message is on its way, and the next one takes over."""
            second = asyncio.Queue()
            second.put_nowait(await box.get())
            await box.get()
            second.put_nowait(await box.get())
            return await whole(second, found, path)

        with monkeypatch.context() as lost:
            lost.setattr(_nats_follow, "_take_batch", losing)
            following = log.follow(0, idle_s=10.0)
            with pytest.raises(UnreachableError, match="from 1 to 3"):
                for _ in following:
                    pass
        assert [entry.position for entry in followed(log, 1, 3)] == [2, 3]

    @pytest.mark.parametrize("there", [True, False], ids=["late", "never"])
    def test_a_consumer_that_nobody_knows_yet_is_asked_again(
        self, log: Log, monkeypatch: pytest.MonkeyPatch, there: bool
    ) -> None:
        """As in a cluster, where the server that is asked may hear of a new consumer later than the client does."""
        log.append(b"one", bytes(24))
        made = []

        async def make(connection: Any, stream: str, after: int) -> str:
            async def begin() -> None:
                await asyncio.sleep(0.3)
                await connection.js.add_consumer(stream, name="late", ack_policy="none", mem_storage=True)

            if there:
                made.append(asyncio.ensure_future(begin()))
            return "late"

        monkeypatch.setattr(_nats_follow, "_make_consumer", make)
        monkeypatch.setattr(_nats_follow, "_KNOWN_S", 30.0 if there else 0.3)
        following = log.follow(0, idle_s=10.0)
        if there:
            assert [entry.data for entry in next(following)] == [b"one"]
        else:
            with pytest.raises(UnreachableError, match="503"):
                next(following)

    def test_a_blob_whose_content_was_taken_away_is_missing(self, log: Log) -> None:
        log.blobs.put("some", [b"content"])
        log.blobs.put("other", [b"another"])
        blobs: Any = log.blobs

        async def purge() -> None:
            """As the driver does where it was not answered in time, whether or not the name is there by then."""
            store = await blobs._store(make=False)
            info = await store.get_info("some")
            await blobs._connection.js.purge_stream(f"OBJ_{blobs._bucket}", subject=blobs._subject(info))

        blobs._connection.ask(purge())
        assert log.blobs.keys("") == ["other", "some"]
        with pytest.raises(MissingError):
            b"".join(log.blobs.get("some"))
        assert b"".join(log.blobs.get("other")) == b"another"

    def test_what_is_asked_while_it_closes_is_refused_at_once(self, log: Log) -> None:
        refused: list[Exception] = []

        def ask() -> None:
            try:
                while True:
                    log.bounds()
            except PerdureError as error:
                refused.append(error)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        log.close()
        for thread in threads:
            thread.join()
        assert [type(error) for error in refused] == [ClosedError] * 8
        gc.collect()  # What was begun and never run would tell of it now.


class TestNatsOfThree(LogContract):
    @pytest.fixture
    def make(self, nats_three: NatsCluster, name: str) -> Iterator[Callable[[], Log]]:
        yield from opener(nats_three.url(name))


class TestPostgres(LogContract):
    @pytest.fixture
    def make(self, postgres_url: str) -> Iterator[Callable[[], Log]]:
        yield from opener(postgres_url)
