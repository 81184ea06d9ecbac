"""What every log of an engine must do. Subclass it with the fixture ``make`` and pytest runs it on yours."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from perdure.engines import Bounds, ConflictError, Log, LogEntry
from perdure.errors import MissingError, OutcomeUnknownError, PerdureError, RecordTooLargeError, UnreachableError

_PATIENCE_S = 60.0


def new_id() -> bytes:
    """An entry's id that nobody else has."""
    return os.urandom(24)


def patiently(attempt: Callable[[], object]) -> object:
    """Calls until the engine answers: a cluster that has just begun is choosing its leaders."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return attempt()
        except (UnreachableError, OutcomeUnknownError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def followed(log: Log, after: int, last: int) -> list[LogEntry]:
    """What following gives up to a position, within a minute."""
    found: list[LogEntry] = []
    deadline = time.monotonic() + _PATIENCE_S
    while (found[-1].position if found else after) < last:
        assert time.monotonic() < deadline, f"only {len(found)} entries came"
        following = log.follow(found[-1].position if found else after, idle_s=0.5)
        try:
            for entries in following:
                found += entries
                if (found[-1].position if found else after) >= last or time.monotonic() > deadline:
                    break
        except UnreachableError:
            continue
        finally:
            following.close()  # type: ignore[attr-defined]
    return found


class LogContract:
    """The rules of ``perdure.engines.Log``, each a test. ::

    class TestMyLog(LogContract):
        @pytest.fixture
        def make(self):
            ...
            yield lambda: MyLog(...)

    ``make`` gives one more connection to the same log, which is empty at the first call; the fixture closes them.
    Where there can be only one, ``alone`` is true.
    """

    alone = False

    @pytest.fixture
    def make(self) -> Iterator[Callable[[], Log]]:
        """Gives a function that opens the log once more."""
        raise NotImplementedError("a subclass of LogContract has a fixture named make")

    @pytest.fixture
    def log(self, make: Callable[[], Log]) -> Log:
        """The log, just made."""
        return make()

    def _append(self, log: Log, *payloads: bytes) -> list[bytes]:
        ids = [new_id() for _ in payloads]
        for payload, id in zip(payloads, ids, strict=True):
            patiently(lambda payload=payload, id=id: log.append(payload, id))  # type: ignore[misc]
        return ids

    # ---- order

    def test_a_new_log_is_empty_and_has_an_id(self, log: Log) -> None:
        assert log.bounds() == Bounds(1, 0)
        assert log.read(0, 10) == []
        assert len(log.log_id) == 16
        log.check()

    def test_positions_are_dense_from_one(self, log: Log) -> None:
        ids = self._append(log, *(b"%d" % number for number in range(20)))
        assert log.bounds() == Bounds(1, 20)
        found = log.read(0, 100)
        assert found == [LogEntry(number + 1, ids[number], b"%d" % number) for number in range(20)]
        assert log.read(17, 100) == found[17:]
        assert log.read(17, 2) == found[17:19]
        assert log.read(20, 5) == []

    def test_every_payload_comes_back(self, log: Log) -> None:
        payloads = [b"", b"\0", bytes(range(256)), b"x" * 200_000, b"\r\nMSG perdure 1 0\r\n"]
        self._append(log, *payloads)
        assert [entry.data for entry in log.read(0, 10)] == payloads

    def test_an_entry_of_the_largest_size_goes_in_and_a_larger_one_is_not_sent(self, log: Log) -> None:
        largest = min(log.capabilities.entry_bytes_max, 8 << 20)
        self._append(log, b"y" * largest)
        with pytest.raises(RecordTooLargeError):
            log.append(bytes(log.capabilities.entry_bytes_max + 1), new_id())
        self._append(log, b"after")
        assert [len(entry.data) for entry in log.read(0, 10)] == [largest, 5]

    # ---- compare and append

    def test_an_append_that_expects_another_position_leaves_nothing(self, log: Log) -> None:
        self._append(log, b"1", b"2", b"3")
        for wrong in (0, 2, 4):
            with pytest.raises(ConflictError):
                log.append(b"wrong", new_id(), expected=wrong)
        assert log.append(b"4", new_id(), expected=3) == 4
        assert [entry.data for entry in log.read(0, 10)] == [b"1", b"2", b"3", b"4"]

    def test_a_repeated_append_conflicts_and_its_entry_is_found_by_its_id(self, log: Log) -> None:
        self._append(log, b"1")
        id = new_id()
        assert log.append(b"2", id, expected=1) == 2
        with pytest.raises(ConflictError):
            log.append(b"2", id, expected=1)
        assert log.read(1, 1)[0].id == id
        patiently(lambda: log.confirm(2))
        assert log.bounds().last == 2

    def test_one_of_two_racing_writers_wins(self, log: Log, make: Callable[[], Log]) -> None:
        other = log if self.alone else make()
        for position in range(10):
            won: list[int] = []
            barrier = threading.Barrier(2)

            def race(
                contender: Log, position: int = position, won: list[int] = won, barrier: threading.Barrier = barrier
            ) -> None:
                barrier.wait()
                try:
                    won.append(contender.append(b"race", new_id(), expected=position))
                except ConflictError:
                    pass

            threads = [threading.Thread(target=race, args=(contender,)) for contender in (log, other)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert won == [position + 1]

    def test_writers_that_expect_nothing_all_get_in(self, log: Log, make: Callable[[], Log]) -> None:
        logs = [log] if self.alone else [log, make(), make()]
        positions: list[int] = []

        def write(writer: Log) -> None:
            for _ in range(20):
                positions.append(writer.append(b"x", new_id()))

        threads = [threading.Thread(target=write, args=(writer,)) for writer in logs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(positions) == list(range(1, 20 * len(logs) + 1))
        assert len({entry.id for entry in log.read(0, 1000)}) == 20 * len(logs)

    # ---- following

    def test_following_gives_what_is_there_and_what_comes(self, log: Log, make: Callable[[], Log]) -> None:
        follower = log if self.alone else make()
        self._append(log, *(b"%d" % number for number in range(10)))
        found: list[LogEntry] = []
        thread = threading.Thread(target=lambda: found.extend(followed(follower, 7, 15)))
        thread.start()
        self._append(log, *(b"%d" % number for number in range(10, 15)))
        thread.join()
        assert [entry.position for entry in found] == list(range(8, 16))
        assert [entry.data for entry in found] == [b"%d" % number for number in range(7, 15)]

    def test_following_a_silent_log_gives_empty_lists(self, log: Log) -> None:
        following = log.follow(0, idle_s=0.1)
        assert next(following) == []
        assert next(following) == []
        following.close()  # type: ignore[attr-defined]

    def test_many_entries_are_read_and_followed(self, log: Log) -> None:
        self._append(log, *(b"%d" % number for number in range(100)))
        expected = [b"%d" % number for number in range(100)]
        assert [entry.data for entry in log.read(0, 1000)] == expected
        assert [entry.data for entry in followed(log, 0, 100)] == expected

    # ---- forgetting

    def test_trimming_keeps_the_numbering_and_says_what_is_gone(self, log: Log) -> None:
        self._append(log, *(b"%d" % number for number in range(6)))
        log.trim(4)
        assert log.bounds() == Bounds(4, 6)
        with pytest.raises(MissingError):
            log.read(1, 5)
        with pytest.raises(MissingError):
            followed(log, 1, 6)
        assert [entry.position for entry in log.read(3, 10)] == [4, 5, 6]
        with pytest.raises(ConflictError):
            log.append(b"stale", new_id(), expected=2)
        log.trim(7)
        assert log.bounds() == Bounds(7, 6)
        assert log.append(b"next", new_id(), expected=6) == 7
        log.check()

    # ---- blobs

    def test_blobs_come_back_and_are_listed_by_prefix(self, log: Log, make: Callable[[], Log]) -> None:
        blobs = log.blobs
        large = os.urandom(3 << 20)
        blobs.put("a/2", [large[: 1 << 20], large[1 << 20 :]])
        blobs.put("a/1", [b"small"])
        blobs.put("b/1", [b""])
        again = blobs if self.alone else make().blobs
        assert again.keys("a/") == ["a/1", "a/2"]
        assert b"".join(again.get("a/2")) == large
        assert b"".join(again.get("a/1")) == b"small"
        assert b"".join(again.get("b/1")) == b""
        blobs.put("a/1", [b"another"])
        assert b"".join(blobs.get("a/1")) == b"another"

    def test_a_blob_that_is_not_there(self, log: Log) -> None:
        assert log.blobs.keys("") == []
        with pytest.raises(MissingError):
            b"".join(log.blobs.get("none"))
        log.blobs.put("some", [b"x"])
        log.blobs.delete("some")
        log.blobs.delete("some")
        assert log.blobs.keys("") == []
        with pytest.raises(MissingError):
            b"".join(log.blobs.get("some"))

    # ---- the end

    def test_closing_is_idempotent_and_what_comes_after_it_raises(self, log: Log) -> None:
        self._append(log, b"1")
        log.close()
        log.close()
        with pytest.raises(PerdureError):
            log.append(b"2", new_id())
