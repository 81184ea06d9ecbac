"""The feed's bytes, and what a publisher makes of questions that make no sense."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import perdure
from perdure.errors import CorruptError, FormatVersionError
from perdure.records import COMMAND, OUTCOME, Entry
from perdure.replica import FeedRefusedError, Publisher
from perdure.replica import _frames as frames
from perdure.system import system_of
from tests.unit.replica.models import Wiki

PAGE = Path(__file__).resolve().parents[3] / "docs" / "format" / "feed-v1.md"
SALT = frames.salt_of(b"example of a log")

entry_parts = st.tuples(
    st.sampled_from([COMMAND, OUTCOME]), st.binary(max_size=80), st.integers(0, 2**62), st.booleans(),
    st.sampled_from([(b"", 0), (b"c" * 16, 7)]),
)  # fmt: skip


@st.composite
def entries(draw: Any, after: int = 0) -> list[Entry]:
    parts = draw(st.lists(entry_parts, min_size=1, max_size=8))
    return [
        Entry(seq, at_ns, kind, payload, 60, client, counter, more)
        for seq, (kind, payload, at_ns, more, (client, counter)) in enumerate(parts, after + 1)
    ]


@given(entries(), st.booleans(), st.integers(1, 50))
def test_entries_come_as_they_were_sent_however_the_stream_is_cut(
    sent: list[Entry], settled: bool, piece_bytes: int
) -> None:
    data = frames.encode_entries(sent, SALT, settled=settled) + frames.encode_message(frames.CHECK, 7)
    reader = frames.FrameReader()
    found = [
        frame for start in range(0, len(data), piece_bytes) for frame in reader.feed(data[start : start + piece_bytes])
    ]
    assert [frame.kind for frame in found] == [frames.ENTRIES, frames.CHECK]
    assert found[0].flags == (frames.FLAG_SETTLED if settled else 0)
    assert frames.decode_entries(found[0].body, 0, SALT) == sent


@given(entries(), st.data())
def test_a_flipped_bit_is_never_taken_for_an_entry(sent: list[Entry], data: st.DataObject) -> None:
    stream = bytearray(frames.encode_entries(sent, SALT, settled=True))
    place = data.draw(st.integers(0, len(stream) * 8 - 1))
    stream[place // 8] ^= 1 << place % 8
    try:
        found = list(frames.FrameReader().feed(bytes(stream)))
    except CorruptError:
        return
    # The length says that more is to come: then nothing is believed either.
    assert found == []


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_corrupt_error(data: bytes) -> None:
    reader = frames.FrameReader()
    try:
        for frame in reader.feed(data):
            frames.check_hello(frame)
    except (CorruptError, FormatVersionError):
        return


@given(st.binary(max_size=200), st.sampled_from([frames.Heartbeat, frames.Digested, frames.End, frames.Hello, int]))
def test_messages_of_random_bytes_are_refused_or_read(body: bytes, kind: Any) -> None:
    try:
        frames.decode_message(frames.Frame(frames.HEARTBEAT, 0, body), kind)
    except CorruptError:
        return


def test_entries_of_another_log_or_another_place_are_refused() -> None:
    body = frames.encode_entries([Entry(1, 5, COMMAND, b"x")], SALT, settled=True)[12:]
    with pytest.raises(CorruptError):
        frames.decode_entries(body, 0, frames.salt_of(b"another log, 16b"))
    with pytest.raises(CorruptError):
        frames.decode_entries(body, 4, SALT)


def test_a_newer_format_is_said_to_be_newer() -> None:
    hello = frames.Hello(frames.VERSION + 1, bytes(16), 0, 0, {})
    (frame,) = frames.FrameReader().feed(frames.encode_message(frames.HELLO, hello))
    with pytest.raises(FormatVersionError):
        frames.check_hello(frame)


def test_the_page_shows_the_bytes_that_are_sent() -> None:
    sent = [Entry(1, 1_795_219_200_000_000_000, COMMAND, b"\x92\xa3add\x91\x05", 60)]
    data = frames.encode_entries(sent, SALT, settled=True)
    shown = re.search(r"```hexdump\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert shown is not None
    assert bytes.fromhex("".join(line.split("  ")[1] for line in shown[1].splitlines())) == data


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"after": "-1"}, "malformed"), ({"after": "x"}, "malformed"), ({"after": "9" * 30}, "malformed"),
        ({"after": "٣"}, "malformed"), ({"after": "0", "log": "zz"}, "malformed"), ({"term": "1e9"}, "malformed"),
        ({"after": "0", "log": "0" * 32}, "log"), ({"after": "7"}, "ahead"), ({"after": "0", "term": "3"}, "fenced"),
        ({"after": "1", "last": "0" * 16}, "diverged"),
    ],
    ids=range(10),
)  # fmt: skip
def test_questions_that_make_no_sense_are_refused_by_name(tmp_path: Path, query: Any, reason: str) -> None:
    with perdure.open(Wiki, tmp_path / "w") as wiki:
        wiki.put("a", 1)
        machine = system_of(wiki).machine
        assert machine is not None
        publisher = Publisher(machine)
        with pytest.raises(FeedRefusedError) as caught:
            publisher.feed(query)
        assert caught.value.reason == reason
        assert 400 <= caught.value.status < 500
        # Nobody who may only read stops a primary.
        assert wiki.put("b", 2) == 2
        publisher.close()
        with pytest.raises(FeedRefusedError, match="closing"):
            publisher.feed({"after": "0"})


def test_a_system_in_memory_cannot_be_followed() -> None:
    with perdure.open(Wiki, perdure.MEMORY) as wiki:
        machine = system_of(wiki).machine
        assert machine is not None
        with pytest.raises(perdure.UsageError, match="in a directory"):
            Publisher(machine)
