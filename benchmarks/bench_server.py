"""The server and its clients beside a bare starlette endpoint that does nothing.

``python -m benchmarks.bench_server`` prints the rows; ``run()`` returns them.

Both are real processes on loopback, uvicorn with uvloop and httptools, and both are asked in turns, a little each.
What the bare endpoint is asked with is ``http.client`` on a kept connection, which is what perdure's client is built
on: the ratio is what perdure adds. The durable row is compared with the same call without durability plus one
``fdatasync`` of the same disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import perdure
from benchmarks._report import ROOT, Table, figure

ROUNDS = 15
CALLS = 100
CLIENTS = 64
TOKEN = "t" * 32
BODY = b'{"args": ["name"]}'

APP = """
from perdure import readonly

class Counter:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, name: str) -> int:
        self.counts[name] = self.counts.get(name, 0) + 1
        return self.counts[name]

    @readonly
    def get(self, name: str) -> int:
        return self.counts.get(name, 0)
"""
BARE = """
import asyncio, socket, sys
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

async def nothing(request):
    return Response(b"")

application = Starlette(routes=[Route("/call/{name}", nothing, methods=["POST"])])
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
config = uvicorn.Config(application, access_log=False, log_config=None, http="httptools", loop="uvloop", ws="none")
uvicorn.Server(config).run([listener])
"""


class Row(NamedTuple):
    """``microseconds``: the median of one call, or of the time per call where many call at once.

    ``ratio``: how many times as long as the candidate it takes; ``goal``: what the ratio may be at most.
    """

    case: str
    candidate: str
    microseconds: float
    ratio: float | None
    goal: float | None = None
    note: str = ""


def run() -> list[Row]:
    """All rows."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder)
        (path / "counter_app.py").write_text(APP)
        sys.path.insert(0, folder)
        stack.callback(sys.path.remove, folder)
        token_file = path / "tokens"
        token_file.write_text(f"read,write {TOKEN} bench\n")
        token_file.chmod(0o600)
        bare_port = stack.enter_context(bare(path))
        urls = {durability: stack.enter_context(served(path, durability)) for durability in ("always", "everysec")}
        return [*one_client(urls, bare_port, path, stack), *many_clients(urls, bare_port), *many_tasks(urls, path)]


def table(rows: list[Row]) -> Table:
    """For people."""
    columns = ("what", "beside", "microseconds", "× as long", "goal", "note")
    lines = [
        (
            row.case,
            row.candidate,
            figure(row.microseconds),
            "" if row.ratio is None else figure(row.ratio),
            ""
            if row.goal is None
            else f"{'ok' if row.ratio is not None and row.ratio <= row.goal else 'MISSED'}: ≤ {row.goal:g}",
            row.note,
        )
        for row in rows
    ]
    return Table(columns, lines, "Times of one call; with many clients at once, of all calls by their number.")


# ---- the two servers


@contextlib.contextmanager
def bare(folder: Path) -> Iterator[int]:
    """A starlette endpoint that reads nothing and answers nothing; its port."""
    script = folder / "bare.py"
    script.write_text(BARE)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@contextlib.contextmanager
def served(folder: Path, durability: str) -> Iterator[str]:
    """``perdure serve``; its URL."""
    command = [
        sys.executable, "-m", "perdure", "serve", "counter_app:Counter", "--dir", str(folder / durability), "--json",
        "--port", "0", "--durability", durability, "--token-file", str(folder / "tokens"),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


def connection(stack: ExitStack, port: int) -> http.client.HTTPConnection:
    made = http.client.HTTPConnection("127.0.0.1", port)
    made.connect()
    made.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stack.callback(made.close)
    return made


def asking(made: http.client.HTTPConnection) -> Callable[[], object]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}

    def ask() -> object:
        made.request("POST", "/call/add", BODY, headers)
        return made.getresponse().read()

    return ask


def connected(url: str) -> Any:
    import counter_app

    return perdure.connect(counter_app.Counter, url, token=TOKEN)


# ---- one client


