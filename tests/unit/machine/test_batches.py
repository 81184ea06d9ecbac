"""Group commit when something goes wrong: batches of commands that raise, are interrupted, or meet a bad disk."""

from __future__ import annotations

import errno
import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.machine import Machine
from perdure.system import system_of
from perdure.testing import FaultyFs, WrappingFs


class Log:
    def __init__(self) -> None:
        self.items: list[Any] = []

    def add(self, item: Any) -> int:
        self.items.append(item)
        return len(self.items)

    def bad(self, item: Any) -> None:
        self.items.append(item)
        raise ValueError(item)

    def endless(self) -> None:
        self.items.append("endless")
        self._deeper()

    def _deeper(self) -> None:
        self._deeper()

    def leave(self) -> None:
        raise SystemExit(3)

    @perdure.readonly
    def ask(self, question: Callable[[], Any]) -> Any:
        return question()


class Keeping(dict[str, int]):
    @perdure.abort_exception
    def put(self, key: str, value: int) -> None:
        self[key] = value
        if value:
            raise ValueError(value)


def machine_of(log: Log) -> Machine:
    machine = system_of(log).machine
    assert machine is not None
    return machine


def batch(log: Log, *calls: Callable[[], Any]) -> list[Any]:
    """Has all calls committed as one batch; what each of them returned or raised."""
    machine = machine_of(log)
    answers: list[Any] = [None] * len(calls)

    def answer(position: int) -> None:
        try:
            answers[position] = calls[position]()
        except BaseException as error:
            answers[position] = error

    threads = [threading.Thread(target=answer, args=(position,)) for position in range(len(calls))]
    machine._led = True  # So that all of them queue.
    with machine.paused():
        for count, thread in enumerate(threads, 1):
            thread.start()
            while len(machine._queue) < count:
                pass
    machine._hand_over()
    for thread in threads:
        thread.join()
    return answers


class SlowDisk(WrappingFs):
    """Counts syncs that commands ask for; the first lasts until ``arrived`` says that all who should wait for it do."""

    def __init__(self, arrived: Callable[[], bool]) -> None:
        super().__init__()
        self.arrived = arrived
        self.syncs = 0
        self.started = threading.Event()
        self.counts = False

    def sync(self, fd: int) -> None:
        # The keeper syncs, too, whenever a busy machine leaves it the time to find the journal idle.
        if self.counts and threading.current_thread().name != "perdure-keeper":
            self.syncs += 1
            self.started.set()
            while self.syncs == 1 and not self.arrived():
                time.sleep(0.001)
        super().sync(fd)


def syncs_of(directory: Path, thread_count: int, calls_each: int) -> int:
    """How many syncs commands of many threads take, if all but one thread come during the first of them."""
    fs = SlowDisk(lambda: len(machine_of(log)._queue) == thread_count - 1)
    log = perdure.open(Log, directory, fs=fs, snapshot="manual")
    log.add(-1)  # Begins the segment, which has syncs of its own.

    def work(number: int) -> None:
        for _ in range(calls_each):
            log.add(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(thread_count)]
    fs.counts = True
    for thread in threads:
        thread.start()
        fs.started.wait()
    for thread in threads:
        thread.join()
    fs.counts = False
    assert sorted(log.items) == sorted([-1, *list(range(thread_count)) * calls_each])
    # Nobody leads any more: the next one need not wait for anybody.
    assert not machine_of(log)._led
    assert not machine_of(log)._queue
    perdure.control(log).close()
    return fs.syncs


