"""Entries behind a bad spot, and writing entries anew.

A reader never goes on behind a bad spot: a journal with a hole replays to another state. Only where a snapshot covers
the hole are the entries behind it of use. Each of them is still checked by its own checksum, its seq, and its
authentication code, if there is one: that code covers the one before it, which stands directly before the record.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from perdure.fs import Fs
from perdure.journal import Framing, SegmentHeader, segment_name
from perdure.records import HEAD_BYTES, MAC_BYTES, MAGIC, MARKS, SEAL, Chain, Entry

_CHUNK_BYTES = 1 << 20
_KIND_AT = 12  # Within a record: see ``docs/format/journal-v1.md``.
_SEQ_AT = 16


class Run(NamedTuple):
    """Entries ``first`` to ``last`` without a gap, the first record of them at ``offset``. ``code``: what stands
    before it, where a chain of authentication codes goes on."""

    path: str
    offset: int
    before: int
    first: int
    last: int
    code: bytes
    salt: int


def runs_in(fs: Fs, framing: Framing, path: str, start: int, chain: Chain | None, salt: int) -> list[Run]:
    """The stretches of good records in a file from ``start`` on, by their order in the file. ``salt``: of its
    segment."""
    data = fs.read_all(path)
    found: list[Run] = []
    offset = start
    while True:
        offset = data.find(MAGIC, offset)
        if offset < 0 or offset + HEAD_BYTES > len(data):
            return found
        seq = int.from_bytes(data[offset + _SEQ_AT : offset + _SEQ_AT + 8], "little")
        before = seq if data[offset + _KIND_AT] >= MARKS else seq - 1
        code = data[max(0, offset - MAC_BYTES) : offset] if chain is not None else b""
        scanned = framing.scan(data, offset, before, chain=_at(chain, code), salt=salt)
        if scanned.entries:
            found.append(Run(path, offset, before, scanned.entries[0].seq, scanned.seq, code, salt))
        # What a good record holds is skipped: its payload may well contain the bytes of another record.
        offset = scanned.end if scanned.end > offset else offset + 1


def entries_in(fs: Fs, framing: Framing, run: Run, after: int, last: int, chain: Chain | None) -> Iterator[Entry]:
    """Those with ``after < seq <= last``."""
    data = fs.read_all(run.path)
    scanned = framing.scan(data, run.offset, run.before, chain=_at(chain, run.code), salt=run.salt)
    return (entry for entry in scanned.entries if after < entry.seq <= last)


def _at(chain: Chain | None, code: bytes) -> Chain | None:
    return None if chain is None else chain.at(code)


def write_segment(
    fs: Fs, framing: Framing, directory: str, header: SegmentHeader, entries: Iterable[Entry], chain: Chain | None
) -> str:
    """A finished, sealed segment, under its name only when all of it is durable; returns its path.

    ``chain``: stands at ``header.chain_start``, and afterwards at the end of the segment.

    Raises:
        OSError: nothing stands under its name, unless only the sync of the directory failed.
    """
    path = os.path.join(directory, segment_name(header.number))
    fs.write_atomically(path, _chunks(framing, header, entries, chain))
    return path


def _chunks(framing: Framing, header: SegmentHeader, entries: Iterable[Entry], chain: Chain | None) -> Iterator[bytes]:
    buffer = bytearray(framing.encode_header(header, chain))
    seq, at_ns = header.base_seq - 1, header.created_ns
    for entry in entries:
        # All of the file is durable before it has its name, so each record may say so of the one before it.
        buffer += framing.encode(
            entry.seq,
            entry.at_ns,
            entry.kind,
            entry.payload,
            entry.seq - 1,
            utc_offset_min=entry.utc_offset_min,
            client=entry.client,
            counter=entry.counter,
            chain=chain,
            salt=header.salt,
            more=entry.more,
        )
        seq, at_ns = entry.seq, entry.at_ns
        if len(buffer) >= _CHUNK_BYTES:
            yield bytes(buffer)
            buffer.clear()
    buffer += framing.encode(seq, at_ns, SEAL, b"", seq, chain=chain, salt=header.salt)
    yield bytes(buffer)
