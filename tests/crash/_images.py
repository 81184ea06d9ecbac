"""Ledgers on disk as byte strings, to be damaged, and what opening a damaged one gives."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from perdure.errors import CorruptError, FormatVersionError, MissingError
from perdure.fs import Fs
from perdure.journal import BINARY, read_header
from perdure.records import HEAD_BYTES, Chain
from perdure.testing import FaultyFs
from perdure.testing.crashsim import read_tree, write_tree
from tests.crash._ledger import Ledger, payload

Found = list[bytes] | Literal["error"]


@dataclass
class Record:
    """Where a record of a segment lies. ``seq`` and ``watermark`` as it says."""

    start: int
    end: int
    seq: int
    watermark: int


class LedgerImage:
    """A ledger's files. ``wanted``: what it holds while it is whole."""

    def __init__(self, directory: str, fill: Callable[[Ledger], None], *, clean: bool, secret: bytes = b"") -> None:
        self.directory = directory
        self._secret = secret
        fs = FaultyFs()
        store = Ledger(directory, fs, secret=secret)
        fill(store)
        self.wanted = list(store.values)
        if clean:
            store.close()
        # A killed process closes its files and tidies nothing.
        fs.close_leaked()
        self.files = {path: content for path, content in read_tree(directory).items() if content is not None}

    @property
    def segments(self) -> list[str]:
        return sorted(name for name in self.files if name.startswith("journal-"))

    @property
    def snapshots(self) -> list[str]:
        return sorted(name for name in self.files if name.startswith("snapshot-"))

    def records(self, name: str) -> list[Record]:
        write_tree(dict(self.files), self.directory)
        path = os.path.join(self.directory, name)
        offset = read_header(Fs(), BINARY, path, Chain([self._secret]) if self._secret else None).first_offset
        data = self.files[name]
        found = []
        while offset < len(data):
            # magic crc length kind flags offset-from-UTC seq time watermark, as docs/format/journal-v1.md has them
            _, _, length, _, _, _, seq, _, watermark = struct.unpack_from("<4sIIBBhQqQ", data, offset)
            found.append(Record(offset, offset + HEAD_BYTES + length, seq, watermark))
            offset = found[-1].end
        return found

    def opened_with(self, name: str, content: bytes | None) -> Found:
        """What a ledger holds in which one file has another content, or is gone."""
        files = dict(self.files)
        if content is None:
            del files[name]
        else:
            files[name] = content
        write_tree(dict(files), self.directory)
        try:
            store = Ledger(self.directory, secret=self._secret)
        except (CorruptError, MissingError, FormatVersionError):
            return "error"
        try:
            return store.values
        finally:
            store.close()

    def problem(self, name: str, content: bytes | None, what: str, allowed: list[Found]) -> str | None:
        """What is wrong with opening it after this damage; ``None`` if it came out as one of ``allowed``."""
        found = self.opened_with(name, content)
        if found in allowed:
            return None
        if found == "error":
            return f"{name}: {what}: refused"
        if found == self.wanted:
            return f"{name}: {what}: nobody noticed"
        kind = "silently shorter" if found == self.wanted[: len(found)] else "another history"
        return f"{name}: {what}: {kind}, {len(found)} entries of {len(self.wanted)}"


def entries(store: Ledger, *counts: int) -> None:
    for count in counts:
        first = len(store.values) + 1
        store.append([payload(seq) for seq in range(first, first + count)])


def flipped(data: bytes, bits: Callable[[int], Iterator[int]]) -> Iterator[tuple[int, bytes]]:
    """Each byte with each of the ``bits`` that are chosen for it flipped: offset, content."""
    for offset in range(len(data)):
        for bit in bits(offset):
            changed = bytearray(data)
            changed[offset] ^= 1 << bit
            yield offset, bytes(changed)
