"""What the operating system may do to a store besides failing: no locks, no room, other modes, other signals."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.errors import RecordTooLargeError, StorageError, WriteError
from perdure.fs import DirectoryLock, Fs
from perdure.snapshots import FileSnapshotStore, SnapshotHeader
from perdure.testing import FaultyFs, assert_replayable, failing_everywhere
from perdure.testing.crashsim import strace_is_there
from tests.crash import _figures as figures
from tests.crash._images import LedgerImage, entries
from tests.crash._ledger import Ledger
from tests.unit.system.models import Counter

ROOT = Path(__file__).parents[2]
SOURCE = Path(perdure.__file__).parents[1]
NO_LOCKS = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL]


# ---- locks


@pytest.mark.parametrize("error", NO_LOCKS, ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_refused(error: int, tmp_path: Path) -> None:
    fs = FaultyFs(fail_at=1, mode="sticky", error=error, of={"lock"})
    with pytest.raises(StorageError, match="cannot lock a directory") as caught:
        perdure.open(Counter, tmp_path / "c", fs=fs)
    assert caught.value.path == str(tmp_path / "c")
    assert caught.value.hint
    assert not fs.open_fds
    assert os.listdir(tmp_path / "c") == []
    fs.heal()
    with perdure.open(Counter, tmp_path / "c", fs=fs) as counter:
        counter.add(1)


@pytest.mark.skipif(not strace_is_there(), reason="needs strace")
def test_a_kernel_that_refuses_locks_is_believed(tmp_path: Path) -> None:
    program = (
        "import sys, perdure\n"
        "from tests.unit.system.models import Counter\n"
        "try:\n    perdure.open(Counter, sys.argv[1])\n"
        "except perdure.StorageError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        ["strace", "-f", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:error=ENOLCK",
         sys.executable, "-c", program, str(tmp_path / "c")],
        env={**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{ROOT}"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert "cannot lock a directory" in done.stdout, done.stderr
    assert os.listdir(tmp_path / "c") == []


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_leaves_its_parents_lock_alone(tmp_path: Path) -> None:
    lock = DirectoryLock(Fs(), str(tmp_path))
    try:
        child = os.fork()
        if child == 0:
            # What the child does with its copy has happened by now.
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with pytest.raises(perdure.LockedError):
            DirectoryLock(Fs(), str(tmp_path))
    finally:
        lock.release()
    DirectoryLock(Fs(), str(tmp_path)).release()


def test_a_locked_folder_whose_name_was_given_to_another_stays_two(tmp_path: Path) -> None:
    """The lock is on the directory, not on its name: who takes the name finds nothing of the other's."""
    with perdure.open(Counter, tmp_path / "c", snapshot="manual") as counter:
        counter.add(1)
        os.rename(tmp_path / "c", tmp_path / "moved")
        with perdure.open(Counter, tmp_path / "c") as other:
            assert other.added == []
            other.add(7)
        with pytest.raises(perdure.LockedError):
            DirectoryLock(Fs(), str(tmp_path / "moved"))


# ---- group commit whose sync fails


class DyingDisk(FaultyFs):
    """Once armed: its next sync waits until all who are to share the one after it are there; that one fails."""

    def __init__(self, arrived: Callable[[], bool]) -> None:
        super().__init__(mode="sticky", of={"sync"})
        self._arrived = arrived
        self.armed = False

    def sync(self, fd: int) -> None:
        super().sync(fd)
        if self.armed:
            self.armed = False
            deadline = time.monotonic() + 60
            while not self._arrived() and time.monotonic() < deadline:
                time.sleep(0.001)
            self._counted, self.fail_at = 0, 1


