"""``perdure.open_async`` on asyncio's own loop and on uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

import perdure
from perdure.aio import Committer
from perdure.system import encode_command, system_of
from perdure.testing import FaultyFs

WAIT_S = 60.0
Run = Callable[[Coroutine[Any, Any, Any]], Any]
uvloop.run(asyncio.sleep(0))  # Libuv opens one pipe per process for signals, and keeps it.
who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


class Wiki:
    """Pages by name."""

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {}
        self.threads: list[int] = []

    def put(self, name: str, content: Any) -> int:
        if content is None:
            raise ValueError(name)
        self.pages[name] = content
        return len(self.pages)

    @perdure.abort_exception
    def put_and_fail(self, name: str) -> None:
        self.pages[name] = "never"
        raise KeyError(name)

    def stop(self) -> None:
        raise StopIteration

    def endless(self) -> None:
        self.endless()

    @perdure.readonly
    def get(self, name: str) -> Any:
        return self.pages[name]

    @perdure.readonly
    def each(self) -> Iterator[str]:
        yield from self.pages

    @property
    def count(self) -> int:
        return len(self.pages)

    def __len__(self) -> int:
        return len(self.pages)

    def __setitem__(self, name: str, content: Any) -> None:
        self.pages[name] = content


class Traced:
    """Notes, outside of its state, where its commands ran."""

    notes: list[tuple[int, str]] = []

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        Traced.notes.append((threading.get_ident(), who.get()))
        return self.count


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    runner = asyncio.run if request.param == "asyncio" else uvloop.run

    def bounded(main: Coroutine[Any, Any, Any]) -> Any:
        return runner(asyncio.wait_for(main, WAIT_S))  # type: ignore[operator]

    return bounded


def test_commands_queries_and_attributes(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        async with perdure.open_async(Wiki, tmp_path / "w") as wiki:
            assert await wiki.put("a", 1) == 1
            assert await wiki.get("a") == 1
            assert list(await wiki.each()) == ["a"]
            assert (wiki.count, len(wiki), wiki.pages) == (1, 1, {"a": 1})
            with pytest.raises(KeyError):
                await wiki.get("b")
            with pytest.raises(AttributeError):
                wiki.nothing
        assert perdure.control(wiki).closed

    run(main())
    with perdure.open(Wiki, tmp_path / "w") as again:
        assert again.pages == {"a": 1}


def test_a_thousand_tasks_share_syncs(tmp_path: Path, run: Run) -> None:
    async def task(wiki: Any, number: int) -> None:
        for turn in range(3):
            await wiki.put(f"{number}-{turn}", turn)

    async def main() -> int:
        fs = FaultyFs()
        async with perdure.open_async(Wiki, tmp_path / "w", fs=fs, snapshot="manual") as wiki:
            before = fs.counts["sync"]
            await asyncio.gather(*(task(wiki, number) for number in range(1000)))
            assert len(wiki) == 3000
            return fs.counts["sync"] - before

    assert run(main()) < 300
    with perdure.open(Wiki, tmp_path / "w") as again:
        assert len(again.pages) == 3000


def test_raising_commands_leave_what_they_leave_in_any_system(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        async with perdure.open_async(Wiki, tmp_path / "w") as wiki:
            answers = await asyncio.gather(
                wiki.put("a", 1), wiki.put("b", None), wiki.put_and_fail("c"), wiki.put("d", 2), return_exceptions=True
            )
            assert [type(answer) for answer in answers] == [int, ValueError, KeyError, int]
            with pytest.raises(RuntimeError, match="StopIteration"):
                await wiki.stop()
            with pytest.raises(RecursionError):
                await wiki.endless()
            assert wiki.pages == {"a": 1, "d": 2}
            assert [command.outcome for command in await perdure.control(wiki).history()] == [
                "returned", "raised", "aborted", "returned", "raised", "interrupted",
            ]  # fmt: skip

    run(main())
    with perdure.open(Wiki, tmp_path / "w") as again:
        assert again.pages == {"a": 1, "d": 2}


def test_cancelling_an_await_cancels_no_command(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        async with perdure.open_async(Wiki, tmp_path / "w") as wiki:

            async def put() -> None:
                await wiki.put("a", 1)

            task = asyncio.ensure_future(put())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await wiki.put("b", 2)
            assert wiki.pages == {"a": 1, "b": 2}

    run(main())


def test_closing_waits_for_what_was_accepted(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        async with perdure.open_async(Wiki, tmp_path / "w") as wiki:
            waiting = [wiki.put(str(number), number) for number in range(500)]
        assert all(future.done() for future in waiting)
        with pytest.raises(perdure.ClosedError):
            await wiki.put("late", 1)
        await perdure.control(wiki).close()

    run(main())
    with perdure.open(Wiki, tmp_path / "w") as again:
        assert len(again.pages) == 500


def test_commands_run_on_the_loops_thread_in_their_callers_context(tmp_path: Path, run: Run) -> None:
    async def task(traced: Any, name: str) -> None:
        who.set(name)
        await traced.add()

    async def main() -> None:
        Traced.notes.clear()
        async with perdure.open_async(Traced, perdure.MEMORY, validate="off") as traced:
            await asyncio.gather(task(traced, "ann"), task(traced, "bob"))
        assert [name for _, name in Traced.notes] == ["ann", "bob"]
        assert {thread for thread, _ in Traced.notes} == {threading.get_ident()}

    run(main())


def test_the_loop_goes_on_while_much_is_applied(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        turns = 0
        done = False

        async def turn() -> None:
            nonlocal turns
            while not done:
                await asyncio.sleep(0)
                turns += 1

        async with perdure.open_async(Wiki, tmp_path / "w", snapshot="manual") as wiki:
            watcher = asyncio.ensure_future(turn())
            futures = [wiki.put(str(number), number) for number in range(20_000)]
            await futures[0]
            before = turns
            await asyncio.gather(*futures)
            done = True
            await watcher
            assert turns > before

    run(main())


def test_what_cannot_be_encoded_is_refused_at_the_call(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        async with perdure.open_async(Wiki, tmp_path / "w") as wiki:
            with pytest.raises(perdure.CodecError):
                wiki.put("a", lambda: 1)
            with pytest.raises(perdure.UsageError, match="cannot be awaited"):
                wiki["a"] = 1
            with pytest.raises(perdure.UsageError, match="cannot be awaited"):
                wiki.pages = {}
            with pytest.raises(perdure.UsageError, match="cannot be awaited"):
                del wiki.pages
            assert perdure.control(wiki).seq == 0

    run(main())


def test_the_callers_list_stays_the_callers(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        async with perdure.open_async(Wiki, tmp_path / "w") as wiki:
            content = [1]
            future = wiki.put("a", content)
            content.append(2)
            await future
            assert wiki.pages == {"a": [1]}

    run(main())


def test_a_refused_write_leaves_nothing_and_the_next_command_goes_on(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        fs = FaultyFs(of={"write"}, error=errno.ENOSPC)
        async with perdure.open_async(Wiki, tmp_path / "w", fs=fs) as wiki:
            await wiki.put("a", 1)
            fs.fail_at = 1
            answers = await asyncio.gather(wiki.put("b", 2), wiki.put("c", 3), return_exceptions=True)
            assert [answer.outcome for answer in answers] == ["not-written"] * 2  # type: ignore[union-attr]
            await wiki.put("d", 4)
            assert list(wiki.pages) == ["a", "d"]

    run(main())


def test_a_failed_sync_ends_the_handle_and_queries_go_on(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        fs = FaultyFs(of={"sync"})
        wiki = await perdure.open_async(Wiki, tmp_path / "w", fs=fs, snapshot="manual")
        await wiki.put("a", 1)
        fs.fail_at = 1
        answers = await asyncio.gather(wiki.put("b", 2), wiki.put("c", 3), return_exceptions=True)
        assert [answer.outcome for answer in answers] == ["unknown"] * 2  # type: ignore[union-attr]
        with pytest.raises(perdure.WriteError):
            await wiki.put("d", 4)
        assert await wiki.get("a") == 1
        with contextlib.suppress(perdure.WriteError):
            await wiki.close()

    run(main())
    with perdure.open(Wiki, tmp_path / "w") as again:
        assert again.pages["a"] == 1


def test_control_from_the_loops_thread_does_not_stand_still(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        async with perdure.open_async(Wiki, tmp_path / "w") as wiki:
            control = perdure.control(wiki)
            told: list[str] = []
            control.subscribe(lambda command: told.append(command.method))
            busy = asyncio.gather(*(wiki.put(str(number), number) for number in range(2000)))
            seq = await control.take_snapshot()
            await busy
            assert control.seq == await control.sync() == 2000 == control.durable_seq
            assert 0 <= seq <= 2000
            assert len(told) == 2000
            assert len((await control.at(7)).pages) == 7
            assert control.path == str(tmp_path / "w")
            assert control.lag is None
            assert control.report.replayed == 0
            assert await control.digest() == await control.digest()
            assert await wiki.take_snapshot() == 2000

    run(main())


def test_builtins_and_readers(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        async with perdure.open_async(dict, tmp_path / "d") as store:
            await store.update(a=1)
            assert (store["a"], len(store), "a" in store, await store.get("a")) == (1, 1, True, 1)
            async with perdure.open_async(dict, tmp_path / "d", mode="r") as reader:
                while "a" not in reader:
                    await asyncio.sleep(0.01)
                with pytest.raises(perdure.ReadOnlyError):
                    reader.update(b=2)

    run(main())


def test_threads_and_tasks_call_the_same_machine(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        wiki = perdure.open(Wiki, tmp_path / "w")
        system = system_of(wiki)
        assert system.machine is not None
        committer = Committer(system.machine)

        def put_many(name: str) -> None:
            for number in range(50):
                wiki.put(f"{name}{number}", number)

        threads = [asyncio.to_thread(put_many, name) for name in "ab"]
        payload, args, kwargs = encode_command(system.codec, "put", ("x", 1), {})
        futures = [committer.submit(payload, (Wiki.put, args, kwargs)) for _ in range(50)]
        once = [committer.submit(payload, client=b"c" * 16, counter=1) for _ in range(3)]
        await asyncio.gather(*threads, *futures, *once)
        assert len({future.result() for future in once}) == 1
        await committer.aclose()
        wiki.put("after", 1)
        assert perdure.control(wiki).seq == 152
        wiki.close()

    run(main())


def test_a_loop_that_ends_leaves_memory_and_journal_in_step(tmp_path: Path) -> None:
    wiki = perdure.open(Wiki, tmp_path / "w")
    machine = system_of(wiki).machine
    assert machine is not None

    async def main() -> Committer:
        committer = Committer(machine)
        payload, _, _ = encode_command(system_of(wiki).codec, "put", ("a", 1), {})
        committer.submit(payload)
        await asyncio.sleep(0)
        return committer

    asyncio.run(main())
    # The thread finds that nobody is there to be told, and is done.
    deadline = time.monotonic() + WAIT_S
    while machine.seq < 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    wiki.put("b", 2)
    assert wiki.pages == {"a": 1, "b": 2}
    wiki.close()


_CHILD = """
import asyncio, sys, perdure
sys.path.insert(0, sys.argv[2])
from tests.unit.aio.test_open_async import Wiki

