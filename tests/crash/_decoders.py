"""Everything that reads bytes which somebody else may have written, as functions to be fuzzed.

A decoder may refuse bytes with an error of perdure's own, and raise nothing else; what it accepts must hold together.
Most formats have checksums, behind which no chance and no fuzzer comes: so each target is given its bytes as they are
and a second time with the checksums put right.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import random
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

import perdure
from perdure.codecs import Codec, get_codec
from perdure.errors import PerdureError
from perdure.journal import BINARY, Draft, FileJournal, SegmentHeader, segment_name
from perdure.machine import outcomes_in
from perdure.mapping import PersistentDict
from perdure.mapping._lines import LinesFraming
from perdure.memo._arrays import ArrayPlace
from perdure.memo._entry import Entry as MemoEntry
from perdure.memo._entry import decode_entry, encode_entry
from perdure.memo._sealed import seal
from perdure.records import COMMAND, HEAD_BYTES, OUTCOME, SEAL, Chain, Entry, encode, scan
from perdure.repair import survey
from perdure.snapshots import FileSnapshotStore, SnapshotHeader, snapshot_name
from perdure.stash import LogStash
from perdure.stash._items import name_in_tail, pack, unpack
from perdure.stash._names import decode as decode_name
from perdure.system import decode_command
from perdure.testing import WrappingFs
from tests.crash._messages import MESSAGES
from tests.unit.system.models import Counter, Page

FIRST = segment_name(1)
LOG_ID = b"a log of bad data"[:16]
SECRET = b"kept elsewhere"


class UnsyncedFs(WrappingFs):
    """Nothing here has to survive anything, and a fuzzer has no time for syncs."""

    def sync(self, fd: int) -> None: ...

    def sync_names(self, directory_fd: int) -> None: ...


BOMBS = [
    b"[" * 20_000, b'{"a":' * 20_000, b"[" * 400 + b"]" * 400, b'{"a":[' + b"9" * 5000 + b"]}", b"1e400", b'"\\ud800"',
    b"\x91" * 20_000, b"\x81\xa1a" * 20_000, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
    b"\xc7\x0c\xff" + b"\x7f" * 12, b"\xd8\x01" + bytes(16),
    b"\x80\x05" + b"]" * 20_000 + b"a" * 19_999 + b".", b"\x80\x05]r\xff\xff\xff\x7f.",
    b"\x80\x05\x8e" + b"\xff" * 8 + b".",
    b"\x80\x05\x8b\xff\xff\xff\x7f.", b"\x80\x05\x95" + b"\xff" * 8 + b".", b"\x80\x05K\x01" + b"2" * 20_000 + b".",
    b"\x80\x05cos\nsystem\n.", b"\x80\x05\x8c\x02os\x8c\x06system\x93.", b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 20,
]  # fmt: skip
"""Deep, and with sizes that nothing has: of JSON, of MessagePack, of pickle, of gzip."""


@dataclass(frozen=True)
class Decoder:
    """``read``: raises what it likes of perdure's own, and nothing else. ``seeds``: whole and right. ``mend``: puts the
    checksums right.
    """

    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    mend: Callable[[bytes], bytes] = field(default=lambda data: data)

    def hostile(self) -> Iterator[bytes]:
        """The fixed corpus: right, nearly right, cut, doubled, deep, and asking for more memory than there is."""
        chance = random.Random(7)
        seeds = self.seeds()
        yield from (b"", bytes(64), b"\xff" * 64, bytes(4096), *BOMBS)
        for seed in seeds:
            yield from (seed, seed + seed, seed + b"\x00", seed[len(seed) // 2 :] + seed[: len(seed) // 2])
            for place in sorted({*range(0, len(seed), max(1, len(seed) // 40)), *range(min(16, len(seed)))}):
                yield seed[:place]
                yield seed[:place] + bytes([seed[place] ^ 1 << chance.randrange(8)]) + seed[place + 1 :]
                yield seed[:place] + chance.choice((b"\x00", b"\xff" * 4, b"\x7f", b"-1")) + seed[place + 1 :]
            for bomb in BOMBS:
                yield seed[: chance.randrange(len(seed) + 1)] + bomb

    def try_both(self, data: bytes) -> None:
        """Reads the bytes as they are, and mended. Whatever is raised here is a finding."""
        for each in {data, self.mend(data)}:
            with contextlib.suppress(PerdureError):
                self.read(each)


@contextlib.contextmanager
def _folder(files: Mapping[str, bytes] = MappingProxyType({})) -> Iterator[str]:
    """A directory that holds these."""
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = tempfile.mkdtemp(prefix="perdure-", dir=parent)
    try:
        for name, data in files.items():
            Path(directory, name).write_bytes(data)
        yield directory
    finally:
        shutil.rmtree(directory)


# ---- records, segments and the recovery of a journal


def _crc(data: bytes | bytearray, start: int, end: int, salt: int = 0) -> bytes:
    return zlib.crc32(bytes(data[start:end]), salt).to_bytes(4, "little")


def _mend_records(data: bytes, offset: int = 0, salt: int = 0) -> bytes:
    """From ``offset`` on, as far as there are heads of records."""
    mended = bytearray(data)
    while offset + HEAD_BYTES <= len(mended):
        end = offset + HEAD_BYTES + int.from_bytes(mended[offset + 8 : offset + 12], "little")
        if end > len(mended):
            break
        mended[offset : offset + 4] = b"\xd7PJ1"
        mended[offset + 4 : offset + 8] = _crc(mended, offset + 8, end, salt)
        offset = end
    return bytes(mended)


def _mend_segment(data: bytes) -> bytes:
    # magic crc size version flags number base created durability log …, as docs/format/journal-v1.md has them
    if len(data) < 80:
        return data
    mended = bytearray(data)
    mended[:8] = b"PERDJRNL"
    size = min(max(int.from_bytes(mended[12:16], "little"), 80), len(mended))
    mended[12:16] = size.to_bytes(4, "little")
    mended[8:12] = _crc(mended, 12, size)
    number, log_id = bytes(mended[20:24]), bytes(mended[48:64])
    return _mend_records(bytes(mended), size, zlib.crc32(log_id + number))


def _records() -> list[bytes]:
    plain = encode(1, 5, COMMAND, b"\x92\xa3add\x91\x01", 0) + encode(2, 6, OUTCOME, b"\x93\x01\xa6raised\xa1x", 1)
    client = encode(1, 5, COMMAND, b"abc", 0, 60, b"c" * 16, 7, more=True) + encode(2, 5, COMMAND, b"", 0)
    chained = encode(1, 5, COMMAND, b"abc", 0, chain=Chain([SECRET]))
    return [plain, client + encode(2, 6, SEAL, b"", 2), chained]


def _scan(data: bytes) -> None:
    for chain in (None, Chain([SECRET])):
        scanned = scan(data, 0, 0, chain=chain)
        assert 0 <= scanned.end <= len(data)
        assert [entry.seq for entry in scanned.entries] == list(range(1, scanned.seq + 1))
        assert scanned.problem is not None or scanned.end == len(data)
        for entry in scanned.entries:
            with contextlib.suppress(PerdureError):
                outcomes_in([entry])
        proof = BINARY.proves_durable(data, scanned.end, scanned.seq + 1)
        assert proof is None or proof >= scanned.end


def _segments() -> list[bytes]:
    header = SegmentHeader(1, 1, 5, LOG_ID, description={"codec": "pickle", "code": {"add": "1"}})
    start = BINARY.encode_header(header, None)
    body = b"".join(encode(seq, 5, COMMAND, b"entry %d" % seq, seq - 1, salt=header.salt) for seq in range(1, 5))
    seal = encode(4, 6, SEAL, b"", 4, salt=header.salt)
    chain = Chain([SECRET])
    authentic = BINARY.encode_header(header, chain) + encode(1, 5, COMMAND, b"x", 0, chain=chain, salt=header.salt)
    return [start, start + body, start + body + seal, authentic]


def _recover(data: bytes) -> None:
    """What opens must take an entry, and hold the same and that entry when it is opened again."""
    with _folder({FIRST: data}) as directory:
        with contextlib.suppress(PerdureError):
            survey(directory)
        found = _reopened(directory, b"one more")
        assert _reopened(directory, b"and another") == [*found, b"one more"]


def _reopened(directory: str, payload: bytes) -> list[bytes]:
    journal = FileJournal(directory, fs=UnsyncedFs())
    try:
        found = [entry.payload for _, entries in journal.read_recovered(0) for entry in entries]
        journal.append([Draft(COMMAND, payload)], expected=journal.last_seq)
        assert [entry.payload for entry in journal.read(0)] == [*found, payload]
    finally:
        journal.close()
    return found


# ---- snapshots


def _snapshots(secret: bytes | None = None) -> list[bytes]:
    found = []
    for content in (b"", b"content" * 9):
        with _folder() as directory:
            store = FileSnapshotStore(directory, fs=UnsyncedFs(), secrets=[secret] if secret else [])
            header = SnapshotHeader(5, 5, LOG_ID, {"codec": "pickle"}, b"\x90")

            def write(file: Any, content: bytes = content) -> None:
                file.write(content)

            draft = store.write(header, write, lambda: bytes(32), lambda file: bytes(32))
            found.append(Path(draft).read_bytes())
    return found


_SNAPSHOT_BLOCK = struct.Struct("<II")


def _mend_snapshot(data: bytes) -> bytes:
    # magic crc size version flags seq time log; blocks of length and crc; a trailer: docs/format/snapshot-v1.md
    if len(data) < 52 + 8 + 108:
        return data
    mended = bytearray(data)
    mended[:8] = b"PERDSNAP"
    size = min(max(int.from_bytes(mended[12:16], "little"), 52), len(mended) - 116)
    mended[12:16] = size.to_bytes(4, "little")
    mended[20:28] = (5).to_bytes(8, "little")
    mended[8:12] = _crc(mended, 12, size)
    trailer = len(mended) - 108
    content = mended[size + 8 : trailer - 8] if trailer - 8 > size else bytearray()
    if content:
        mended[size : size + 8] = _SNAPSHOT_BLOCK.pack(len(content), zlib.crc32(content))
    mended[trailer - 8 : trailer] = bytes(8)
    mended[trailer + 4 : trailer + 12] = len(content).to_bytes(8, "little")
    mended[trailer : trailer + 4] = _crc(mended, trailer + 4, len(mended))
    return bytes(mended)


def _load_snapshot(data: bytes) -> None:
    with _folder({snapshot_name(5): data}) as directory:
        for secrets in ((), (SECRET,)):
            with contextlib.suppress(PerdureError):
                store = FileSnapshotStore(directory, fs=UnsyncedFs(), secrets=secrets)
                store.load(store.snapshot_at(5), lambda file: file.read())
                assert [each.seq for each in store.newest_first()] == [5]
        with contextlib.suppress(PerdureError):
            survey(directory)


# ---- codecs, and the calls that are encoded with them


def _decode_with(codec: Codec) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        with contextlib.suppress(PerdureError):
            codec.decode(data)
        with contextlib.suppress(PerdureError):
            codec.load(io.BytesIO(data))

    return read


VALUES: list[Any] = [
    None, True, -1, 2**40, 1.5, "text ü", b"bytes", [1, [2, {"a": None}]], {"key": [1.0, "x"], "other": {}},
]  # fmt: skip
PICKLED: list[Any] = [{1, 2}, (1, 2), {2: "x"}, Page("n", "t", datetime.datetime(2030, 1, 1))]
CODECS = {
    "pickle": get_codec("pickle", allow=[Page]),
    "json": get_codec("json"),
    "msgpack": get_codec("msgpack"),
}


def _encoded(name: str) -> list[bytes]:
    codec = CODECS[name]
    found = []
    for value in [
        *VALUES,
        *([{1, 2}, (1, 2), {2: "x"}, Page("n", "t", datetime.datetime(2030, 1, 1))] if name == "pickle" else []),
    ]:
        with contextlib.suppress(PerdureError):
            found.append(codec.encode(value))
    return found


def _commands() -> list[bytes]:
    pickled = b"\x00" + CODECS["pickle"].encode(("add", (1,), {}))
    return [msgspec.msgpack.encode(("add", (1,))), msgspec.msgpack.encode(("add", (), {"number": 2})), pickled]


def _replay(payload: bytes) -> None:
    """The payload as the only command of a system's journal: it is replayed, or there is an error."""
    with contextlib.suppress(PerdureError):
        decode_command(CODECS["pickle"], payload)
    with _folder() as directory:
        place = os.path.join(directory, "c")
        counter = perdure.open(Counter, place, fs=UnsyncedFs(), snapshot="manual")
        machine = perdure.control(counter)._system.machine
        assert machine is not None
        machine.close(snapshot=False)
        journal = FileJournal(place, fs=UnsyncedFs(), after=machine.seq, log_id=machine.journal.log_id)
        try:
            journal.append([Draft(COMMAND, payload)], expected=journal.last_seq)
        finally:
            journal.close()
        with perdure.open(Counter, place, fs=UnsyncedFs(), snapshot="manual"):
            pass


