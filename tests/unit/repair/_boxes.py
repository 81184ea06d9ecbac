"""Small systems with many segments, and ways to damage them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perdure.codecs import Pickle
from perdure.fs import Fs
from perdure.machine import Machine, Place, open_machine
from perdure.system import ObjectState, encode_command

SEGMENT_BYTES_MAX = 400
"""A segment ends after three or four commands."""


class Box:
    """Holds what was added, so that its content tells which commands were replayed."""

    def __init__(self) -> None:
        self.items: list[int] = []

    def add(self, item: int) -> None:
        self.items.append(item)

    def refuse(self) -> None:
        raise ValueError("no")


class OpenBox:
    """A box opened for writing."""

    def __init__(
        self, directory: Path, *, secrets: Sequence[bytes] = (), keep_history: bool = True, fs: Fs | None = None
    ) -> None:
        self.state = ObjectState(Box, Pickle(allow=[Box]))
        place = Place(
            str(directory),
            snapshot="manual",
            keep_history=keep_history,
            secrets=secrets,
            segment_bytes_max=SEGMENT_BYTES_MAX,
            forks=False,
            fs=fs or Fs(),
        )
        self.machine: Machine
        self.machine, self.report = open_machine(self.state, Box, place)

    def add(self, item: int) -> None:
        payload, args, kwargs = encode_command(self.state.codec, "add", (item,), {})
        self.machine.handle(payload, (self.state.function("add"), args, kwargs))

    @property
    def items(self) -> list[int]:
        return list(self.state.root.items)

    def __enter__(self) -> OpenBox:
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.close(snapshot=False)


def make(
    directory: Path,
    count: int = 20,
    *,
    snapshots: Sequence[int] = (),
    secrets: Sequence[bytes] = (),
    keep_history: bool = True,
) -> Path:
    """A box with the numbers 1 to ``count``, each in the entry of the same seq, and snapshots after some of them."""
    with OpenBox(directory, secrets=secrets, keep_history=keep_history) as box:
        for number in range(1, count + 1):
            box.add(number)
            if number in snapshots:
                box.machine.snapshot()
    return directory


def segment(directory: Path, number: int) -> Path:
    return directory / f"journal-{number:08d}"


def snapshot(directory: Path, seq: int) -> Path:
    return directory / f"snapshot-{seq:020d}"


def segment_count(directory: Path) -> int:
    return len(list(directory.glob("journal-*")))


def flip(path: Path, offset: int) -> None:
    """Changes one bit; a negative offset counts from the end."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def flip_entry(directory: Path, seq: int) -> Path:
    """Damages the record of one entry; returns the file."""
    for path in sorted(directory.glob("journal-*"), reverse=True):
        data = path.read_bytes()
        at = data.find(b"\xd7PJ1")
        while at >= 0:
            if int.from_bytes(data[at + 16 : at + 24], "little") == seq and data[at + 12] < 0x80:
                flip(path, at + 46)
                return path
            at = data.find(b"\xd7PJ1", at + 1)
    raise AssertionError(f"no entry {seq}")


def content(directory: Path) -> list[bytes]:
    """What each file holds, wherever it is."""
    return [path.read_bytes() for path in directory.rglob("*") if path.is_file()]
