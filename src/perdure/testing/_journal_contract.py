"""What every journal must do. Subclass it with a ``journal`` fixture and pytest runs it on yours."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from perdure.errors import ClosedError, MissingError, PerdureError, RecordTooLargeError, UsageError
from perdure.journal import Draft, Journal
from perdure.records import COMMAND, NO_CLIENT, OUTCOME, Entry

_PAYLOADS = [b"", b"\0", b"one", b"\xff" * 3, b"x" * 70_000, b"\xd7PJ1" * 10]
_CLIENT = bytes(range(16))


def append(journal: Journal, *payloads: bytes) -> None:
    journal.append([Draft(COMMAND, payload) for payload in payloads])


def payloads_of(journal: Journal, after: int = 0, before: int | None = None) -> list[bytes]:
    return [entry.payload for entry in journal.read(after, before)]


class JournalContract:
    """The rules of ``perdure.journal.Journal``, each a test. ::

    class TestMyJournal(JournalContract):
        @pytest.fixture
        def journal(self):
            journal = MyJournal()
            yield journal
            journal.close()

    ``journal`` is empty. Where it outlives being closed, the fixture ``reopen`` gives a function that opens it again;
    what it opens is closed by the test.
    """

    @pytest.fixture
    def journal(self) -> Journal:
        """An empty journal."""
        raise NotImplementedError("a subclass of JournalContract has a fixture named journal")

    @pytest.fixture
    def reopen(self) -> Callable[[], Journal] | None:
        """Opens the journal of the fixture ``journal`` again, once that is closed; ``None``: it lives in memory."""
        return None

    # ---- order

    def test_a_new_journal_is_empty(self, journal: Journal) -> None:
        assert (journal.last_seq, journal.durable_seq) == (0, 0)
        assert list(journal.read()) == []
        assert journal.failure is None
        assert len(journal.log_id) == 16

    def test_entries_are_numbered_from_one_without_gaps(self, journal: Journal) -> None:
        append(journal, b"a")
        append(journal, b"b", b"c")
        assert [entry.seq for entry in journal.read()] == [1, 2, 3]
        assert journal.last_seq == 3

    def test_drafts_are_told_their_place(self, journal: Journal) -> None:
        drafts = [Draft(COMMAND, b"a"), Draft(OUTCOME, b"b")]
        journal.append(drafts)
        assert [draft.entry() for draft in drafts] == list(journal.read())

    def test_every_payload_comes_back(self, journal: Journal) -> None:
        append(journal, *_PAYLOADS)
        for payload in _PAYLOADS:
            append(journal, payload)
        assert payloads_of(journal) == _PAYLOADS * 2

    def test_kind_client_and_counter_come_back(self, journal: Journal) -> None:
        journal.append([Draft(OUTCOME, b"o"), Draft(COMMAND, b"c", _CLIENT, 7)])
        assert [(entry.kind, entry.client, entry.counter) for entry in journal.read()] == [
            (OUTCOME, NO_CLIENT, 0),
            (COMMAND, _CLIENT, 7),
        ]

    def test_entries_of_one_append_share_their_time_and_time_never_goes_back(self, journal: Journal) -> None:
        append(journal, b"a", b"b")
        append(journal, b"c")
        times = [entry.at_ns for entry in journal.read()]
        assert times[0] == times[1] <= times[2] == journal.last_at_ns

    def test_an_append_that_expects_another_seq_leaves_nothing(self, journal: Journal) -> None:
        journal.append([Draft(COMMAND, b"a")], expected=0)
        with pytest.raises(UsageError):
            journal.append([Draft(COMMAND, b"b")], expected=0)
        journal.append([Draft(COMMAND, b"c")], expected=1)
        assert payloads_of(journal) == [b"a", b"c"]

    def test_an_entry_that_is_too_large_leaves_nothing_of_its_append(self, journal: Journal) -> None:
        largest = journal.capabilities.entry_bytes_max
        if largest > 64 << 20:
            pytest.skip("its largest entry is too large for a test")
        with pytest.raises(RecordTooLargeError):
            append(journal, b"before", bytes(largest + 1))
        append(journal, b"after")
        assert payloads_of(journal) == [b"after"]

    # ---- reading

    def test_reading_begins_and_ends_where_it_is_asked_to(self, journal: Journal) -> None:
        append(journal, b"1", b"2", b"3", b"4")
        assert payloads_of(journal, 1) == [b"2", b"3", b"4"]
        assert payloads_of(journal, 1, 4) == [b"2", b"3"]
        assert payloads_of(journal, 0, 1) == []
        assert payloads_of(journal, 4) == []

    def test_reading_twice_gives_the_same(self, journal: Journal) -> None:
        append(journal, b"1", b"2")
        assert list(journal.read()) == list(journal.read())

    def test_entries_can_be_read_before_they_are_durable(self, journal: Journal) -> None:
        append(journal, b"1")
        assert payloads_of(journal) == [b"1"]

    # ---- durability

    def test_sync_makes_everything_durable(self, journal: Journal) -> None:
        append(journal, b"1", b"2")
        assert journal.sync() == 2
        assert journal.durable_seq == 2

    def test_a_mark_is_no_entry(self, journal: Journal) -> None:
        append(journal, b"1")
        journal.sync()
        journal.mark()
        journal.mark()
        append(journal, b"2")
        assert payloads_of(journal) == [b"1", b"2"]
        assert journal.last_seq == 2

    def test_bytes_written_grow_by_at_least_the_payload(self, journal: Journal) -> None:
        before = journal.bytes_written
        append(journal, b"x" * 1000)
        assert journal.bytes_written >= before + 1000

    def test_any_thread_may_sync_and_read_beside_the_writer(self, journal: Journal) -> None:
        wrong: list[object] = []
        ended = threading.Event()

        def watch() -> None:
            while not ended.is_set():
                reached = journal.sync()
                seqs = [entry.seq for entry in journal.read()]
                if seqs != list(range(1, len(seqs) + 1)) or len(seqs) < reached:
                    wrong.append((reached, seqs))

        threads = [threading.Thread(target=watch) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(50):
            append(journal, b"%d" % number)
        ended.set()
        for thread in threads:
            thread.join()
        assert not wrong
        assert journal.sync() == 50

    # ---- forgetting

    def test_what_is_not_trimmed_stays_and_the_numbering_goes_on(self, journal: Journal) -> None:
        append(journal, b"1", b"2", b"3")
        journal.sync()
        journal.trim(3)
        append(journal, b"4")
        assert payloads_of(journal, 2) == [b"3", b"4"]
        assert journal.last_seq == 4

    def test_reading_what_was_trimmed_gives_everything_or_says_so(self, journal: Journal) -> None:
        append(journal, b"1", b"2", b"3")
        journal.sync()
        journal.trim(3)
        try:
            found = payloads_of(journal)
        except MissingError:
            return
        assert found == [b"1", b"2", b"3"]

    def test_trimming_everything_leaves_a_usable_journal(self, journal: Journal) -> None:
        append(journal, b"1")
        journal.sync()
        journal.trim(2)
        append(journal, b"2")
        assert payloads_of(journal, 1) == [b"2"]

    # ---- the end

    def test_closing_is_idempotent_and_ends_appending(self, journal: Journal) -> None:
        append(journal, b"1")
        journal.close()
        journal.close()
        with pytest.raises(ClosedError):
            append(journal, b"2")
        assert journal.failure is not None

    def test_everything_is_there_after_reopening(self, journal: Journal, reopen: Callable[[], Journal] | None) -> None:
        if reopen is None:
            pytest.skip("lives in memory")
        append(journal, *_PAYLOADS)
        written: list[Entry] = list(journal.read())
        log_id = journal.log_id
        journal.close()
        again = reopen()
        try:
            assert list(again.read()) == written
            assert again.log_id == log_id
            assert again.last_seq == again.durable_seq == len(_PAYLOADS)
            append(again, b"more")
            assert payloads_of(again, len(_PAYLOADS)) == [b"more"]
            assert again.last_at_ns >= written[-1].at_ns
        finally:
            again.close()

    def test_a_reader_beside_it_raises_nothing_but_errors_of_the_tree(self, journal: Journal) -> None:
        append(journal, b"1")
        journal.close()
        try:
            assert payloads_of(journal) == [b"1"]
        except PerdureError:
            return