# ---- dicts


def _lines() -> list[bytes]:
    framing = LinesFraming()
    header = SegmentHeader(1, 1, 5, LOG_ID, description={"format": "dict"})
    start = framing.encode_header(header, None)
    lines = [
        framing.encode(1, 5, COMMAND, b'{"set":{"a":[1,2]}}', 0, salt=header.salt),
        framing.encode(2, 6, COMMAND, b"\x00\xff", 1, 60, b"c" * 16, 3, salt=header.salt, more=True),
        framing.encode(2, 6, SEAL, b"", 2, salt=header.salt),
    ]
    whole = start + b"".join(lines)
    return [whole, _without_checks(whole)]


def _without_checks(data: bytes) -> bytes:
    """As somebody leaves lines who has edited them: they are believed."""
    lines = data.split(b"\n")
    return b"\n".join(line[: line.rfind(b',"check":"')] + b"}" if b',"check":"' in line else line for line in lines)


def _scan_lines(data: bytes) -> None:
    framing = LinesFraming()
    scanned = framing.scan(data, 0, 0)
    assert [entry.seq for entry in scanned.entries] == list(range(1, scanned.seq + 1))
    header, offset, _ = framing.decode_header(data, "journal-00000001", None)
    framing.scan(data, offset, header.base_seq - 1, salt=header.salt)
    framing.proves_durable(data, offset, header.base_seq, salt=header.salt)


