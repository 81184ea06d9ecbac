"""Messages between processes and machines, to be fuzzed: see ``_decoders.py``."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from perdure.cluster import _entries
from perdure.codecs import get_codec
from perdure.errors import PerdureError
from perdure.records import GROUP, TERM
from perdure.shared import _frames
from perdure.wire import (
    JSON,
    MSGPACK,
    OWN,
    BodyError,
    client_key,
    decode_call,
    encode_answer,
    encode_call,
    encode_failure,
    exception_of,
    failure_of,
    identify,
    read_answer,
    read_failure,
    wire_codec,
)
from tests.unit.system.models import Counter

_CODEC = wire_codec(Counter)
_FORMATS = (JSON, MSGPACK, OWN)


@contextlib.contextmanager
def refusing(*errors: type[Exception]) -> Iterator[None]:
    with contextlib.suppress(PerdureError, *errors):
        yield


def call_body(data: bytes) -> None:
    for kind in _FORMATS:
        with refusing(BodyError):
            decode_call(kind, "add", data, _CODEC, depth_max=50)


def answer_body(data: bytes) -> None:
    for kind in _FORMATS:
        for returns in (Any, int, dict[str, list[int]]):
            with refusing():
                read_answer(kind, data, returns, _CODEC)


def failure_body(data: bytes) -> None:
    for kind in _FORMATS:
        with refusing():
            assert isinstance(exception_of(read_failure(kind, data), Counter, _CODEC), BaseException)


def request_key(data: bytes) -> None:
    with refusing(ValueError):
        client, counter = identify(data.decode("latin-1"), "who")
        assert len(client) == 16
        assert counter >= 1


def shared_message(data: bytes) -> None:
    for read in (_frames.read_request, _frames.read_answer):
        with refusing(_frames.GoneError):
            read(data)


def cluster_entry(data: bytes) -> None:
    with refusing():
        _entries.decode_head(data, 1)
        for kind in (_entries.Genesis, _entries.Term, _entries.Mark, _entries.Announcement, _entries.Vote):
            with refusing():
                _entries.decode_body(data, kind, 1)
        _entries.decode_group(data, 1)


def mend_cluster_entry(data: bytes) -> bytes:
    return zlib.crc32(data[4:]).to_bytes(4, "little") + data[4:]


def _calls() -> list[bytes]:
    own = [encode_call("add", (1,), {"x": [1, "ü"]}, codec)[1] for codec in (None, _CODEC)]
    return [*own, b'{"args":[1,{"a":"\\u00fc"}],"kwargs":{"x":null}}']


def _answers() -> list[bytes]:
    return [encode_answer(kind, {"a": [1, "ü"]}, _CODEC) for kind in _FORMATS]


def _failures() -> list[bytes]:
    return [encode_failure(kind, failure_of(ValueError("ü", 1), _CODEC)) for kind in (JSON, MSGPACK)]


def _entry_seeds() -> list[bytes]:
    group = _entries.encode_group([_entries.Request(b"a"), _entries.Request(b"b", b"c" * 16, 3)])
    term = _entries.encode_body(_entries.Term(b"session"))
    head = _entries.Head(GROUP, 60, 5, 7)
    return [_entries.encode_entry(head, group), _entries.encode_entry(head._replace(kind=TERM), term)]


def _shared_seeds() -> list[bytes]:
    return [msgspec.msgpack.encode((1, 2, get_codec("json").encode(["ü"]))), msgspec.msgpack.encode((0, {"a": "ü"}))]


Reader = Callable[[bytes], None]
Seeds = Callable[[], list[bytes]]
MESSAGES: dict[str, tuple[Reader, Seeds, Callable[[bytes], bytes]]] = {
    "call": (call_body, _calls, bytes),
    "answer": (answer_body, _answers, bytes),
    "failure": (failure_body, _failures, bytes),
    "request key": (request_key, lambda: [client_key(b"c" * 16, 7).encode(), b"a key"], bytes),
    "shared message": (shared_message, _shared_seeds, bytes),
    "cluster entry": (cluster_entry, _entry_seeds, mend_cluster_entry),
}
"""What reads it, what is right, and what puts the checksum right."""