def test_one_failed_sync_fails_every_command_of_its_group(tmp_path: Path) -> None:
    fs = DyingDisk(lambda: len(machine._queue) == 7)
    counter = perdure.open(Counter, tmp_path / "c", fs=fs, snapshot="manual")
    machine: Any = perdure.control(counter)._system.machine
    counter.add(1)
    outcomes: dict[int, Any] = {}

    def work(number: int) -> None:
        try:
            outcomes[number] = counter.add(number)
        except WriteError as error:
            outcomes[number] = error.outcome

    fs.armed = True
    threads = [threading.Thread(target=work, args=(number,)) for number in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # One was synced alone, while the seven others came together; none of those was told of success.
    assert fs.fired is not None
    answered = {number: outcome for number, outcome in outcomes.items() if isinstance(outcome, int)}
    assert len(answered) == 1
    assert [outcome for outcome in outcomes.values() if not isinstance(outcome, int)] == ["unknown"] * 7
    assert counter.added == [1, *answered]
    with contextlib.suppress(StorageError):
        perdure.control(counter).close()
    fs.heal()
    with perdure.open(Counter, tmp_path / "c", fs=fs) as counter:
        assert counter.added[:2] == [1, *answered]
        # They were written together: all of them are there, or none.
        assert set(counter.added) in ({1, *answered}, set(range(1, 10)))
        assert_replayable(counter)


# ---- syncing each second


def test_everysec_syncs_also_while_commands_never_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # An idle moment syncs, too; on a busy machine there may be one.
    monkeypatch.setattr("perdure.machine.Machine.mark", lambda machine: None)
    with perdure.open(Counter, tmp_path / "c", durability="everysec", snapshot="manual") as counter:
        deadline = time.monotonic() + 20
        while perdure.control(counter).durable_seq < 1 and time.monotonic() < deadline:
            counter.add(1)
            time.sleep(0.002)
        assert perdure.control(counter).durable_seq >= 1


# ---- what is too large


@pytest.mark.parametrize("durability", ["always", "never"])
def test_a_command_that_is_too_large_changes_nothing_and_all_goes_on(
    durability: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.journal._file.RECORD_BYTES_MAX", 1000)
    with perdure.open(dict, tmp_path / "d", durability=durability, snapshot="manual") as plain:
        plain["a"] = 1
        with pytest.raises(RecordTooLargeError):
            plain["b"] = "x" * 2000
        plain["c"] = 3
        assert plain == {"a": 1, "c": 3}
        assert perdure.control(plain).seq == 2
    with perdure.open(dict, tmp_path / "d") as plain:
        assert plain == {"a": 1, "c": 3}


# ---- snapshots that fail, and those that are taken while commands run


@pytest.mark.parametrize("mode", ["once", "partial"])
def test_a_snapshot_that_fails_leaves_no_file(mode: Any, tmp_path: Path) -> None:
    store = FileSnapshotStore(str(tmp_path))
    header = SnapshotHeader(1, 1, bytes(16), {})

    class RefusedError(Exception):
        """Whatever a state raises while it is written."""

    def dump(file: Any) -> None:
        file.write(b"half")
        raise RefusedError

    with pytest.raises(RefusedError):
        store.write(header, dump, lambda: bytes(32), lambda file: bytes(32))
    assert os.listdir(tmp_path) == []
    for fs in failing_everywhere(
        mode, errno.ENOSPC, of={"write", "sync", "open", "rename"} if mode == "once" else None
    ):
        store = FileSnapshotStore(str(tmp_path), fs=fs)
        with contextlib.suppress(StorageError):
            draft = store.write(header, lambda file: None, lambda: bytes(32), lambda file: bytes(32))
            store.publish(draft, header)
        assert all(name == "snapshot-00000000000000000001" for name in os.listdir(tmp_path))


def test_every_snapshot_taken_beside_commands_is_a_state_between_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perdure.machine import _machine

    # However small the state, a child writes it, so that commands really go on meanwhile.
    monkeypatch.setattr(_machine, "SNAPSHOT_INLINE_BYTES_MAX", -1)
    with perdure.open(Counter, tmp_path / "c", snapshot="manual", keep_history=True, durability="never") as counter:
        stop = threading.Event()

        def work() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                counter.add(number)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            taken = [perdure.control(counter).take_snapshot() for _ in range(4)]
        finally:
            stop.set()
            thread.join()
        assert taken == sorted(taken)
        for seq in taken:
            # A snapshot of exactly this seq is loaded as it is: nothing is replayed on it.
            past = perdure.control(counter).at(seq)
            assert past.added == list(range(1, seq + 1))
            assert past.total == sum(past.added)


# ---- room


@contextlib.contextmanager
def small_file_system(place: Path, kind: str) -> Iterator[None]:
    """A real one, full after some tens of kilobytes, mounted at ``place``."""
    place.mkdir()
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", "size=96k,mode=0700", "tmpfs", str(place)]
    else:
        image = place.parent / "image"
        with open(image, "wb") as file:
            file.truncate(1 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", image], check=True, timeout=60)
        command = ["mount", "-o", "loop", str(image), str(place)]
    mounted = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        os.chmod(place, 0o700)
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True, timeout=60)


@pytest.mark.root
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_full_file_system_refuses_commands_and_takes_them_again_when_there_is_room(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "small"
    with small_file_system(place, kind):
        ballast = place / "ballast"
        counter = perdure.open(Counter, place / "c", snapshot="manual")
        counter.add(1)
        done = 1
        # Full to the last block, so that the next command that needs one is refused.
        with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(512))
        refused: WriteError | None = None
        while refused is None:
            try:
                counter.add(done + 1)
                done += 1
                assert done < 100_000
            except WriteError as error:
                refused = error
        assert refused.outcome == "not-written"
        assert counter.added == list(range(1, done + 1))
        with pytest.raises(StorageError):
            perdure.control(counter).take_snapshot()
        assert counter.get() == sum(range(1, done + 1))
        ballast.unlink()
        counter.add(done + 1)
        perdure.control(counter).take_snapshot()
        counter.add(done + 2)
        assert_replayable(counter)
        perdure.control(counter).close()
        with perdure.open(Counter, place / "c") as counter:
            assert counter.added == list(range(1, done + 3))


# ---- pages of zeros, as a disk leaves what it never wrote


def test_a_page_of_zeros_is_never_taken_for_the_end(tmp_path: Path) -> None:
    def fill(store: Ledger) -> None:
        entries(store, *[1] * 240)

    def big(directory: str, fs: Any = None, **options: Any) -> Ledger:
        return Ledger(directory, fs, segment_bytes_max=1 << 20, **options)

    from tests.crash import _images

    original, _images.Ledger = _images.Ledger, big  # type: ignore[assignment, misc]
    try:
        image = LedgerImage(str(tmp_path / "ledger"), fill, clean=True)
        (name,) = image.segments
        data = image.files[name]
        assert len(data) > 3 * 4096
        problems = []
        # The last page holds the seal: without it the end looks torn. All others are proven by what follows.
        for start in range(0, len(data) // 4096 * 4096, 4096):
            content = data[:start] + bytes(4096) + data[start + 4096 :]
            problems.append(image.problem(name, content, f"page at {start} of zeros", ["error"]))
        figures.tried(figures.DAMAGED_FILES, len(problems), [each for each in problems if each is not None])
    finally:
        _images.Ledger = original  # type: ignore[misc]


# ---- programs that are started, other signals, modes


def test_a_program_that_is_started_inherits_no_descriptor(tmp_path: Path) -> None:
    with perdure.open(Counter, tmp_path / "c") as counter:
        counter.add(1)
        listing = (
            "import os; print([os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if n != '3'])"
        )
        out = subprocess.run(
            [sys.executable, "-c", listing], close_fds=False, capture_output=True, text=True, timeout=60
        ).stdout
        assert str(tmp_path) not in out
        perdure.control(counter).take_snapshot()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1], ids=lambda each: each.name)
def test_a_signal_whose_handler_raises_loses_nothing_that_was_answered(number: signal.Signals, tmp_path: Path) -> None:
    class ToldError(Exception):
        """What the handler raises."""

    working = False

    def handler(*_: object) -> None:
        if working:
            raise ToldError

    before = signal.signal(number, handler)
    known: list[int] = []
    deadline = time.monotonic() + 30
    try:
        for turn in range(12):
            counter = perdure.open(Counter, tmp_path / "c", snapshot="manual")
            assert counter.added[: len(known)] == known
            timer = threading.Timer(0.002 * (turn + 1), os.kill, (os.getpid(), number))
            try:
                working = True
                timer.start()
                while time.monotonic() < deadline:
                    next_number = len(counter.added) + 1
                    counter.add(next_number)
                    known.append(next_number)
            except (ToldError, perdure.PerdureError):
                pass
            finally:
                working = False
                timer.join()
            with contextlib.suppress(StorageError):
                perdure.control(counter).close()
            with perdure.open(Counter, tmp_path / "c", snapshot="manual") as counter:
                found = list(counter.added)
            assert found == list(range(1, len(found) + 1))
            assert len(known) <= len(found) <= len(known) + 1
            known = found
    finally:
        signal.signal(number, before)
    assert known


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_files_and_folder_are_private_whatever_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with perdure.open(Counter, tmp_path / "c") as counter:
            counter.add(1)
            perdure.control(counter).take_snapshot()
            counter.add(2)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "c").iterdir() if path.is_file()}
    assert modes == {0o600}
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700
