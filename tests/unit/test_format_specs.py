"""The pages on the formats hold the bytes that are written and the layouts that are used.

``PERDURE_REGENERATE=1`` writes the hexdumps anew: for a change of a page, never for a change of the bytes.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zlib
from pathlib import Path

import msgspec
import pytest

from perdure import digest, records
from perdure.codecs import Json
from perdure.journal import Draft, FileJournal, _framing
from perdure.machine._answers import store_error
from perdure.machine._outcomes import outcome_draft
from perdure.records import COMMAND, OUTCOME, Chain
from perdure.snapshots import FileSnapshotStore, SnapshotHeader, _format
from perdure.system._command import encode_command

ROOT = Path(__file__).resolve().parents[2]
FORMATS = ROOT / "docs" / "format"
LOG_ID = b"example of a log"
SECRET = b"kept elsewhere"


class TickingClock:
    """A second later at each look."""

    def __init__(self) -> None:
        self._now_ns = 1_795_219_200_000_000_000  # 2026-11-21 00:00 UTC

    def time_ns(self) -> int:
        self._now_ns += 1_000_000_000
        return self._now_ns


def example_journal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Two commands, of which the second raises, and a clean close."""
    monkeypatch.setattr("perdure.journal._file.utc_offset_min", lambda at_ns: 60)
    description = {"kind": "system", "class": "wiki.Wiki", "codec": "json", "methods": {}}
    journal = FileJournal(str(folder), log_id=LOG_ID, clock=TickingClock(), description=description)
    codec = Json()
    journal.append([Draft(COMMAND, encode_command(codec, "write", ("Home", "Hi"), {})[0])])
    journal.sync()
    journal.append([Draft(COMMAND, encode_command(codec, "write", (["a"],), {"text": None})[0])])
    journal.sync()
    journal.append([outcome_draft(2, "raised", TypeError())])
    journal.close()
    return (folder / "journal-00000001").read_bytes()


def example_record() -> bytes:
    """With the name of a request, and an authentication code."""
    return records.encode(
        7, 1_795_219_200_000_000_000, COMMAND, b"\x92\xa1f\x90", 6, 0, bytes(range(16)), 3, Chain([SECRET])
    )


def example_snapshot(folder: Path, secrets: tuple[bytes, ...] = ()) -> bytes:
    codec, state = Json(), {"pages": {"Home": "Hi"}}
    store = FileSnapshotStore(str(folder), secrets=secrets)
    description = {"kind": "system", "class": "wiki.Wiki", "codec": "json", "methods": {}}
    header = SnapshotHeader(3, 1_795_219_205_000_000_000, LOG_ID, description)
    draft = store.write(
        header,
        lambda file: codec.dump(state, file),
        lambda: digest.digest(state),
        lambda file: digest.digest(codec.load(file)),
    )
    return Path(store.publish(draft, header).name).read_bytes()


def hexdump(data: bytes) -> str:
    lines = []
    for start in range(0, len(data), 16):
        part = data[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:04x}  {part[:8].hex(' '):<23}  {part[8:].hex(' '):<23}  {text}\n")
    return "".join(lines)


@pytest.mark.parametrize("name", ["journal", "record", "snapshot"])
def test_the_page_shows_the_bytes_that_are_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = FORMATS / f"{'snapshot' if name == 'snapshot' else 'journal'}-v1.md"
    data = {
        "journal": lambda: example_journal(tmp_path, monkeypatch),
        "record": example_record,
        "snapshot": lambda: example_snapshot(tmp_path),
    }[name]()
    text = page.read_text("utf-8")
    pattern = re.compile(rf"(<!-- hexdump: {name} -->\n+```text\n)(.*?)(```)", re.DOTALL)
    match = pattern.search(text)
    assert match is not None
    if os.environ.get("PERDURE_REGENERATE"):
        page.write_text(pattern.sub(lambda m: m[1] + hexdump(data) + m[3], text), "utf-8")
    else:
        assert match[2] == hexdump(data)


def table(page: str, heading: str) -> list[tuple[int, int]]:
    """Offset and size of each field in the first table below a heading whose sizes are all numbers."""
    text = (FORMATS / page).read_text("utf-8").split(f"## {heading}\n", 1)[1]
    rows = re.findall(r"^\| (\d+) \| (\d+) \| ", text.split("\n## ", 1)[0], re.MULTILINE)
    return [(int(offset), int(size)) for offset, size in rows]


@pytest.mark.parametrize(
    ("page", "heading", "layout"),
    [
        ("journal-v1.md", "Segment header", _framing._FIXED),
        ("journal-v1.md", "Record", records._HEAD),
        ("snapshot-v1.md", "Header", _format._FIXED),
        ("snapshot-v1.md", "Trailer", _format._TRAILER),
    ],
)
def test_the_tables_have_the_layout_that_is_used(page: str, heading: str, layout: struct.Struct) -> None:
    fields = table(page, heading)
    flat = []
    for count, code in re.findall(r"(\d*)([a-zA-Z])", layout.format):
        flat += [int(count)] if code == "s" else [struct.calcsize("<" + code)] * int(count or 1)
    assert [size for _, size in fields] == flat
    offset = 0
    for start, size in fields:
        assert start == offset
        offset += size
    assert offset == layout.size


def test_kinds_and_flags_are_those_of_the_code() -> None:
    text = (FORMATS / "journal-v1.md").read_text("utf-8")
    for name in ("COMMAND", "OUTCOME", "TERM", "SNAPSHOT", "GENESIS", "GROUP", "WATERMARK", "SEAL"):
        assert re.search(rf"^\| {getattr(records, name):#04x} \| {name.lower()} \|", text, re.MULTILINE), name
    assert records.FLAG_MAC == 1
    assert records.FLAG_CLIENT == 2
    assert records.FLAG_MORE == 4


def test_the_checksum_begins_with_the_salt_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = example_journal(tmp_path, monkeypatch)
    first = int.from_bytes(data[12:16], "little")
    end = data.find(records.MAGIC, first + 1)
    salt = zlib.crc32(LOG_ID + (1).to_bytes(4, "little"))
    assert int.from_bytes(data[first + 4 : first + 8], "little") == zlib.crc32(data[first + 8 : end], salt)


def test_the_codes_are_computed_as_the_page_says() -> None:
    data = example_record()
    covered, code = data[8:-16], data[-16:]
    assert code == hashlib.blake2b(bytes(16) + covered, key=SECRET, digest_size=16).digest()


def test_the_code_of_a_snapshot_is_computed_as_the_page_says(tmp_path: Path) -> None:
    data = example_snapshot(tmp_path, (SECRET,))
    size = int.from_bytes(data[12:16], "little")
    trailer = data[-108:]
    key = hashlib.blake2b(SECRET, digest_size=64).digest()
    covered = data[:size] + trailer[4:12] + trailer[12:44] + trailer[44:76]
    assert trailer[76:] == hashlib.blake2b(covered, key=key, digest_size=32).digest()


def test_outcomes_are_arrays_of_three() -> None:
    draft = outcome_draft(2, "raised", TypeError())
    assert msgspec.msgpack.decode(draft.payload) == [2, "raised", "builtins.TypeError"]
    assert draft.kind == OUTCOME == 2
    error = ValueError("too much")
    draft = outcome_draft(2, "aborted", error, store_error(error, Json()))
    assert msgspec.msgpack.decode(draft.payload) == [
        *[2, "aborted", "builtins.ValueError"],
        ["raised", b"", "builtins.ValueError", "too much"],
    ]
