"""The files of a dict: what people may do to them, and what is found when a disk or a crash does something."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.errors import CorruptError, FormatVersionError, StorageError, UsageError
from perdure.journal import SegmentHeader
from perdure.mapping import POD, LinesFraming
from perdure.records import COMMAND, OUTCOME, SEAL, WATERMARK, Chain

FRAMING = LinesFraming()
HEADER = SegmentHeader(3, 7, 1_700_000_000_000_000_001, b"0123456789abcdef", 1, description={"kind": "dict"})


def entries(count: int, *, first: int = 1, durable: int = 0) -> bytes:
    return b"".join(
        FRAMING.encode(seq, seq * 10**9, COMMAND, b'{"do":"x","args":[%d]}' % seq, durable, 60)
        for seq in range(first, first + count)
    )


# ---- the framing


def test_header_and_entries_come_back() -> None:
    data = FRAMING.encode_header(HEADER, None)
    found, offset, chain = FRAMING.decode_header(data, "f", None)
    assert (found, offset, chain) == (HEADER, len(data), None)
    data += entries(2, first=7)
    data += FRAMING.encode(9, 5, OUTCOME, b"\x00\xff", 8, -90, b"c" * 16, 4)
    data += FRAMING.encode(10, 5, COMMAND, b'{"do":"y"}', 8, 0, b"c" * 16, 5)
    data += FRAMING.encode(11, 5, COMMAND, b"not JSON", 8)
    data += FRAMING.encode(11, 6, WATERMARK, b"", 11) + FRAMING.encode(11, 6, SEAL, b"", 11)
    scanned = FRAMING.scan(data, offset, 6)
    assert (scanned.seq, scanned.watermark, scanned.sealed, scanned.problem) == (11, 11, True, None)
    first, _, outcome, client, other = scanned.entries
    assert (first.seq, first.at_ns, first.utc_offset_min) == (7, 7 * 10**9, 60)
    assert json.loads(first.payload) == {"do": "x", "args": [7]}
    assert (outcome.kind, outcome.payload, outcome.utc_offset_min) == (OUTCOME, b"\x00\xff", -90)
    assert (outcome.client, outcome.counter) == (b"c" * 16, 4)
    assert (client.client, client.counter, client.payload) == (b"c" * 16, 5, b'{"do":"y"}')
    assert other.payload == b"not JSON"
    for line in data.splitlines():
        json.loads(line)


@given(at_ns=st.integers(-(10**18), 10**19), offset=st.integers(-14 * 60, 14 * 60))
def test_times_come_back_to_the_nanosecond(at_ns: int, offset: int) -> None:
    line = FRAMING.encode(1, at_ns, COMMAND, b"{}", 0, offset)
    (entry,) = FRAMING.scan(line, 0, 0).entries
    assert (entry.at_ns, entry.utc_offset_min) == (at_ns, offset)


@given(st.binary(max_size=40), st.integers(0, 400), st.integers(0, 10))
def test_scanning_never_raises(junk: bytes, place: int, skip: int) -> None:
    data = entries(3, durable=1)
    mixed = data[:place] + junk + data[place + skip :]
    scanned = FRAMING.scan(mixed, 0, 0)
    assert [entry.seq for entry in scanned.entries] == list(range(1, scanned.seq + 1))
    FRAMING.proves_durable(mixed, scanned.end, scanned.seq + 1)


def test_every_cut_is_a_torn_tail_and_every_flip_behind_a_watermark_is_not() -> None:
    data = entries(2) + entries(2, first=3, durable=2)
    for size in range(len(data)):
        scanned = FRAMING.scan(data[:size], 0, 0)
        assert scanned.end <= size
        assert FRAMING.proves_durable(data[:size], scanned.end, scanned.seq + 1) is None
    for place in range(len(entries(2))):
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        scanned = FRAMING.scan(flipped, 0, 0)
        assert scanned.problem is not None
        assert FRAMING.proves_durable(flipped, scanned.end, scanned.seq + 1) is not None


def test_a_line_that_was_taken_out_is_missed() -> None:
    lines = entries(3).splitlines(keepends=True)
    data = lines[0] + lines[2]
    scanned = FRAMING.scan(data, 0, 0)
    assert scanned.problem is not None
    assert "seq 3 where 2 belongs" in scanned.problem
    assert FRAMING.proves_durable(data, scanned.end, 2) == scanned.end


def test_headers_of_others_are_refused() -> None:
    good = FRAMING.encode_header(HEADER, None)
    with pytest.raises(CorruptError):
        FRAMING.decode_header(b"PERDJRNL" + bytes(80), "f", None)
    with pytest.raises(CorruptError):
        FRAMING.decode_header(good.replace(b'"segment":3', b'"segment":4'), "f", None)
    newer = good.replace(b'"version":1', b'"version":2')
    with pytest.raises(FormatVersionError):
        FRAMING.decode_header(newer[: newer.index(b',"check"')] + b"}\n", "f", None)
    for call in (FRAMING.encode_header, lambda h, c: FRAMING.decode_header(good, "f", c)):
        with pytest.raises(UsageError):
            call(HEADER, Chain([b"key"]))


# ---- a directory


def crashed(path: Path) -> Path:
    """A dict as a killed process leaves it, with five lines in its journal and nothing in its snapshot."""
    with POD(path / "live") as pod:
        for number in range(5):
            pod[f"k{number}"] = number
        pod._opened.machine.journal.sync()  # Behind the fifth line: no line tells of it yet.
        shutil.copytree(path / "live", path / "p")
    return path / "p"


def edit(path: Path, change: Callable[[list[str]], Any]) -> None:
    lines = path.read_text("utf-8").splitlines(keepends=True)
    change(lines)
    path.write_text("".join(lines), "utf-8")


def unchecked(line: str) -> str:
    fields = json.loads(line)
    fields.pop("check")
    return json.dumps(fields) + "\n"


def newest_snapshot(path: Path) -> Path:
    return max(path.glob("snapshot-*"))


def test_people_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "p"
    with POD(path) as pod:
        pod["café"] = {"größe": [1, "ü"]}
    lines = [json.loads(line) for line in newest_snapshot(path).read_text("utf-8").splitlines()]
    assert lines[1]["key"] == "café"
    assert lines[1]["value"] == {"größe": [1, "ü"]}
    assert '"value":{"größe":[1,"ü"]}' in newest_snapshot(path).read_text("utf-8")
    entry = json.loads((path / "journal-00000001").read_text("utf-8").splitlines()[1])
    assert entry["entry"] == {"do": "set", "args": ["café", {"größe": [1, "ü"]}]}


def test_edited_lines_without_a_checksum_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "p"
    with POD(path, {"a": 1, "b": 2}) as pod:
        pod["c"] = 3

    def change(lines: list[str]) -> None:
        lines[1] = '{"key": "a", "value": {"new": [true]}}\n'
        lines.insert(2, '  {"key": ["t", 1], "value": null}\n')

    edit(newest_snapshot(path), change)
    with POD(path) as pod:
        assert list(pod.items()) == [("a", {"new": [True]}), (("t", 1), None), ("b", 2), ("c", 3)]
        pod["a"]["new"].append(1)
    with POD(path) as pod:
        assert pod["a"] == {"new": [True, 1]}


def test_an_edited_journal_line_is_accepted(tmp_path: Path) -> None:
    path = crashed(tmp_path)
    edit(path / "journal-00000001", lambda lines: lines.__setitem__(2, unchecked(lines[2]).replace("k1", "K1")))
    with POD(path) as pod:
        assert list(pod) == ["k0", "K1", "k2", "k3", "k4"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("this is no JSON\n", "JSON"),
        ('{"key": "a"}\n', "no value"),
        ('{"key": 1.5, "value": 1}\n', "key"),
        ('{"key": null, "value": 1}\n', "key"),
        ('{"key": "b", "value": 1}\n', "twice"),
        ('{"key": "a", "value": 1, "check":"00000000"}\n', "check field"),
        ('{"key": "a", "value": NaN}\n', "JSON"),
        ('{"key": "a", "value": [1], "steps": [[[], 5, [3]]]}\n', "steps"),
        ("\n", "JSON"),
    ],
)
def test_a_wrongly_edited_snapshot_is_named_with_its_line(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "p"
    with POD(path, {"x": 0, "a": 1, "b": 2}) as pod:
        pod["c"] = 3
    before = newest_snapshot(path)
    edit(before, lambda lines: lines.__setitem__(2, line))
    number = 4 if problem == "twice" else 3
    with pytest.raises(CorruptError, match=rf"line {number}: .*{problem}") as caught:
        POD(path)
    assert caught.value.path == str(before)
    assert newest_snapshot(path) == before  # Nothing was moved.
    edit(before, lambda lines: lines.__setitem__(2, '{"key": "a", "value": 5}\n'))
    with POD(path) as pod:
        assert pod["a"] == 5


def test_lines_taken_out_of_a_snapshot_are_missed(tmp_path: Path) -> None:
    path = tmp_path / "p"
    with POD(path) as pod:
        pod.update(a=1, b=2)
    edit(newest_snapshot(path), lambda lines: lines.pop(1))
    with pytest.raises(CorruptError, match="says 2"):
        POD(path)
    edit(newest_snapshot(path), lambda lines: lines.__setitem__(-1, '{"end": "dict snapshot"}\n'))
    with POD(path) as pod:
        assert pod == {"b": 2}


@pytest.mark.parametrize("number", [2, 3, 6])
def test_an_edited_journal_line_that_is_no_json_is_named(tmp_path: Path, number: int) -> None:
    with POD(tmp_path / "p") as pod:
        for key in "abcde":
            pod[key] = 1
        pod._opened.machine.close(snapshot=False)
    edit(tmp_path / "p" / "journal-00000001", lambda lines: lines.__setitem__(number - 1, "no JSON\n"))
    with pytest.raises(CorruptError, match=f"line {number}: it is not JSON") as caught:
        POD(tmp_path / "p")
    assert caught.value.path == str(tmp_path / "p" / "journal-00000001")


def test_a_torn_tail_is_cut_and_reported(tmp_path: Path) -> None:
    path = crashed(tmp_path)
    journal = path / "journal-00000001"
    whole = journal.read_bytes()
    starts = [0, *(place + 1 for place, byte in enumerate(whole) if byte == 10)][1:-1]
    for size in (starts[-1] + 1, starts[-1] + 60, len(whole) - 1):
        journal.write_bytes(whole[:size])
        shutil.copytree(path, tmp_path / "again")
        with POD(tmp_path / "again") as pod:
            assert list(pod) == ["k0", "k1", "k2", "k3"]
            assert pod.report.cut_bytes == size - starts[-1]
            assert pod.report.cut_path is not None
            assert Path(pod.report.cut_path).read_bytes() == whole[starts[-1] : size]
            pod["more"] = 1
        with POD(tmp_path / "again") as pod:
            assert list(pod) == ["k0", "k1", "k2", "k3", "more"]
        shutil.rmtree(tmp_path / "again")


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"a": {"b": [1, {}]}}) as pod:
        pod["a"]["b"].pop(0)
        pod["x"] = 1
        expected = pod.copy()
    files = [newest_snapshot(tmp_path / "p"), tmp_path / "p" / "journal-00000001"]
    for path in files:
        data = path.read_bytes()
        for place in range(0, len(data), 3):
            path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
            try:
                with POD(tmp_path / "p", mode="r") as pod:
                    # Only what lies before the snapshot is not looked at.
                    assert pod == expected
                    assert path == files[1]
            except StorageError as error:
                assert error.path == str(path)
        path.write_bytes(data)


def test_gzipped_snapshots_are_read_whatever_is_asked_for(tmp_path: Path) -> None:
    with POD(tmp_path / "p", gzipped=True) as pod:
        pod["a"] = ["x" * 100] * 100
    snapshot = newest_snapshot(tmp_path / "p")
    assert snapshot.stat().st_size < 2000
    assert b'"key":"a"' in gzip.decompress(snapshot.read_bytes())
    with POD(tmp_path / "p", gzipped=False) as pod:
        assert len(pod["a"]) == 100
        pod["a"].append(1)
    assert newest_snapshot(tmp_path / "p").read_bytes().startswith(b"{")
    with POD(tmp_path / "p", gzipped=True) as pod:
        pod["b"] = 1
    damaged = newest_snapshot(tmp_path / "p")
    damaged.write_bytes(damaged.read_bytes()[:-20])
    with pytest.raises(CorruptError, match="gzip"):
        POD(tmp_path / "p")


def test_a_cut_off_snapshot_is_damaged(tmp_path: Path) -> None:
    with POD(tmp_path / "p") as pod:
        pod["a"] = 1
    snapshot = newest_snapshot(tmp_path / "p")
    data = snapshot.read_bytes()
    for size in (0, 10, len(data) // 2, len(data) - 30):
        snapshot.write_bytes(data[:size])
        with pytest.raises(CorruptError):
            POD(tmp_path / "p")
    snapshot.write_bytes(data[:-1])  # Some editors leave the last newline out.
    with POD(tmp_path / "p") as pod:
        assert pod == {"a": 1}


def test_file_size_bounds_journal_files(tmp_path: Path) -> None:
    with POD(tmp_path / "p", file_size=1) as pod:
        for number in range(30):
            pod[number] = "x" * 10_000
        assert len(list((tmp_path / "p").glob("journal-*"))) > 3
        expected = pod.copy()
    with POD(tmp_path / "p") as pod:
        assert pod == expected


# ---- for ever


@pytest.mark.parametrize("name", ["killed", "gzipped"])
def test_what_was_once_written_is_read_for_ever(tmp_path: Path, name: str) -> None:
    golden = Path(__file__).resolve().parents[2] / "interop" / "golden" / "dict-v1"
    expected = json.loads((golden / "expected.json").read_text("utf-8"))[name]
    shutil.copytree(golden / name, tmp_path / "p")
    with POD(tmp_path / "p") as pod:
        assert json.loads(json.dumps([list(pair) for pair in pod.items()])) == expected
        assert not pod.report.cut_bytes
        pod["more"] = 1
