"""Tasks of an event loop, and replicas that catch up, beside the disk and beside coopy.

``python -m benchmarks async`` prints a table. The candidates of a row run in turns,
a little each, in one process; what counts is the ratio of the medians, and the best of the rounds is told as well,
because other programs share the machine. "disk": one write and one fdatasync.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import perdure
from benchmarks._report import Table, figure
from benchmarks.bench_system import Row, Wiki
from perdure.replica._frames import ENTRIES as ENTRIES_FRAME
from perdure.replica._frames import HELLO, FrameReader, check_hello, decode_entries, salt_of

TASKS = 1000
TURNS = 20
ROUNDS = 7
ENTRIES = 200_000
LIVE = 10_000


async def tasks(call: Callable[..., Any], count: int = TASKS, turns: int = TURNS) -> float:
    """Commands per second of ``count`` tasks that each make ``turns`` calls, one after the other."""

    async def task(number: int) -> None:
        for turn in range(turns):
            await call(f"page {number}", "Welcome to the page", turn)

    started = time.perf_counter()
    await asyncio.gather(*(task(number) for number in range(count)))
    return count * turns / (time.perf_counter() - started)


async def lateness_s(work: Coroutine[Any, Any, Any]) -> float:
    """How late a callback came at worst, that wanted to run every 5 ms, while ``work`` went on."""
    late_s = 0.0
    done = False

    async def watch() -> None:
        nonlocal late_s
        while not done:
            wanted = time.perf_counter() + 0.005
            await asyncio.sleep(0.005)
            late_s = max(late_s, time.perf_counter() - wanted)

    watcher = asyncio.ensure_future(watch())
    await asyncio.sleep(0.02)
    await work
    done = True
    await watcher
    return late_s


def disk_rate(folder: str, seconds: float = 0.3) -> float:
    """Single writes of 100 bytes with an fdatasync each, per second."""
    fd = os.open(os.path.join(folder, "disk"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    count = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        os.write(fd, b"x" * 100)
        os.fdatasync(fd)
        count += 1
    os.close(fd)
    return count / (time.perf_counter() - started)


async def _bare(name: str, content: str, version: int) -> None:
    """What asyncio itself takes for one wait per command: a future that the loop sets."""
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, None)
    await future


def open_async_rows(folder: str, loop_name: str, runner: Callable[[Coroutine[Any, Any, Any]], Any]) -> list[Row]:
    async def measure() -> dict[str, list[float]]:
        found: dict[str, list[float]] = {name: [] for name in ("perdure", "asyncio", "disk", "late", "bare", "coopy")}
        where = os.path.join(folder, loop_name)
        async with perdure.open_async(Wiki, where, snapshot="manual") as wiki:
            for _ in range(ROUNDS):
                # Before coopy is there, which has callbacks of its own on the loop.
                found["late"].append(await lateness_s(tasks(wiki.create_page)))
                found["bare"].append(await lateness_s(tasks(_bare)))
            coopy = await _coopy(os.path.join(folder, f"coopy-{loop_name}"))
            for _ in range(ROUNDS):
                found["disk"].append(await asyncio.to_thread(disk_rate, folder))
                found["perdure"].append(await tasks(wiki.create_page))
                found["asyncio"].append(await tasks(_bare))
                if coopy is not None:
                    found["coopy"].append(await tasks(coopy.create_page, turns=1))
        if coopy is not None:
            await coopy.aclose()
        return found

    found = runner(measure())
    middle = {name: statistics.median(values) if values else 0.0 for name, values in found.items()}
    figures = (
        f"perdure {middle['perdure']:,.0f}/s (best {max(found['perdure']):,.0f}/s), disk {middle['disk']:,.0f}/s, "
        f"a bare future each {middle['asyncio']:,.0f}/s"
    )
    late = f"{ROUNDS} rounds; with a bare future each {max(found['bare']) * 1000:.1f} ms"
    rows = [
        Row(f"{loop_name}: {TASKS} tasks, durable, commands/s", middle["perdure"], ">= 200,000", figures),
        Row(f"{loop_name}: the same, to the disk", middle["perdure"] / middle["disk"], ">= 50", figures),
        Row(f"{loop_name}: the same, to a bare future each", middle["perdure"] / middle["asyncio"], "", figures),
        Row(f"{loop_name}: the loop late at worst, ms", max(found["late"]) * 1000, "<= 50", late),
    ]
    if found["coopy"]:
        ratio = middle["perdure"] / middle["coopy"]
        rows.append(Row(f"{loop_name}: the same, to coopy 0.7.0", ratio, "", f"coopy {middle['coopy']:,.0f}/s"))
    return rows


async def _coopy(folder: str) -> Any:
    """coopy's AsyncPersistent, as durable."""
    try:
        from coopy.asyncio import AsyncPersistent
    except ImportError:
        return None
    return await AsyncPersistent.open(Wiki(), folder, durability="sync", validation="off")


