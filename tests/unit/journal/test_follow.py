"""Reading a journal while its writer takes back what the disk refused, ends segments, and trims them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import MissingError, WriteError
from perdure.fs import Fs
from perdure.journal import BINARY, DirectoryFollower, Draft, FileJournal
from perdure.records import COMMAND, Chain
from perdure.testing import WrappingFs


class RefusingFs(WrappingFs):
    """Takes the first ``taken`` bytes of one write and refuses the rest; asks ``look`` before that is taken back."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: int | None = None
        self.look: Callable[[], Any] = list

    def write(self, fd: int, data: Any) -> int:
        if self.taken is None:
            return super().write(fd, data)
        super().write(fd, bytes(data)[: self.taken])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def truncate(self, fd: int, size_bytes: int) -> None:
        self.taken = None
        self.look()
        super().truncate(fd, size_bytes)


def drafts(*payloads: bytes) -> list[Draft]:
    return [Draft(COMMAND, payload) for payload in payloads]


@pytest.mark.parametrize("secret", [None, b"s"], ids=["plain", "secret"])
@pytest.mark.parametrize("later", [[b"x1"], [b"x1", b"x2"], [b"longer than before"], [b"x1", b"x2", b"x3", b"x4"]])
@pytest.mark.parametrize("kept_records", [1, 2])
def test_what_the_disk_refused_and_the_writer_took_back_is_never_followed(
    tmp_path: Path, secret: bytes | None, later: list[bytes], kept_records: int
) -> None:
    """Step 1: a part of a batch lies in the file. 2: the follower reads it. 3: it is cut. 4: others take its place."""
    chain = Chain([secret]) if secret else None
    fs = RefusingFs()
    journal = FileJournal(str(tmp_path), fs=fs, chain=chain)
    journal.append(drafts(b"a1"))
    journal.sync()
    follower = DirectoryFollower(str(tmp_path), fs=Fs(), framing=BINARY, after=0, chain=chain)
    seen = follower.poll()
    fs.look = lambda: seen.extend(follower.poll())
    size = journal.bytes_written
    journal.append(drafts(b"a2"))
    record_bytes = journal.bytes_written - size
    fs.taken = kept_records * record_bytes + 10
    with pytest.raises(WriteError):
        journal.append(drafts(b"b1", b"b2", b"b3"))
    for payload in later:
        journal.append(drafts(payload))
        journal.sync()
        seen += follower.poll()
    journal.mark()
    seen += follower.poll()
    assert [(entry.seq, entry.payload) for entry in seen] == [
        (seq, payload) for seq, payload in enumerate([b"a1", b"a2", *later], 1)
    ]
    journal.close()


def test_a_follower_whose_segments_are_trimmed_says_so(tmp_path: Path) -> None:
    journal = FileJournal(str(tmp_path), segment_bytes_max=1)
    journal.append(drafts(b"a1"))
    follower = DirectoryFollower(str(tmp_path), fs=Fs(), framing=BINARY, after=0)
    for number in range(5):
        journal.append(drafts(b"b%d" % number))
    journal.mark()
    journal.trim(5)
    with pytest.raises((MissingError, FileNotFoundError)):
        follower.poll()
    journal.close()