def in_a_child_that_dies(work: Callable[[], Any]) -> None:
    """Runs ``work`` in a forked child that leaves without any clean-up."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def test_all_that_arrive_during_a_sync_share_the_next_one(tmp_path: Path) -> None:
    assert syncs_of(tmp_path, thread_count=33, calls_each=1) == 2


def test_threads_that_come_back_at_once_still_share_their_syncs(tmp_path: Path) -> None:
    assert syncs_of(tmp_path, thread_count=32, calls_each=20) < 320


@pytest.mark.parametrize("command", ["endless", "leave"])
def test_an_interrupted_command_without_an_outcome_does_not_keep_the_journal_from_opening(
    tmp_path: Path, command: str
) -> None:
    def work() -> None:
        log = perdure.open(Log, tmp_path)
        log.add(0)
        machine_of(log)._flush_interrupted = lambda: os._exit(0)  # type: ignore[method-assign]
        getattr(log, command)()

    in_a_child_that_dies(work)
    for _ in range(2):
        with perdure.open(Log, tmp_path) as log:
            assert log.items == [0]


def test_a_batch_of_raising_and_interrupted_commands_opens_again(tmp_path: Path) -> None:
    def work() -> None:
        log = perdure.open(Log, tmp_path)
        answers = batch(log, log.endless, lambda: log.bad(2))
        assert isinstance(answers[0], RecursionError)
        assert isinstance(answers[1], ValueError)
        (tmp_path / "fine").touch()

    in_a_child_that_dies(work)
    assert (tmp_path / "fine").exists()
    with perdure.open(Log, tmp_path) as log:
        assert log.items == [2]


def test_two_interrupted_commands_in_one_batch_are_both_undone(tmp_path: Path) -> None:
    with perdure.open(Log, tmp_path) as log:
        log.add(0)
        answers = batch(log, log.endless, log.endless)
        assert [type(answer) for answer in answers] == [RecursionError, RecursionError]
        assert log.items == [0]
        log.add(1)
    with perdure.open(Log, tmp_path) as log:
        assert log.items == [0, 1]


def test_outcomes_torn_apart_by_a_crash_are_found_again(tmp_path: Path) -> None:
    def work() -> None:
        log = perdure.open(Log, tmp_path)
        batch(log, lambda: log.bad(1), lambda: log.bad(2))
        machine = machine_of(log)
        with machine.paused():
            machine._flush_owed()

    in_a_child_that_dies(work)
    journal = tmp_path / "journal-00000001"
    data = journal.read_bytes()
    journal.write_bytes(data[:-30])
    with perdure.open(Log, tmp_path) as log:
        assert sorted(log.items) == [1, 2]
        log.add(3)
    with perdure.open(Log, tmp_path) as log:
        assert len(log.items) == 3


def test_what_was_synced_is_never_called_not_written(tmp_path: Path) -> None:
    fs = FaultyFs()
    log = perdure.open(Log, tmp_path, fs=fs)
    append = machine_of(log).journal.append

    def and_then_fail(drafts: Any, **options: Any) -> None:
        append(drafts, **options)
        if drafts[0].payload and b"money" in drafts[0].payload:
            other = FaultyFs(fail_at=1, mode="once", error=errno.EIO, of=("sync",))
            machine_of(log).journal._fs = other  # type: ignore[attr-defined]
            thread = threading.Thread(target=_sync_and_fail, args=(log,))
            thread.start()
            thread.join()

    machine_of(log).journal.append = and_then_fail  # type: ignore[method-assign]
    with pytest.raises(perdure.WriteError) as caught:
        log.add("money")
    assert caught.value.outcome == "unknown"
    assert list(perdure.control(log).history()) == []
    with pytest.raises(perdure.WriteError):
        log.add("more")
    perdure.control(log).close()


@pytest.mark.parametrize("rollback", ["restore", "shadow"])
def test_a_subclass_of_a_built_in_container_is_rolled_back(tmp_path: Path, rollback: Any) -> None:
    with perdure.open(Keeping, tmp_path, rollback=rollback) as keeping:
        keeping.put("a", 0)
        with pytest.raises(ValueError, match="1"):
            keeping.put("b", 1)
        assert dict(keeping.items()) == {"a": 0}
    with perdure.open(Keeping, tmp_path) as keeping:
        assert dict(keeping.items()) == {"a": 0}


def test_keys_are_replaced_from_the_next_segment_on(tmp_path: Path) -> None:
    for number, secret in enumerate(([b"old"], [b"new", b"old"], [b"new", b"old"], [b"new", b"old"])):
        with perdure.open(Log, tmp_path, secret=secret) as log:
            log.add(number)
    with perdure.open(Log, tmp_path, secret=b"new") as log:
        assert log.items == [0, 1, 2, 3]


def test_a_journal_that_is_gone_is_missed(tmp_path: Path) -> None:
    with perdure.open(Log, tmp_path) as log:
        log.add(0)
    (tmp_path / "journal-00000001").unlink()
    with pytest.raises(perdure.MissingError) as caught:
        perdure.open(Log, tmp_path)
    assert caught.value.seq == 1


def test_a_snapshot_and_a_pause_inside_a_query_are_refused(tmp_path: Path) -> None:
    with perdure.open(Log, tmp_path) as log:
        with pytest.raises(perdure.UsageError, match="within a command or a query"):
            log.ask(perdure.control(log).take_snapshot)
        with pytest.raises(perdure.UsageError, match="within a command or a query"):
            log.ask(perdure.control(log).close)
        assert log.add(1) == 1


def test_closing_from_a_signal_handler_waits_for_the_command_to_end(tmp_path: Path) -> None:
    fs = FaultyFs()
    log = perdure.open(Log, tmp_path, fs=fs)
    control = perdure.control(log)
    before = signal.signal(signal.SIGUSR1, lambda *_: control.close())
    try:
        journal = machine_of(log).journal
        sync = journal.sync
        journal.sync = lambda: (os.kill(os.getpid(), signal.SIGUSR1), sync())[1]  # type: ignore[method-assign]
        assert log.add(1) == 1
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert control.closed
    with perdure.open(Log, tmp_path) as log:
        assert log.items == [1]


@pytest.mark.leaky("a signal that arrives while a file is being opened carries the descriptor off before it has a name")
def test_an_interrupt_at_any_moment_leaves_no_lock_behind(tmp_path: Path) -> None:
    """A real signal, again and again, at random moments of commands; the handle answers or refuses, and never hangs."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for round_number in range(60):
            log = perdure.open(Log, tmp_path)
            count = len(log.items)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00002 * (round_number % 30 + 1))
                for _ in range(200):
                    log.add("x")
            except KeyboardInterrupt:
                pass
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            thread = threading.Thread(target=_call_and_close, args=(log,))
            thread.start()
            thread.join(20)
            assert not thread.is_alive()
            with perdure.open(Log, tmp_path) as log:
                assert len(log.items) >= count
    finally:
        signal.signal(signal.SIGALRM, before)