def feed_rows(folder: str) -> list[Row]:
    """A replica in this process catches up with a primary that is served by another."""
    where = os.path.join(folder, "primary")
    with perdure.open(Wiki, where, durability="never", snapshot="manual") as wiki:
        for number in range(ENTRIES):
            wiki.create_page(f"page {number % 1000}", "Welcome to the page", number)
        perdure.control(wiki).sync()
    command = [sys.executable, "-m", "perdure", "serve", "benchmarks.bench_system:Wiki", "--dir", where]
    with subprocess.Popen([*command, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True) as served:
        try:
            assert served.stdout is not None
            url = json.loads(served.stdout.readline())["url"]
            sent = max(_drain(url) for _ in range(2))
            rates = []
            for kept, place in (("in memory", None), ("on disk", os.path.join(folder, "replica"))):
                started = time.perf_counter()
                replica = perdure.follow(Wiki, url, place, snapshot="manual")
                while perdure.control(replica).seq < ENTRIES:
                    time.sleep(0.005)
                rates.append((kept, ENTRIES / (time.perf_counter() - started)))
                replica.close()  # type: ignore[attr-defined]
        finally:
            served.terminate()
            served.wait()
    figures = f"{ENTRIES:,} entries; the feed alone, to a client that only counts bytes: {sent:,.0f}/s"
    return [Row(f"feed: a replica {kept} catches up, entries/s", rate, ">= 100,000", figures) for kept, rate in rates]


def live_rows(folder: str) -> list[Row]:
    """Commands that are called while a replica in the same process follows, until it has them all. Buffered, both."""
    primary: Any = perdure.open(Wiki, os.path.join(folder, "live"), durability="never", snapshot="manual")
    url = primary.start_master(port=0)
    replica = perdure.follow(Wiki, url, os.path.join(folder, "live-replica"), durability="never", snapshot="manual")
    ours = _live_rate(primary, replica)
    replica.close()  # type: ignore[attr-defined]
    primary.close()
    theirs = _coopy_live_rate(folder)
    figures = f"perdure {ours:,.0f}/s, coopy {theirs:,.0f}/s"
    return [Row("live replica, to coopy 0.7.0", ours / theirs if theirs else None, "", figures)]


def _live_rate(primary: Any, replica: Any, count: int = LIVE) -> float:
    started = time.perf_counter()
    for number in range(count):
        primary.create_page(f"page {number % 1000}", "Welcome to the page", number)
    while replica.count < count:
        if time.perf_counter() - started > 60:
            return 0.0
        time.sleep(0.001)
    return count / (time.perf_counter() - started)


def _coopy_live_rate(folder: str) -> float:
    try:
        from coopy.base import init_persistent_system
    except ImportError:
        return 0.0
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        primary: Any = init_persistent_system(Wiki(), basedir=os.path.join(folder, "coopy-primary"), validation="off")
        replica: Any = init_persistent_system(Wiki(), basedir=os.path.join(folder, "coopy-replica"), validation="off")
        primary.start_primary(port, "a password")
        replica.start_replica("127.0.0.1", port, "a password")
        try:
            return _live_rate(primary, replica)
        finally:
            replica.close()
            primary.close()


def _drain(url: str) -> float:
    """Entries per second of the feed alone, decoded and counted."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    connection.request("GET", "/feed?after=0")
    response = connection.getresponse()
    started = time.perf_counter()
    reader, salt, seq = FrameReader(), 0, 0
    while seq < ENTRIES:
        for frame in reader.feed(response.read1(1 << 18)):
            if frame.kind == HELLO:
                salt = salt_of(check_hello(frame).log_id)
            elif frame.kind == ENTRIES_FRAME:
                seq += len(decode_entries(frame.body, seq, salt))
    rate = ENTRIES / (time.perf_counter() - started)
    connection.close()
    return rate


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        rows = open_async_rows(folder, "asyncio", asyncio.run)
        with contextlib.suppress(ImportError):
            import uvloop

            rows += open_async_rows(folder, "uvloop", uvloop.run)
        return rows + feed_rows(folder) + live_rows(folder)


def table(rows: list[Row]) -> Table:
    return Table(
        ("case", "measured", "goal", "figures"),
        [(row.case, "" if row.ratio is None else figure(row.ratio), row.goal, row.figures) for row in rows],
    )
