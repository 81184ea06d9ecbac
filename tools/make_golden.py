"""Writes golden directories with today's code: make_golden.py FOLDER.

They are made once for each version of a format and read for ever by ``tests/interop/test_golden.py``. FOLDER must not
exist: a golden directory is never written anew, because what an earlier perdure wrote is the point of it.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import json
import os
import shutil
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import perdure  # noqa: E402
from perdure import records  # noqa: E402
from tests.interop.golden_classes import Mood, Note, Notes, Plain  # noqa: E402

SECRETS = [b"the newer key", b"the older key"]


class TickingClock:
    """Half a second later at each look, from a fixed moment on."""

    def __init__(self) -> None:
        self._now_ns = 1_795_219_200_000_000_000  # 2026-11-21 00:00 UTC

    def time_ns(self) -> int:
        self._now_ns += 500_000_000
        return self._now_ns


def first_half(notes: Notes) -> None:
    notes.write("Home", "Welcome")
    notes.write("Größe", "日本語 " * 5)
    notes.draw()
    with contextlib.suppress(ValueError):
        notes.half()


def second_half(notes: Notes) -> None:
    notes.put("Put", Note("by reference", datetime.datetime(2026, 1, 2, 3, 4), Mood.LOUD, ("a", "b")), again=True)
    with contextlib.suppress(KeyError):
        notes.nothing()
    notes.add(decimal.Decimal("12.50"), {"Ann", "Bob"})
    notes.draw()


def several_segments(directory: Path, **options: Any) -> None:
    """Two segments that were ended, a snapshot between, and one that its writer left as a kill leaves it."""
    clock = TickingClock()
    with perdure.open(Notes, directory, clock=clock, keep_history=True, **options) as notes:
        first_half(notes)
    live = directory.with_name(directory.name + ".live")
    with perdure.open(Notes, directory, clock=clock, keep_history=True, **options) as notes:
        second_half(notes)
        perdure.control(notes).take_snapshot()
    with perdure.open(Notes, directory, clock=clock, keep_history=True, snapshot="manual", **options) as notes:
        first_half(notes)
        second_half(notes)
        time.sleep(0.3)  # An idle writer puts a mark behind its last entry.
        shutil.copytree(directory, live)
    shutil.rmtree(directory)
    live.rename(directory)


def one_segment(directory: Path, **options: Any) -> Path:
    """All entries in one segment behind the initial snapshot, as a kill leaves it. Returns the segment."""
    live = directory.with_name(directory.name + ".live")
    with perdure.open(Notes, directory, clock=TickingClock(), snapshot="manual", **options) as notes:
        first_half(notes)
        second_half(notes)
        time.sleep(0.3)
        shutil.copytree(directory, live)
    shutil.rmtree(directory)
    live.rename(directory)
    return directory / "journal-00000001"


def offsets(segment: Path) -> list[int]:
    """Where the records of a segment begin; marks, too."""
    data = segment.read_bytes()
    found = [data.find(records.MAGIC)]
    while (following := data.find(records.MAGIC, found[-1] + 1)) >= 0:
        found.append(following)
    return found


def torn(directory: Path) -> None:
    segment = one_segment(directory)
    # Without the mark, and with a part of the last record.
    os.truncate(segment, offsets(segment)[-2] + 45)


def flipped(directory: Path) -> None:
    segment = one_segment(directory)
    data = bytearray(segment.read_bytes())
    data[offsets(segment)[1] + 50] ^= 4
    segment.write_bytes(data)


def missing_segment(directory: Path) -> None:
    several_segments(directory)
    for path in directory.glob("snapshot-*"):
        if int(path.name[-20:]) > 0:
            path.unlink()
    (directory / "journal-00000002").unlink()


def damaged_snapshot(directory: Path) -> None:
    several_segments(directory)
    newest = max(directory.glob("snapshot-*"))
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)


def no_good_snapshot(directory: Path) -> None:
    one_segment(directory)
    for path in directory.glob("snapshot-*"):
        path.write_bytes(path.read_bytes()[:-1])


def newer_version(directory: Path) -> None:
    segment = one_segment(directory)
    data = bytearray(segment.read_bytes())
    data[16] = 2
    size = int.from_bytes(data[12:16], "little")
    data[8:12] = zlib.crc32(data[12:size]).to_bytes(4, "little")
    segment.write_bytes(data)


def plain(codec: str) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        live = directory.with_name(directory.name + ".live")
        with perdure.open(Plain, directory, codec=codec, clock=TickingClock(), snapshot="manual") as system:
            system.add(1)
            perdure.control(system).take_snapshot()
            system.add({"name": "Ann", "scores": [1, 2.5, None, True]})
            system.add("日本語")
            time.sleep(0.3)
            shutil.copytree(directory, live)
        shutil.rmtree(directory)
        live.rename(directory)

    return make


MAKERS: dict[str, tuple[Callable[[Path], None], type, dict[str, Any]]] = {
    "several-segments": (several_segments, Notes, {}),
    "secret": (lambda path: several_segments(path, secret=SECRETS[1:]), Notes, {"secret": True}),
    "json": (plain("json"), Plain, {"codec": "json"}),
    "msgpack": (plain("msgpack"), Plain, {"codec": "msgpack"}),
    "torn-tail": (torn, Notes, {}),
    "damaged-record": (flipped, Notes, {}),
    "damaged-snapshot": (damaged_snapshot, Notes, {}),
    "no-good-snapshot": (no_good_snapshot, Notes, {}),
    "missing-segment": (missing_segment, Notes, {}),
    "newer-version": (newer_version, Notes, {}),
}


def read(directory: Path, cls: type, options: dict[str, Any]) -> dict[str, Any]:
    """What opening a copy of a golden directory gives: the state and the commands, or the error."""
    given = dict(options)
    if given.pop("secret", False):
        given["secret"] = SECRETS
    try:
        with perdure.open(cls, directory, keep_history=True, snapshot="manual", **given) as system:
            control = perdure.control(system)
            history = [
                [command.seq, command.at.isoformat(), command.method, command.outcome, command.error]
                for command in control.history(after=control.report.snapshot_seq)
            ]
            return {
                "seq": control.seq,
                "digest": control.digest(),
                "view": system.view(),
                "history": history,
                "snapshot_seq": control.report.snapshot_seq,
                "replayed": control.report.replayed,
                "cut_bytes": control.report.cut_bytes,
                "quarantined": len(control.report.quarantined),
            }
    except perdure.PerdureError as error:
        place = os.path.basename(error.path) if error.path else None
        return {"error": type(error).__name__, "file": place, "seq": error.seq, "offset": error.offset}


def main(folder: Path) -> None:
    os.environ["TZ"] = "Asia/Kolkata"  # An offset from UTC that is not a whole hour, to be seen in the files.
    time.tzset()
    folder.mkdir(parents=True)
    for name, (make, cls, options) in MAKERS.items():
        directory = folder / name
        make(directory)
        copy = folder / f"{name}.copy"
        shutil.copytree(directory, copy)
        expected = {"class": cls.__name__, "options": options, **read(copy, cls, options)}
        shutil.rmtree(copy)
        text = json.dumps(expected, indent=1, ensure_ascii=False)
        (folder / f"{name}.json").write_text(text + "\n", "utf-8")
        print(f"{name}: {expected.get('error') or expected['seq']}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