GOLDEN = Path(__file__).parents[1] / "interop" / "golden" / "dict-v1"


def _dict_files(*names: str) -> Callable[[], list[bytes]]:
    """As they are, and as somebody leaves them who has edited every line."""

    def seeds() -> list[bytes]:
        whole = [GOLDEN.joinpath(name).read_bytes() for name in names]
        return [*whole, *(_without_checks(data) for data in whole if not data.startswith(b"\x1f\x8b"))]

    return seeds


def _open_dict(name: str) -> Callable[[bytes], None]:
    """One file of a dict is replaced; what opens must hold the same when it is opened again."""

    def read(data: bytes) -> None:
        files = {each: GOLDEN.joinpath("killed", each).read_bytes() for each in (FIRST, snapshot_name(0))}
        with _folder({**files, name: data}) as directory:
            with PersistentDict(directory, fs=UnsyncedFs()) as pod:
                found = repr(dict(pod))
            with PersistentDict(directory, fs=UnsyncedFs()) as pod:
                assert repr(dict(pod)) == found

    return read


# ---- stashes and stored results


def _stash_log() -> list[bytes]:
    with _folder() as directory:
        with LogStash(Path(directory, "s"), fs=UnsyncedFs()) as stash:
            stash["a"] = [1]
            stash["b"] = "text"
            del stash["a"]
        return [Path(directory, "s", "journal-00000001").read_bytes()]


