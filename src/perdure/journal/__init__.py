"""The journal: the ordered list of entries that is the truth.

``Journal`` says what one is; ``FileJournal`` keeps it as segments in a directory, ``MemoryJournal`` in a list.
"""

from perdure.journal._file import FileJournal
from perdure.journal._follow import DirectoryFollower
from perdure.journal._framing import BINARY, Framing, SegmentHeader
from perdure.journal._memory import MemoryJournal
from perdure.journal._protocol import Capabilities, CopyingJournal, Draft, Durability, Journal, start_of_last_append
from perdure.journal._recovery import CUT_DIRECTORY, Cut, Recovered, recover
from perdure.journal._segments import (
    Segment,
    damaged,
    entries_of,
    needed_segments,
    read_header,
    read_records,
    segment_name,
    segment_numbers,
)

__all__ = [
    "BINARY",
    "CUT_DIRECTORY",
    "Capabilities",
    "CopyingJournal",
    "Cut",
    "DirectoryFollower",
    "Draft",
    "Durability",
    "FileJournal",
    "Framing",
    "Journal",
    "MemoryJournal",
    "Recovered",
    "Segment",
    "SegmentHeader",
    "damaged",
    "entries_of",
    "needed_segments",
    "read_header",
    "read_records",
    "recover",
    "segment_name",
    "segment_numbers",
    "start_of_last_append",
]
