"""What people hand it, and what they find in the folder: a named error with path, seq and hint; nothing is lost."""

from __future__ import annotations

import datetime
import errno
import functools
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.errors import PerdureError, StorageError
from perdure.fs import Fs
from perdure.journal import SegmentHeader
from perdure.records import COMMAND, encode
from perdure.repair import repair
from perdure.snapshots import FileSnapshotStore, SnapshotHeader
from perdure.testing import FaultyFs, FrozenClock, assert_replayable
from tests.unit.system import models
from tests.unit.system.models import Counter, Plain, Wiki


def journals(directory: Path) -> list[Path]:
    return sorted(directory.glob("journal-*"))


def snapshots(directory: Path) -> list[Path]:
    return sorted(directory.glob("snapshot-*"))


def content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def filled(directory: Path, count: int = 5, *, snapshot_after: tuple[int, ...] = (), **options: Any) -> list[int]:
    """A counter with the numbers 1 to ``count``, closed without a last snapshot."""
    counter = perdure.open(Counter, directory, snapshot="manual", **options)
    for number in range(1, count + 1):
        counter.add(number)
        if number in snapshot_after:
            perdure.control(counter).take_snapshot()
    perdure.control(counter).close()
    return list(range(1, count + 1))


def refused(kind: type[PerdureError], action: Callable[[], Any], directory: Path) -> PerdureError:
    """The error; the folder is as it was."""
    before = content(directory)
    with pytest.raises(kind) as caught:
        action()
    assert content(directory) == before
    return caught.value


def flip(path: Path, offset: int = -10) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


# ---- arguments


class Unstorable:
    def __reduce__(self) -> Any:
        raise TypeError("not me")


@pytest.mark.parametrize(
    "value",
    [lambda: 1, Unstorable(), os.environ, (x for x in ()), sys, subprocess.Popen, open],
    ids=lambda value: type(value).__name__,
)
def test_an_argument_that_cannot_be_stored_changes_nothing(tmp_path: Path, value: Any) -> None:
    with perdure.open(Plain, tmp_path / "p") as plain:
        plain.put("a", 1)
        for call in (
            lambda: plain.put("b", value),
            lambda: plain.put("b", value={"deep": [value]}),
            lambda: setattr(plain, "extra", value),
        ):
            with pytest.raises(perdure.CodecError) as caught:
                call()
            assert caught.value.hint
            assert "argument" in str(caught.value)
        assert (plain.data, plain.items) == ({"a": 1}, ["a"])
        assert perdure.control(plain).seq == 1
        plain.put("c", 2)
    with perdure.open(Plain, tmp_path / "p") as plain:
        assert plain.items == ["a", "c"]


def test_the_argument_is_named() -> None:
    with perdure.open(Plain, perdure.MEMORY) as plain:
        with pytest.raises(perdure.CodecError, match=r"put\(\): argument 2"):
            plain.put("a", sys)
        with pytest.raises(perdure.CodecError, match=r"put\(\): argument value="):
            plain.put("a", value=[sys])


def test_too_few_arguments_are_the_methods_own_error(tmp_path: Path) -> None:
    with perdure.open(Counter, tmp_path / "c") as counter:
        with pytest.raises(TypeError):
            counter.add(1, 2, 3)  # type: ignore[call-arg]
        counter.add(2)
        assert_replayable(counter)
    with perdure.open(Counter, tmp_path / "c") as counter:
        assert counter.added == [2]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_plain_codecs_refuse_what_they_would_change(tmp_path: Path, codec: str) -> None:
    with perdure.open(Plain, tmp_path / "p", codec=codec) as plain:
        for value in ({1: 2}, {1, 2}, 2**64, object(), float("nan")):
            before = perdure.control(plain).seq
            try:
                plain.put("k", [value])
            except perdure.CodecError:
                assert perdure.control(plain).seq == before
            else:
                assert_replayable(plain)


