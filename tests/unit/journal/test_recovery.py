"""What is a torn tail and what is damage, where a snapshot says how far the journal had been durable."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.errors import CorruptError
from perdure.journal import Draft, FileJournal
from perdure.records import COMMAND


def journal_with_damage_at(directory: Path, damaged_seq: int) -> bytes:
    """Five entries that no later record says to be durable, one of them damaged; the journal's id."""
    journal = FileJournal(str(directory), durability="never")
    for number in range(1, 6):
        journal.append([Draft(COMMAND, b"payload %d" % number)])
    journal._fs.sync(journal._fd)  # As for a snapshot. Then the process is killed.
    journal._let_go()
    path = directory / "journal-00000001"
    data = bytearray(path.read_bytes())
    data[data.index(b"payload %d" % damaged_seq)] ^= 1
    path.write_bytes(data)
    return journal.log_id


def test_damage_before_what_a_snapshot_covers_does_not_take_the_entries_behind_it_away(tmp_path: Path) -> None:
    log_id = journal_with_damage_at(tmp_path, 2)
    with pytest.raises(CorruptError) as caught:
        FileJournal(str(tmp_path), after=3, log_id=log_id)
    assert caught.value.seq == 2


def test_damage_behind_the_snapshot_that_nothing_proves_is_a_torn_tail(tmp_path: Path) -> None:
    log_id = journal_with_damage_at(tmp_path, 4)
    journal = FileJournal(str(tmp_path), after=3, log_id=log_id)
    assert journal.cut is not None
    assert journal.last_seq == 3
    journal.close()


def test_a_tail_that_the_snapshot_covers_wholly_is_not_needed(tmp_path: Path) -> None:
    log_id = journal_with_damage_at(tmp_path, 5)
    journal = FileJournal(str(tmp_path), after=5, log_id=log_id)
    assert journal.last_seq == 5
    journal.append([Draft(COMMAND, b"next")])
    assert [entry.seq for entry in journal.read(5)] == [6]
    journal.close()