def one_client(urls: dict[str, str], bare_port: int, folder: Path, stack: ExitStack) -> list[Row]:
    """One caller, one call after the other, over one kept connection."""
    wiki = {durability: stack.enter_context(connected(url)) for durability, url in urls.items()}
    fd = os.open(folder / "sync", os.O_WRONLY | os.O_CREAT)
    stack.callback(os.close, fd)

    def sync() -> None:
        os.pwrite(fd, os.urandom(64), 0)
        os.fdatasync(fd)

    candidates: dict[str, Callable[[], object]] = {
        "bare starlette endpoint": asking(connection(stack, bare_port)),
        "query": lambda: wiki["everysec"].get("name"),
        "command, everysec": lambda: wiki["everysec"].add("name"),
        "command, always": lambda: wiki["always"].add("name"),
        "one fdatasync": sync,
    }
    medians = in_turns(candidates)
    base, synced = medians["bare starlette endpoint"], medians["one fdatasync"]
    rows = [Row("one client: bare starlette endpoint", "", base, None), Row("one fdatasync", "", synced, None)]
    for case in ("query", "command, everysec"):
        rows.append(
            Row(
                f"one client: {case}",
                "bare starlette endpoint",
                medians[case],
                medians[case] / base,
                2.0 if case == "query" else None,
            )
        )
    durable = medians["command, always"]
    added = (durable - medians["command, everysec"]) / synced
    rows.append(
        Row(
            "one client: command, always", "the same without durability, and one sync", durable,
            durable / (medians["command, everysec"] + synced), 1.2, f"adds {added:.2f} syncs",
        )
    )  # fmt: skip
    return rows


def in_turns(candidates: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Medians of one call, in microseconds; whatever else the machine does hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for call in candidates.values():
        call()
    gc.collect()
    gc.disable()
    try:
        for _ in range(ROUNDS):
            for name, call in candidates.items():
                for _ in range(CALLS // 5):
                    start = time.perf_counter()
                    call()
                    times[name].append((time.perf_counter() - start) * 1e6)
    finally:
        gc.enable()
    return {name: statistics.median(found) for name, found in times.items()}


# ---- many


def many_clients(urls: dict[str, str], bare_port: int) -> list[Row]:
    """64 callers, each in a thread with a connection of its own, in one process: it is the busier side."""

    def bare_caller(stack: ExitStack) -> Callable[[], object]:
        return asking(connection(stack, bare_port))

    def caller(durability: str) -> Callable[[ExitStack], Callable[[], object]]:
        def make(stack: ExitStack) -> Callable[[], object]:
            wiki = stack.enter_context(connected(urls[durability]))
            return lambda: wiki.add("name")

        return make

    made = {"bare": bare_caller, "everysec": caller("everysec"), "always": caller("always")}
    found: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(3):
        for name, make in made.items():
            found[name].append(storm(make))
    medians = {name: statistics.median(times) for name, times in found.items()}
    return [
        Row("64 clients: bare starlette endpoint", "", medians["bare"], None),
        *(
            Row(
                f"64 clients: command, {name}", "bare starlette endpoint", medians[name],
                medians[name] / medians["bare"], 2.0, f"{1e6 / medians[name]:,.0f} commands/s",
            )
            for name in ("everysec", "always")
        ),
    ]  # fmt: skip


def storm(make: Callable[[ExitStack], Callable[[], object]]) -> float:
    """Microseconds per call, of all calls together."""
    with ExitStack() as stack:
        calls = [make(stack) for _ in range(CLIENTS)]
        gate = threading.Barrier(CLIENTS + 1)

        def work(call: Callable[[], object]) -> None:
            call()
            gate.wait()
            for _ in range(CALLS // 4):
                call()

        threads = [threading.Thread(target=work, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        gate.wait()
        start = time.perf_counter()
        for thread in threads:
            thread.join()
        return (time.perf_counter() - start) / (CLIENTS * (CALLS // 4)) * 1e6


def many_tasks(urls: dict[str, str], folder: Path) -> list[Row]:
    """64 tasks of one event loop, which all wait for their own command."""
    import counter_app

    async def storm_of_tasks(url: str) -> float:
        async with perdure.connect_async(counter_app.Counter, url, token=TOKEN) as counter:

            async def work() -> None:
                for _ in range(CALLS // 4):
                    await counter.add("name")

            await asyncio.gather(*(counter.add("name") for _ in range(CLIENTS)))
            start = time.perf_counter()
            await asyncio.gather(*(work() for _ in range(CLIENTS)))
            return (time.perf_counter() - start) / (CLIENTS * (CALLS // 4)) * 1e6

    rows = []
    for durability, url in urls.items():
        each = statistics.median(asyncio.run(storm_of_tasks(url)) for _ in range(3))
        rows.append(Row(f"64 tasks: command, {durability}", "", each, None, note=f"{1e6 / each:,.0f} commands/s"))
    return rows


if __name__ == "__main__":
    print(table(run()).markdown())
