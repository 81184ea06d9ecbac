"""One computation per result, whoever asks at the same time: threads, instances of one class, processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from perdure.errors import PersistableError
from perdure.memo import persisted

THREADS = 8


def in_threads(work: Callable[[], object]) -> list[object]:
    barrier = threading.Barrier(THREADS)

    def run() -> object:
        barrier.wait()
        return work()

    with ThreadPoolExecutor(THREADS) as pool:
        return [future.result(timeout=30) for future in [pool.submit(run) for _ in range(THREADS)]]


class Slow:
    calls = 0

    @property
    @persisted("_own")
    def own(self) -> object:
        time.sleep(0.05)
        type(self).calls += 1
        return object()


class SlowShared:
    calls = 0

    @property
    @persisted("_all", cache_global=True)
    def shared(self) -> object:
        time.sleep(0.05)
        type(self).calls += 1
        return object()


def test_threads_share_one_computation() -> None:
    owner = Slow()
    assert len(set(map(id, in_threads(lambda: owner.own)))) == 1
    assert Slow.calls == 1


def test_threads_with_their_own_instances_share_one_global_computation() -> None:
    results = in_threads(lambda: SlowShared().shared)
    assert len(set(map(id, results))) == 1
    assert SlowShared.calls == 1


def test_threads_that_need_each_others_results_get_an_error_and_no_deadlock() -> None:
    both, computing = threading.Barrier(2), set[int]()

    def meet() -> None:
        # Each thread once, in its first computation: then each holds what the other wants.
        if threading.get_ident() not in computing:
            computing.add(threading.get_ident())
            both.wait(20)

    class Circle:
        @property
        @persisted("_a")
        def a(self) -> int:
            meet()
            return self.b + 1

        @property
        @persisted("_b")
        def b(self) -> int:
            meet()
            return self.a + 1

    owner = Circle()
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(lambda: owner.a), pool.submit(lambda: owner.b)]
        errors = [future.exception(20) for future in futures]
    assert all(isinstance(error, PersistableError) for error in errors)


def test_threads_that_wait_along_a_chain_are_no_circle() -> None:
    class Chain:
        calls = 0

        @property
        @persisted("_a")
        def a(self) -> int:
            time.sleep(0.02)
            type(self).calls += 1
            return 1

        @property
        @persisted("_b")
        def b(self) -> int:
            return self.a + 1

        @property
        @persisted("_c")
        def c(self) -> int:
            return self.b + self.a

    owner = Chain()
    turns = iter(range(1000))
    assert set(in_threads(lambda: (owner.a, owner.b, owner.c)[next(turns) % 3])) <= {1, 2, 3}
    assert Chain.calls == 1


class InFile:
    @property
    @persisted("_kept", path="result.dat")
    def value(self) -> int:
        with open("calls", "a") as calls:
            calls.write(f"{os.getpid()}\n")
        time.sleep(0.2 if not os.path.exists("hang") else 60)
        return 42


def ask(directory: str, answers: multiprocessing.SimpleQueue[int]) -> None:
    os.chdir(directory)
    answers.put(InFile().value)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_four_processes_compute_once(tmp_path: Path, method: str) -> None:
    context = multiprocessing.get_context(method)
    answers = context.SimpleQueue()
    children = [context.Process(target=ask, args=(str(tmp_path), answers)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [answers.get() for _ in children] == [42] * 4
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == ["calls", "result.dat"]
    answers.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_when_the_computing_process_is_killed_one_successor_computes(tmp_path: Path, method: str) -> None:
    context = multiprocessing.get_context(method)
    answers = context.SimpleQueue()
    (tmp_path / "hang").touch()
    children = [context.Process(target=ask, args=(str(tmp_path), answers)) for _ in range(4)]
    for child in children:
        child.start()
    while not (tmp_path / "calls").exists() or not (tmp_path / "calls").read_text().endswith("\n"):
        time.sleep(0.01)
    (tmp_path / "hang").unlink()
    os.kill(int((tmp_path / "calls").read_text()), signal.SIGKILL)
    for child in children:
        child.join(60)
    assert [answers.get() for _ in range(3)] == [42] * 3
    assert len((tmp_path / "calls").read_text().splitlines()) == 2
    answers.close()


def test_a_forked_child_is_not_held_up_by_a_thread_of_its_parent() -> None:
    started, finish = threading.Event(), threading.Event()

    class Owner:
        @property
        @persisted("_kept")
        def value(self) -> int:
            if threading.current_thread() is not threading.main_thread():
                started.set()
                finish.wait(30)
            return 1

    owner = Owner()
    thread = threading.Thread(target=lambda: owner.value)
    thread.start()
    started.wait(30)
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        os._exit(0 if owner.value == 1 else 1)
    _, status = os.waitpid(pid, 0)
    finish.set()
    thread.join()
    assert status == 0
