"""A journal as a stash."""

from __future__ import annotations

import errno
import os
import pickle
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from perdure.errors import ClosedError, CodecError, CorruptError, LockedError, StorageError, WriteError
from perdure.stash import LogStash
from perdure.testing import FaultyFs, failing_everywhere


def test_what_was_dumped_is_there_after_opening_again(tmp_path: Path) -> None:
    with LogStash(tmp_path) as stash:
        stash.dump("a", None)
        stash.dump("b", [1])
        stash.dump("b", [2])
        stash.dump("c", 3)
        stash.delete("c")
        stash.set_fill_mark("filled")
    with LogStash(tmp_path) as stash:
        assert list(stash) == [("a", None), ("b", [2])]
        assert stash.fill_mark() == "filled"


def test_values_stay_on_disk(tmp_path: Path) -> None:
    with LogStash(tmp_path) as stash:
        for number in range(50):
            stash.dump(str(number), os.urandom(10_000))
        assert sum(sys.getsizeof(place) for place in stash._index.values()) < 10_000
        assert len(stash["7"]) == 10_000


def test_one_at_a_time_has_it_open(tmp_path: Path) -> None:
    with LogStash(tmp_path) as stash:
        stash.dump("a", 1)
        with pytest.raises(LockedError, match="in this process"):
            LogStash(tmp_path).load("a")
        program = f"from perdure.stash import LogStash\nLogStash({str(tmp_path)!r}).open()"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert f"LockedError: process {os.getpid()} has it open" in done.stderr
        assert stash["a"] == 1


def test_a_closed_stash_says_so(tmp_path: Path) -> None:
    stash = LogStash(tmp_path)
    stash.dump("a", 1)
    stash.close()
    stash.close()
    for call in (
        lambda: stash.load("a"),
        lambda: stash.dump("a", 1),
        stash.keys,
        lambda: len(stash),
        lambda: "a" in stash,
    ):
        with pytest.raises(ClosedError):
            call()


def test_a_forked_child_leaves_it_alone(tmp_path: Path) -> None:
    with LogStash(tmp_path) as stash:
        stash.dump("a", 1)
        child = os.fork()
        if child == 0:
            try:
                stash.dump("a", 2)
            except ClosedError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        stash.dump("a", 3)
    with LogStash(tmp_path) as stash:
        assert stash["a"] == 3


def test_files_are_private_and_values_restricted(tmp_path: Path) -> None:
    with LogStash(tmp_path / "log") as stash:
        stash.dump("a", 1)
        with pytest.raises(CodecError, match="'f'"):
            stash.dump("f", os.getcwd)
        assert stash.get("f", 7) == 7
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o700
    for path in (tmp_path / "log").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_hostile_value_is_refused(tmp_path: Path) -> None:
    with LogStash(tmp_path, codec=_Bare()) as stash:
        stash.dump("a", pickle.dumps(os.getcwd))
    with LogStash(tmp_path) as stash, pytest.raises(CodecError, match="getcwd"):
        stash["a"]


class _Bare:
    """A codec that takes bytes for encoded already."""

    name = "pickle"

    def encode(self, value: object) -> bytes:
        assert isinstance(value, bytes)
        return value

    def decode(self, data: bytes | memoryview) -> bytes:
        return bytes(data)

    def dump(self, value: object, file: object) -> None:
        raise NotImplementedError

    def load(self, file: object) -> bytes:
        raise NotImplementedError


def test_a_damaged_value_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    with LogStash(tmp_path) as stash:
        stash.dump("a", "x" * 1000)
        stash.dump("b", 1)
        (path,) = tmp_path.glob("journal-*")
        data = bytearray(path.read_bytes())
        data[data.index(b"xxxx") + 100] ^= 1
        path.write_bytes(data)
        with pytest.raises(CorruptError) as caught:
            stash["a"]
        assert caught.value.path == str(path)
        assert caught.value.offset
        assert stash["b"] == 1
    with pytest.raises(CorruptError):
        LogStash(tmp_path).open()


def test_the_last_item_is_told_from_a_torn_tail_once_idle(tmp_path: Path) -> None:
    with LogStash(tmp_path) as stash:
        stash.dump("a", "x" * 1000)
        (path,) = tmp_path.glob("journal-*")
        size = path.stat().st_size
        deadline = time.monotonic() + 60
        while path.stat().st_size == size:
            assert time.monotonic() < deadline, "how far it is durable was not written down"
            time.sleep(0.02)
        data = bytearray(path.read_bytes())
    data[data.index(b"xxxx") + 100] ^= 1
    (tmp_path / "copy").mkdir(mode=0o700)
    (tmp_path / "copy" / path.name).write_bytes(data)
    with pytest.raises(CorruptError):
        LogStash(tmp_path / "copy").open()


def test_a_torn_tail_is_cut(tmp_path: Path) -> None:
    with LogStash(tmp_path, durability="never") as stash:
        stash.dump("a", 1)
        stash.dump("b", "x" * 100)
        (path,) = tmp_path.glob("journal-*")
        data = path.read_bytes()
    (tmp_path / "copy").mkdir(mode=0o700)
    (tmp_path / "copy" / path.name).write_bytes(data[: data.index(b"xxxx") + 30])
    with LogStash(tmp_path / "copy") as stash:
        assert dict(stash) == {"a": 1}
        stash.dump("b", 2)
    with LogStash(tmp_path / "copy") as stash:
        assert dict(stash) == {"a": 1, "b": 2}