@pytest.mark.parametrize(
    "options",
    [
        {"durability": "sometimes"},
        {"codec": "xml"},
        {"snapshot": 0},
        {"snapshot": -1},
        {"snapshot": float("nan")},
        {"snapshot": True},
        {"snapshot": "weekly"},
        {"rollback": "hope"},
        {"validate": "maybe"},
        {"mode": "a"},
        {"secret": b""},
        {"secret": []},
        {"secret": "text"},
        {"secret": bytes},
        {"clock": 12.5},
        {"clock": FrozenClock},
        {"clock": 12.5, "shared": True},
        {"clock": 12.5, "mode": "r"},
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_creates_nothing(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(perdure.UsageError) as caught:
        perdure.open(Counter, tmp_path / "c", **options)
    assert caught.value.hint
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("target", [int, str, tuple, lambda: 3, lambda: None], ids=["int", "str", "tuple", "3", "None"])
def test_what_could_never_change_is_no_system(tmp_path: Path, target: Any) -> None:
    with pytest.raises(perdure.UsageError, match="could never change"):
        perdure.open(target, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_the_past_is_asked_for_by_seq_or_datetime(tmp_path: Path) -> None:
    with perdure.open(Counter, tmp_path / "c") as counter:
        for when in ("yesterday", datetime.date(2026, 1, 1), None, 1.5):
            with pytest.raises(perdure.UsageError, match="neither a seq nor a datetime"):
                perdure.control(counter).at(when)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://localhost/x", "no engine is called redis"),
        ("nats:///x", "names no host"),
        ("nats://localhost:4222/", "names no system"),
        ("nats://localhost:4222/a b", "names no system"),
        ("nats://localhost:port/x", "a port that is no number"),
        ("nats://localhost:4222/x?wrong=1", "no option is called wrong"),
        ("nats://localhost:4222/x?replicas=2", "replicas=2"),
        ("postgresql://localhost/database", "names no system"),
    ],
)
def test_a_wrong_engine_url_is_refused(url: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(perdure.UsageError, match=said):
        perdure.open(Counter, url)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["redis://u:hidden@h/x", "nats://hidden@h:4222/x?no=1", "postgresql://u:hidden@h/d"])
def test_the_message_about_a_url_holds_no_password(url: str) -> None:
    with pytest.raises(perdure.UsageError) as caught:
        perdure.open(Counter, url)
    assert "hidden" not in str(caught.value)


def test_options_of_engines_are_refused_for_a_directory_and_the_other_way_round(tmp_path: Path) -> None:
    with pytest.raises(perdure.UsageError, match="for engines"):
        perdure.open(Counter, tmp_path / "x", leader=True)
    with pytest.raises(perdure.UsageError, match="has no meaning on an engine"):
        perdure.open(Counter, "nats://localhost:4222/x", durability="never")
    with pytest.raises(TypeError, match="leeder"):
        perdure.open(Counter, tmp_path / "x", leeder=True)  # type: ignore[call-overload]
    assert not list(tmp_path.iterdir())


def test_what_is_no_system_has_no_control() -> None:
    for thing in (Counter(), None, 1, Counter):
        with pytest.raises(perdure.UsageError):
            perdure.control(thing)


# ---- hostile bytes


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/perdure-was-here-evil",)


HOSTILE = [
    pickle.dumps(("add", (Evil(),), {})),
    b"cos\nsystem\n(S'touch /tmp/perdure-was-here-evil'\ntR.",
    b"\x80\x04cbuiltins\neval\n(S'1'\ntR.",
    pickle.dumps(("add", (), {}), 2)[:-1],
    b"",
]


def segment_salt(path: Path) -> int:
    log_id = path.read_bytes()[48:64]  # Where the format has it; the header may be authenticated.
    return SegmentHeader(int(path.name[-8:]), 0, 0, log_id).salt


def append_record(directory: Path, payload: bytes, seq: int) -> None:
    """A record whose checksum is right, behind the last one of the last segment, which has no seal then."""
    path = journals(directory)[-1]
    data = path.read_bytes()
    at = data.rfind(b"\xd7PJ1")
    while data[at + 12] >= 0x80:  # marks and the seal
        at = data.rfind(b"\xd7PJ1", 0, at)
    end = at + 40 + int.from_bytes(data[at + 8 : at + 12], "little")
    salt = segment_salt(path)
    record = encode(seq, time.time_ns(), COMMAND, payload, seq - 1, salt=salt)
    mark = encode(seq, time.time_ns(), 0x80, b"", seq, salt=salt)
    path.write_bytes(data[:end] + record + mark)


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_pickle_in_a_record_is_not_run(tmp_path: Path, number: int) -> None:
    directory = tmp_path / "c"
    filled(directory, 3)
    append_record(directory, b"\x00" + HOSTILE[number], 4)
    error = refused(perdure.CodecError, lambda: perdure.open(Counter, directory), directory)
    assert error.seq == 4
    assert error.path is not None
    assert error.hint
    assert not Path("/tmp/perdure-was-here-evil").exists()
    error = refused(perdure.CodecError, lambda: perdure.open(Counter, directory, mode="r"), directory)
    assert error.seq == 4


def test_a_record_that_holds_no_call_is_an_error(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    for payload in (b"\xc1", b"\x90", b"\x91\xa3add", b"\x92\x01\x90", b"\x92\xa3add\x01", b"\x93\xa3add\x90\x01"):
        shutil.rmtree(directory, ignore_errors=True)
        filled(directory, 2)
        append_record(directory, payload, 3)
        error = refused(PerdureError, lambda: perdure.open(Counter, directory), directory)
        assert error.seq == 3


def test_a_record_that_calls_what_is_no_method_is_an_error(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    for method in (b"__class__", b"__init_subclass__x", b"nothing"):
        shutil.rmtree(directory, ignore_errors=True)
        filled(directory, 2)
        append_record(directory, b"\x92" + bytes([0xA0 + len(method)]) + method + b"\x90", 3)
        error = refused(PerdureError, lambda: perdure.open(Counter, directory), directory)
        assert error.seq == 3


def plant_snapshot(directory: Path, seq: int, data: bytes) -> None:
    store = FileSnapshotStore(str(directory))
    newest = store.newest_first()[0].header
    header = SnapshotHeader(seq, newest.at_ns, newest.log_id, newest.description)

    def dump(file: Any) -> None:
        file.write(data)

    store.publish(store.write(header, dump, lambda: bytes(32), lambda _: bytes(32)), header)


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_pickle_in_a_snapshot_is_not_run(tmp_path: Path, number: int) -> None:
    directory = tmp_path / "c"
    filled(directory, 3)
    plant_snapshot(directory, 3, HOSTILE[number])
    error = refused(perdure.CodecError, lambda: perdure.open(Counter, directory), directory)
    assert error.path is not None
    assert "snapshot" in error.path
    assert error.seq == 3
    assert error.hint
    assert not Path("/tmp/perdure-was-here-evil").exists()


def test_a_snapshot_of_another_class_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    filled(directory, 3)
    plant_snapshot(directory, 3, pickle.dumps([1, 2]))
    error = refused(perdure.CodecError, lambda: perdure.open(Counter, directory), directory)
    assert "list" in str(error)


# ---- the folder


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    filled(directory, 3)
    foreign = {
        "README": b"mine",
        "journal-x": b"not a segment",
        "snapshot-5": b"no",
        "notes.tmp": b"mine",
        ".hidden": b"",
        "journal-00000001.bak": b"a copy",
        "snapshot-00000000000000000009.old": b"a copy",
    }
    for name, data in foreign.items():
        (directory / name).write_bytes(data)
    (directory / "journal-folder").mkdir()
    for _ in range(2):
        with perdure.open(Counter, directory) as counter:
            counter.add(1)
            perdure.control(counter).take_snapshot()
    assert {name: (directory / name).read_bytes() for name in foreign} == foreign
    assert (directory / "journal-folder").is_dir()


def test_a_folder_full_of_something_else_is_only_added_to(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    directory.mkdir(mode=0o700)
    (directory / "holiday.jpg").write_bytes(b"\xff\xd8")
    with perdure.open(Counter, directory) as counter:
        counter.add(1)
    assert (directory / "holiday.jpg").read_bytes() == b"\xff\xd8"


@pytest.mark.parametrize("where", ["", "a\0b", 5, object()])
def test_what_names_no_directory_is_refused(where: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(perdure.UsageError, match="names no directory"):
        perdure.open(Counter, where)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
@pytest.mark.parametrize("mode", ["rw", "r"])
def test_what_is_no_file_is_not_read_and_holds_nobody_up(tmp_path: Path, kind: str, mode: Any) -> None:
    directory = tmp_path / "c"
    filled(directory, 3)
    for path in (*journals(directory), *snapshots(directory)):
        aside = tmp_path / "aside"
        path.rename(aside)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(aside)
        with pytest.raises(StorageError) as caught:
            perdure.open(Counter, directory, mode=mode)
        assert caught.value.path == str(path)
        path.rmdir() if kind == "folder" else path.unlink()
        aside.rename(path)
    with perdure.open(Counter, directory) as counter:
        assert counter.added == [1, 2, 3]


def test_a_file_where_the_folder_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("mine")
    for mode in ("rw", "r"):
        with pytest.raises(PerdureError) as caught:
            perdure.open(Counter, tmp_path / "c", mode=mode)  # type: ignore[arg-type]
        assert caught.value.path == str(tmp_path / "c")
    assert (tmp_path / "c").read_text() == "mine"


@pytest.mark.parametrize("module", ["perdure.journal._framing", "perdure.snapshots._format"])
def test_a_newer_format_is_refused_without_writing(
    tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "c"
    with monkeypatch.context() as future:
        future.setattr(f"{module}.FORMAT_VERSION", 2)
        filled(directory, 3, snapshot_after=(2,))
    error = refused(perdure.FormatVersionError, lambda: perdure.open(Counter, directory), directory)
    assert error.path
    assert error.hint
    refused(perdure.FormatVersionError, lambda: perdure.open(Counter, directory, mode="r"), directory)


def test_another_opening_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with perdure.open(Counter, tmp_path / "c") as counter:
        for _ in range(2):
            with pytest.raises(perdure.LockedError) as caught:
                perdure.open(Counter, tmp_path / "c")
            assert caught.value.path == str(tmp_path / "c")
            assert caught.value.hint
            assert "in this process" in str(caught.value)
        counter.add(1)
    perdure.control(perdure.open(Counter, tmp_path / "c")).close()


HOLDER = """
import sys, time
import perdure
from tests.unit.system.models import Counter
counter = perdure.open(Counter, sys.argv[1])
counter.add(7)
print("open", flush=True)
time.sleep(60)
"""


def test_another_process_is_named_and_its_death_frees_the_folder(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "c")], stdout=subprocess.PIPE, env=environment, cwd=root
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n"
        with pytest.raises(perdure.LockedError) as caught:
            perdure.open(Counter, tmp_path / "c")
        assert str(child.pid) in str(caught.value)
        with perdure.open(Counter, tmp_path / "c", mode="r") as reader:
            deadline = time.monotonic() + 10
            while reader.get() != 7 and time.monotonic() < deadline:
                time.sleep(0.02)
            assert reader.get() == 7
        child.send_signal(signal.SIGKILL)
        child.wait()
    with perdure.open(Counter, tmp_path / "c") as counter:
        assert counter.added == [7]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused_with_its_name(tmp_path: Path) -> None:
    filled(tmp_path / "c")
    (tmp_path / "c").chmod(0o500)
    try:
        with pytest.raises(perdure.StorageError) as caught:
            perdure.open(Counter, tmp_path / "c")
        assert caught.value.path
    finally:
        (tmp_path / "c").chmod(0o700)


class ReadOnlyFs(FaultyFs):
    """As a file system that is mounted read-only answers."""

    def _refuse(self, path: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self._refuse(path)
        return super().open(path, flags, mode)

    def mkdir(self, path: str, mode: int = 0o700) -> None:
        self._refuse(path)

    def rename(self, source: str, target: str) -> None:
        self._refuse(source)

    def unlink(self, path: str) -> None:
        self._refuse(path)


def test_a_read_only_file_system_refuses_writing_and_reading_goes_on(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    filled(directory, 3)
    fs = ReadOnlyFs()
    before = content(directory)
    counter = perdure.open(Counter, directory, fs=fs)
    with pytest.raises(perdure.WriteError) as caught:
        counter.add(1)
    assert caught.value.outcome == "not-written"
    assert caught.value.hint
    assert counter.total == 6
    with pytest.raises(perdure.WriteError):
        perdure.control(counter).close()
    assert perdure.control(counter).closed
    assert content(directory) == before
    with perdure.open(Counter, directory, mode="r", fs=ReadOnlyFs()) as reader:
        assert reader.added == [1, 2, 3]
    with pytest.raises(perdure.StorageError) as refusal:
        perdure.open(Counter, tmp_path / "new", fs=ReadOnlyFs())
    assert refusal.value.path
    assert not fs.open_fds


def test_a_full_disk_refuses_commands_until_there_is_room(tmp_path: Path) -> None:
    fs = FaultyFs(mode="full", error=errno.ENOSPC)
    with perdure.open(Counter, tmp_path / "c", fs=fs) as counter:
        counter.add(1)
        fs.fail_at = fs._counted + 1
        for _ in range(3):
            with pytest.raises(perdure.WriteError) as caught:
                counter.add(2)
            assert caught.value.outcome == "not-written"
            assert caught.value.hint
            assert caught.value.path
            assert counter.added == [1]
        with pytest.raises(perdure.WriteError):
            perdure.control(counter).take_snapshot()
        fs.make_room()
        counter.add(3)
        perdure.control(counter).take_snapshot()
        assert_replayable(counter)
    with perdure.open(Counter, tmp_path / "c") as counter:
        assert counter.added == [1, 3]


def test_a_full_disk_at_creation_leaves_something_that_opens(tmp_path: Path) -> None:
    for fail_at in range(1, 12):
        directory = tmp_path / f"c{fail_at}"
        fs = FaultyFs(mode="full", error=errno.ENOSPC, fail_at=fail_at)
        try:
            counter = perdure.open(Counter, directory, fs=fs)
            perdure.control(counter).close()
        except perdure.StorageError:
            pass
        assert not fs.open_fds
        with perdure.open(Counter, directory) as counter:
            counter.add(1)


def test_a_failed_sync_ends_commands_and_not_queries(tmp_path: Path) -> None:
    fs = FaultyFs(of=["sync"], error=errno.EIO)
    counter = perdure.open(Counter, tmp_path / "c", fs=fs)
    counter.add(1)
    fs.fail_at = fs._counted + 1
    with pytest.raises(perdure.WriteError) as caught:
        counter.add(2)
    assert caught.value.outcome == "unknown"
    fs.heal()
    with pytest.raises(perdure.WriteError) as caught:
        counter.add(3)
    assert caught.value.outcome == "not-written"
    assert "again" in str(caught.value.hint)
    assert counter.get() == 1
    assert counter.added == [1]
    try:
        perdure.control(counter).close()
    except perdure.WriteError:
        pass
    with perdure.open(Counter, tmp_path / "c") as counter:
        assert counter.added in ([1], [1, 2])


# ---- damage


def killed(directory: Path, *numbers: int, **options: Any) -> None:
    """What is left of a counter whose process was killed after these numbers were added, in addition."""
    alive = directory.with_name(directory.name + "-alive")
    if directory.exists():
        shutil.move(directory, alive)
    counter = perdure.open(Counter, alive, snapshot="manual", keep_history=True, **options)
    for number in numbers:
        counter.add(number)
    shutil.copytree(alive, directory)
    perdure.control(counter).close()
    shutil.rmtree(alive)


def tear(directory: Path) -> None:
    path = journals(directory)[-1]
    path.write_bytes(path.read_bytes() + b"\xd7PJ1 half of a rec")


def many_segments(directory: Path, count: int) -> None:
    """As many segments as entries: an opening that finds a torn tail goes on in a new one."""
    for number in range(1, count + 1):
        killed(directory, number)
        tear(directory)


def test_a_missing_segment_is_never_skipped(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    many_segments(directory, 6)
    paths = journals(directory)
    assert len(paths) > 3
    for path in paths[:-1]:
        data = path.read_bytes()
        path.unlink()
        error = refused(perdure.StorageError, lambda: perdure.open(Counter, directory), directory)
        assert isinstance(error, perdure.MissingError), f"{path.name}: {error!r}"
        assert error.seq is not None
        assert error.hint
        path.write_bytes(data)
    with perdure.open(Counter, directory) as counter:
        assert counter.added == [1, 2, 3, 4, 5, 6]


def test_no_snapshot_at_all_is_missing_not_new(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    filled(directory, 3)
    for path in snapshots(directory):
        path.unlink()
    error = refused(perdure.MissingError, lambda: perdure.open(Counter, directory), directory)
    assert error.hint
    assert error.path


def test_a_damaged_snapshot_falls_back_to_the_one_before_and_is_kept(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    filled(directory, 6, snapshot_after=(2, 4))
    newest = snapshots(directory)[-1]
    flip(newest)
    damaged = newest.read_bytes()
    with perdure.open(Counter, directory) as counter:
        assert counter.added == [1, 2, 3, 4, 5, 6]
        report = perdure.control(counter).report
        assert report.snapshot_seq == 2
        assert report.replayed >= 4
        (kept,) = report.quarantined
        assert Path(kept).read_bytes() == damaged
        assert Path(kept).parent == directory / "quarantine"
        counter.add(7)
    with perdure.open(Counter, directory) as counter:
        assert counter.added == [1, 2, 3, 4, 5, 6, 7]
        assert perdure.control(counter).report.quarantined == ()


def test_when_all_snapshots_are_damaged_it_says_so_and_moves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    filled(directory, 6, snapshot_after=(2, 4))
    for path in snapshots(directory):
        flip(path)
    error = refused(perdure.CorruptError, lambda: perdure.open(Counter, directory), directory)
    assert error.path is not None
    assert "snapshot" in error.path
    assert error.hint
    assert "perdure" in error.hint


def test_damage_to_what_was_durable_is_an_error_with_its_place(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    filled(directory, 6)
    path = journals(directory)[-1]
    data = path.read_bytes()
    first = data.index(b"\xd7PJ1")
    flip(path, first + 42)
    error = refused(perdure.CorruptError, lambda: perdure.open(Counter, directory), directory)
    assert error.path == str(path)
    assert error.seq == 1
    assert error.offset == first
    assert error.hint
    assert "repair" in error.hint


def test_a_journal_that_ends_before_a_snapshot_is_damaged(tmp_path: Path) -> None:
    """It was synced before the snapshot was published: what is gone may have gone further than the snapshot."""
    directory = tmp_path / "c"
    filled(directory, 6, snapshot_after=(4,))
    path = journals(directory)[-1]
    data = path.read_bytes()
    third = [found.start() for found in re.finditer(rb"\xd7PJ1", data)][2]
    path.write_bytes(data[:third])
    error = refused(perdure.CorruptError, lambda: perdure.open(Counter, directory), directory)
    assert (error.path, error.offset, error.seq) == (str(path), third, 3)
    repair(str(directory))
    with perdure.open(Counter, directory) as counter:
        assert counter.added == [1, 2, 3, 4]
        counter.add(5)
    with perdure.open(Counter, directory) as counter:
        assert counter.added == [1, 2, 3, 4, 5]


def test_a_torn_tail_is_cut_kept_and_reported(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    killed(directory, 1, 2, 3)
    tear(directory)
    with perdure.open(Counter, directory) as counter:
        report = perdure.control(counter).report
        assert counter.added == [1, 2, 3]
        assert report.cut_bytes == len(b"\xd7PJ1 half of a rec")
        assert report.cut_path is not None
        assert Path(report.cut_path).read_bytes().endswith(b"half of a rec")
        counter.add(4)
    with perdure.open(Counter, directory) as counter:
        assert counter.added == [1, 2, 3, 4]
        assert perdure.control(counter).report.cut_bytes == 0


# ---- code that has changed


class OldCounter(Counter):
    def plus(self, number: int) -> None:
        self.total += number


class Moved(Counter):
    pass


class Elsewhere(Counter):
    pass


def test_a_class_that_moved_is_named_and_renames_finds_it(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    moved = perdure.open(Moved, directory, snapshot="manual")
    moved.add(5)
    perdure.control(moved).close()
    error = refused(perdure.UsageError, lambda: perdure.open(Elsewhere, directory), directory)
    assert error.path
    assert f"renames={{'{Moved.__module__}.Moved': '{Moved.__module__}.Elsewhere'}}" in str(error.hint)
    renames = {f"{Moved.__module__}.Moved": f"{Moved.__module__}.Elsewhere"}
    with perdure.open(Elsewhere, directory, renames=renames) as opened:
        assert type(opened).__mro__[1] is Elsewhere
        assert opened.added == [5]
        opened.add(6)
    with perdure.open(Elsewhere, directory) as opened:
        assert opened.added == [5, 6]


def test_a_class_in_the_state_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "w"
    with perdure.open(Wiki, directory) as wiki:
        wiki.create("a", "text")
    with monkeypatch.context() as changed:
        changed.delattr(models, "Page")
        error = refused(perdure.CodecError, lambda: perdure.open(Wiki, directory), directory)
    assert "models.Page" in str(error)
    assert error.path
    assert error.hint
    assert "renames" in error.hint
    with perdure.open(Wiki, directory) as wiki:
        assert wiki["a"] == "text"


def test_a_class_in_an_argument_that_moved_is_found_by_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "p"
    plain = perdure.open(Plain, directory, snapshot="manual")
    plain.put("point", models.Point(1, 2))
    perdure.control(plain).close()
    with monkeypatch.context() as changed:
        changed.delattr(models, "Point")
        error = refused(perdure.PerdureError, lambda: perdure.open(Plain, directory), directory)
        assert error.seq == 1
        assert "renames" in str(error.hint)
        renames = {f"{models.__name__}.Point": f"{models.__name__}.Counter"}
        with perdure.open(Plain, directory, renames=renames, snapshot="manual") as again:
            assert isinstance(again.data["point"], Counter)


def test_a_method_that_was_removed_is_named_and_renames_finds_it(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    counter = perdure.open(OldCounter, directory, snapshot="manual")
    counter.add(1)
    counter.plus(10)
    perdure.control(counter).close()
    moved = {f"{OldCounter.__module__}.OldCounter": f"{Moved.__module__}.Moved"}
    error = refused(perdure.ReplayError, lambda: perdure.open(Moved, directory, renames=moved), directory)
    assert error.seq == 2
    assert error.path
    assert "Moved.plus" in str(error)
    assert "renames" in str(error.hint)
    with (
        pytest.warns(perdure.ChangedCodeWarning, match="plus"),
        perdure.open(Moved, directory, renames={**moved, "Moved.plus": "Moved.add"}) as again,
    ):
        assert again.total == 11


def test_another_codec_is_refused_by_name(tmp_path: Path) -> None:
    with perdure.open(Plain, tmp_path / "p", codec="json") as plain:
        plain.put("a", [1])
    error = refused(perdure.UsageError, lambda: perdure.open(Plain, tmp_path / "p"), tmp_path / "p")
    assert error.hint == "open it with codec='json'"


# ---- secrets


def test_a_secret_is_asked_for_and_a_wrong_one_refused(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    filled(directory, 3, secret=b"right")
    for wrong in (None, b"wrong", [b"wrong", b"other"]):
        error = refused(PerdureError, lambda w=wrong: perdure.open(Counter, directory, secret=w), directory)  # type: ignore[misc]
        assert error.path
        assert error.hint
    with perdure.open(Counter, directory, secret=lambda: [b"newer", b"right"]) as counter:
        assert counter.added == [1, 2, 3]
        counter.add(4)
    with perdure.open(Counter, directory, secret=[b"newer", b"right"]) as counter:
        counter.add(5)
        perdure.control(counter).take_snapshot()
        perdure.control(counter).take_snapshot()
        assert counter.added == [1, 2, 3, 4, 5]


def test_a_system_without_a_secret_is_not_opened_with_one(tmp_path: Path) -> None:
    filled(tmp_path / "c", 3)
    refused(PerdureError, lambda: perdure.open(Counter, tmp_path / "c", secret=b"key"), tmp_path / "c")


def test_tampering_is_found_though_the_checksum_is_right(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    killed(directory, 1, 2, 3, secret=b"key")
    append_record(directory, b"\x92\xa3add\x91\x63", 4)
    try:
        counter = perdure.open(Counter, directory, secret=b"key")
    except perdure.CorruptError:
        return
    assert counter.added == [1, 2, 3]
    assert perdure.control(counter).report.cut_bytes
    perdure.control(counter).close()


def test_the_folder_is_private_and_one_that_is_not_is_refused(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        filled(tmp_path / "c", 3, snapshot_after=(2,))
    finally:
        os.umask(before)
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "c").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    (tmp_path / "c").chmod(0o777)
    opening = functools.partial(perdure.open, Counter, tmp_path / "c")
    for action in (opening, functools.partial(opening, mode="r")):
        error = refused(perdure.StorageError, action, tmp_path / "c")
        assert error.path
        assert error.hint
    (tmp_path / "c").chmod(0o700)
    perdure.control(perdure.open(Counter, tmp_path / "c", fs=Fs())).close()
