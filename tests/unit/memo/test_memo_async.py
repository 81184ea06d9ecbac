"""``@memo`` on ``async`` functions."""

from __future__ import annotations

import asyncio
import inspect
import threading
from pathlib import Path

import pytest

from perdure.errors import PersistableError
from perdure.memo import MISSING, memo


def test_tasks_share_one_computation(tmp_path: Path) -> None:
    calls = []

    @memo(tmp_path)
    async def f(n: int) -> list[int]:
        calls.append(n)
        await asyncio.sleep(0.02)
        return [n]

    async def main() -> None:
        assert await asyncio.gather(*(f(n % 3) for n in range(300))) == [[n % 3] for n in range(300)]
        assert sorted(calls) == [0, 1, 2]
        assert await f(n=1) == [1]
        assert f.peek(1) == [1]
        assert f.forget(1)
        assert f.peek(1) is MISSING

    asyncio.run(main())
    assert inspect.iscoroutinefunction(f) or asyncio.iscoroutinefunction(f)


def test_loops_in_threads_share_one_computation(tmp_path: Path) -> None:
    calls = []

    @memo(tmp_path)
    async def f() -> int:
        calls.append(1)
        await asyncio.sleep(0.05)
        return 1

    threads = [threading.Thread(target=lambda: asyncio.run(f())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_when_the_computing_task_is_cancelled_another_takes_over(tmp_path: Path) -> None:
    calls = []

    @memo(tmp_path)
    async def f() -> int:
        calls.append(1)
        await asyncio.sleep(0.05 if len(calls) > 1 else 60)
        return len(calls)

    async def main() -> None:
        first = asyncio.create_task(f())
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(f()) for _ in range(3)]
        await asyncio.sleep(0.05)
        first.cancel()
        assert await asyncio.gather(*others) == [2, 2, 2]
        with pytest.raises(asyncio.CancelledError):
            await first

    asyncio.run(main())
    assert len(calls) == 2


def test_a_raising_task_stores_nothing_unless_asked(tmp_path: Path) -> None:
    calls = []

    async def f() -> int:
        calls.append(1)
        raise ValueError("no")

    async def main() -> None:
        for function in (memo(tmp_path / "a")(f), memo(tmp_path / "b", exceptions=True)(f)):
            for _ in range(2):
                with pytest.raises(ValueError, match="no"):
                    await function()

    asyncio.run(main())
    assert len(calls) == 3


def test_a_result_that_awaits_itself_is_an_error_and_no_deadlock(tmp_path: Path) -> None:
    @memo(tmp_path)
    async def f(n: int) -> int:
        return 1 + await f(n)

    with pytest.raises(PersistableError, match="needs itself"):
        asyncio.run(f(1))


def test_the_loop_is_not_blocked_while_another_process_computes(tmp_path: Path) -> None:
    @memo(tmp_path)
    async def f() -> int:
        return 1

    async def main() -> None:
        f._store.prepare()
        lease = f._store.lease(bytes.fromhex(f.key()))
        assert lease.take_now()
        waiting = asyncio.create_task(f())
        for _ in range(10):
            await asyncio.sleep(0.01)
        assert not waiting.done()
        lease.give_back()
        assert await asyncio.wait_for(waiting, 60) == 1

    asyncio.run(main())