def _sync_and_fail(log: Log) -> None:
    with pytest.raises(perdure.WriteError):
        perdure.control(log).sync()


def _call_and_close(log: Log) -> None:
    try:
        log.add("y")
    except perdure.WriteError:
        pass
    finally:
        perdure.control(log).close()


def test_a_system_that_is_dropped_after_a_raising_command_lets_go(tmp_path: Path) -> None:
    gc.disable()  # It would find a cycle, and hide that there is one.
    try:
        log = perdure.open(Log, tmp_path)
        for number in range(2):
            try:
                log.bad(number)
            except ValueError:
                pass
        machine = weakref.ref(machine_of(log))
        del log
        deadline = time.monotonic() + 30  # The keeper may be looking at it just now.
        while machine() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert machine() is None
        perdure.control(perdure.open(Log, tmp_path)).close()
    finally:
        gc.enable()


def test_closing_that_was_interrupted_is_finished_by_the_next_call(tmp_path: Path) -> None:
    """A real signal in the last sync; the seal and the lock are what is left to be done."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    fs = FaultyFs()
    log = perdure.open(Log, tmp_path, fs=fs, snapshot="manual")
    log.add(1)
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        journal = machine_of(log).journal
        close = journal.close
        journal.close = lambda: (os.kill(os.getpid(), signal.SIGUSR1), close())[1]  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            perdure.control(log).close()
        journal.close = close  # type: ignore[method-assign]
    finally:
        signal.signal(signal.SIGUSR1, before)
    perdure.control(log).close()
    assert perdure.control(log).closed
    with perdure.open(Log, tmp_path) as log:
        assert log.items == [1]