async def main():
    async with perdure.open_async(Wiki, sys.argv[1]) as wiki:
        async def task(number):
            turn = len(wiki)
            while True:
                await wiki.put(f"{number}-{turn}", turn)
                print(f"{number}-{turn}", flush=True)
                turn += 1
        await asyncio.gather(*(task(number) for number in range(20)))

asyncio.run(main())
"""


def kill_under_load(folder: Path, rounds: int) -> None:
    acknowledged: set[str] = set()
    root = str(Path(__file__).resolve().parents[3])
    for _ in range(rounds):
        with subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(folder), root], stdout=subprocess.PIPE, cwd=root, text=True
        ) as child:
            assert child.stdout is not None
            for _ in range(200):
                acknowledged.add(child.stdout.readline().strip())
            os.kill(child.pid, signal.SIGKILL)
            acknowledged |= {line.strip() for line in child.stdout if line.endswith("\n")}
    with perdure.open(Wiki, folder) as wiki:
        assert acknowledged <= set(wiki.pages)


def test_a_killed_process_loses_nothing_that_was_awaited(tmp_path: Path) -> None:
    kill_under_load(tmp_path / "w", 3)


@pytest.mark.crash
def test_twenty_killed_processes_lose_nothing_that_was_awaited(tmp_path: Path) -> None:
    kill_under_load(tmp_path / "w", 20)