def test_what_is_outdated_is_compacted(tmp_path: Path) -> None:
    with LogStash(tmp_path, segment_bytes_max=2_000, compact_bytes_min=10_000) as stash:
        stash.set_fill_mark("filled")
        for number in range(1_000):
            stash.dump(f"item{number % 10}", "x" * 100 + str(number))
        size = sum(path.stat().st_size for path in tmp_path.iterdir())
        assert size < 20_000
        expected = dict(stash)
    with LogStash(tmp_path) as stash:
        assert dict(stash) == expected
        assert stash["item3"] == "x" * 100 + "993"
        assert stash.fill_mark() == "filled"
        stash.clear()
        assert dict(stash) == {}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_000
    with LogStash(tmp_path) as stash:
        assert dict(stash) == {}
        assert stash.fill_mark() is None


def test_threads_that_dump_together_share_syncs(tmp_path: Path) -> None:
    fs = FaultyFs(before=lambda call: time.sleep(0.005) if call.name == "sync" else None)
    with LogStash(tmp_path, fs=fs) as stash:
        stash.dump("warm", 0)
        fs.counts.clear()

        def work(worker: int) -> None:
            for number in range(10):
                stash.dump(f"{worker}-{number}", number)
                assert stash[f"{worker}-{number}"] == number

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(stash) == 81
        assert fs.counts["sync"] < 60
    with LogStash(tmp_path) as stash:
        assert len(stash) == 81


def test_nothing_is_served_before_it_is_durable(tmp_path: Path) -> None:
    in_sync, go_on = threading.Event(), threading.Event()

    def hold(call: object) -> None:
        if getattr(call, "name", "") == "sync" and armed:
            in_sync.set()
            go_on.wait(10)

    armed: list[int] = []
    fs = FaultyFs(before=hold)
    with LogStash(tmp_path, fs=fs) as stash:
        stash.dump("a", "old")
        armed.append(1)
        writer = threading.Thread(target=lambda: stash.dump("a", "new"))
        writer.start()
        in_sync.wait(10)
        assert stash["a"] == "old"
        armed.clear()
        go_on.set()
        writer.join()
        assert stash["a"] == "new"


def test_everysec_is_synced_within_about_a_second(tmp_path: Path) -> None:
    fs = FaultyFs()
    with LogStash(tmp_path, durability="everysec", fs=fs) as stash:
        stash.dump("a", 1)
        fs.counts.clear()
        stash.dump("b", 1)
        assert fs.counts["sync"] == 0
        deadline = time.monotonic() + 10
        while not fs.counts["sync"] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert fs.counts["sync"]


def test_a_full_disk_is_a_named_error_and_nothing_is_lost(tmp_path: Path) -> None:
    for turn, fs in enumerate(failing_everywhere("full", errno.ENOSPC)):
        path = tmp_path / str(turn)
        with LogStash(path) as stash:
            stash.dump("a", "old")
        with LogStash(path, fs=fs) as stash:
            try:
                stash.dump("a", "new" * 1000)
            except StorageError as error:
                assert isinstance(error, WriteError)
                fs.make_room()
                assert stash["a"] == "old"
                stash.dump("a", "new")
            assert stash["a"].startswith("new")
        with LogStash(path) as stash:
            assert stash["a"].startswith("new")


@pytest.mark.parametrize(("mode", "error"), [("once", errno.EIO), ("partial", errno.ENOSPC), ("lying", errno.EIO)])
def test_every_call_of_the_disk_may_fail(tmp_path: Path, mode: str, error: int) -> None:
    for turn, fs in enumerate(failing_everywhere(mode, error)):  # type: ignore[arg-type]
        path = tmp_path / str(turn)
        acknowledged = -1
        stash = LogStash(path, fs=fs, segment_bytes_max=300, compact_bytes_min=600)
        try:
            for number in range(12):
                stash.dump("a", number)
                acknowledged = number
        except StorageError:
            pass
        try:
            stash.close()
        except StorageError:
            pass
        assert not fs.open_fds, (turn, fs.fired)
        fs.heal()
        with LogStash(path) as again:
            assert again.get("a", -1) in (acknowledged, acknowledged + 1), (turn, fs.calls[-5:])


class LogMachine(RuleBasedStateMachine):
    """Against a dict, with reopening and compaction in between."""

    def __init__(self) -> None:
        super().__init__()
        self.path = _fresh_directory()
        self.stash = self._make()
        self.model: dict[str, object] = {}

    def _make(self) -> LogStash:
        return LogStash(self.path, durability="never", segment_bytes_max=500, compact_bytes_min=1_000)

    names = st.sampled_from(["a", "b", "c", "", "D"])

    @rule(name=names, value=st.none() | st.integers() | st.text(max_size=50))
    def dump(self, name: str, value: object) -> None:
        self.stash.dump(name, value)
        self.model[name] = value

    @rule(items=st.dictionaries(names, st.integers()))
    def set_many(self, items: dict[str, int]) -> None:
        self.stash.set_many(items)
        self.model.update(items)

    @rule(name=names)
    def delete(self, name: str) -> None:
        self.stash.delete(name)
        self.model.pop(name, None)

    @rule()
    def reopen(self) -> None:
        self.stash.close()
        self.stash = self._make()

    @rule()
    def compact(self) -> None:
        self.stash.compact()

    @precondition(lambda self: len(self.model) > 2)
    @rule()
    def clear(self) -> None:
        self.stash.clear()
        self.model.clear()

    @invariant()
    def equals_the_model(self) -> None:
        assert dict(self.stash) == self.model
        assert list(self.stash.keys()) == list(self.model)

    def teardown(self) -> None:
        self.stash.close()


def _fresh_directory() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp(dir=_parent))


_parent: Path


def test_it_behaves_as_a_dict(tmp_path: Path) -> None:
    global _parent
    _parent = tmp_path
    run_state_machine_as_test(LogMachine)  # type: ignore[no-untyped-call]