def _open_stash(data: bytes) -> None:
    with _folder({FIRST: data}) as directory, LogStash(Path(directory), fs=UnsyncedFs()) as stash:
        for name in list(stash.keys()):
            with contextlib.suppress(PerdureError):
                stash.load(name)


def _stash_base(data: bytes) -> None:
    with _folder({"base": data}) as directory, LogStash(Path(directory), fs=UnsyncedFs()) as stash:
        list(stash.keys())


def _read_item(data: bytes) -> None:
    needed, name = name_in_tail(data)
    assert needed >= 0
    item = unpack(data, "item")
    assert name is None or not item.verified or item.name == name
    CODECS["pickle"].decode(item.value)


def _mend_item(data: bytes) -> bytes:
    if len(data) < 16:
        return data
    return data[:-12] + zlib.crc32(data[:-12]).to_bytes(4, "little") + b"PERDITM1"


def _read_result(data: bytes) -> None:
    entry = decode_entry(data)
    if entry is not None:
        CODECS["pickle"].decode(entry.payload)


def _name_of_file(data: bytes) -> None:
    for size in (100, 200):
        # No file system has longer ones.
        decode_name(data[:255].decode("utf-8", "surrogateescape"), size)


def _results() -> list[bytes]:
    place = msgspec.msgpack.encode(ArrayPlace("a", 100, 64, "<f8", (2, 3), False))
    whole = MemoEntry("module.f", b"k" * 16, b"c" * 16, 5, "value", "pickle", CODECS["pickle"].encode([1]))
    return [
        b"".join(encode_entry(each)) for each in (whole, msgspec.structs.replace(whole, kind="array", payload=place))
    ]


DECODERS: dict[str, Decoder] = {
    "records": Decoder(_scan, _records, _mend_records),
    "journal recovery": Decoder(_recover, _segments, _mend_segment),
    "snapshot": Decoder(_load_snapshot, lambda: [*_snapshots(), *_snapshots(SECRET)], _mend_snapshot),
    "pickle": Decoder(_decode_with(CODECS["pickle"]), lambda: _encoded("pickle")),
    "json": Decoder(_decode_with(CODECS["json"]), lambda: _encoded("json")),
    "msgpack": Decoder(_decode_with(CODECS["msgpack"]), lambda: _encoded("msgpack")),
    "outcome": Decoder(
        lambda data: outcomes_in([Entry(1, 5, OUTCOME, data)]), lambda: [b"\x93\x01\xa6raised\xa1x", b"\x94\x01"]
    ),
    "command": Decoder(_replay, _commands),
    "dict lines": Decoder(_scan_lines, _lines, _without_checks),
    "dict journal": Decoder(_open_dict(FIRST), _dict_files(f"killed/{FIRST}", f"gzipped/{FIRST}"), _without_checks),
    "dict snapshot": Decoder(
        _open_dict(snapshot_name(0)),
        _dict_files(f"killed/{snapshot_name(0)}", f"killed/{snapshot_name(4)}", f"gzipped/{snapshot_name(1)}"),
        _without_checks,
    ),
    "stash log": Decoder(_open_stash, _stash_log, _mend_segment),
    "stash base": Decoder(_stash_base, lambda: [b"0", b"17"]),
    "stash item": Decoder(
        _read_item, lambda: [b"".join(pack(CODECS["pickle"].encode([1]), name)) for name in (None, "n")], _mend_item
    ),
    "file name": Decoder(_name_of_file, lambda: [b"plain", b"%c3%bc", b"%2e%2e", b"%ff"]),
    **{name: Decoder(read, seeds, mend) for name, (read, seeds, mend) in MESSAGES.items()},
    "stored result": Decoder(_read_result, _results, lambda data: b"".join(seal(data[24:]))),
}
"""By the name of what is read. ``Decoder.try_both`` is what a fuzzer calls."""
