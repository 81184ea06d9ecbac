"""Systems on engines, beside the bare client of each: commands a second, reads, and the time without writes.

``python -m benchmarks engines`` prints the rows; ``run()`` returns them.

Servers are started here: one and three NATS servers that sync before they acknowledge, and a PostgreSQL. The bare
client sends the same number of bytes, one after the other, and waits for each acknowledgement. Turns of all candidates
follow each other in each round; the median counts. All of it shares this machine's processors: three servers, three
nodes.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import perdure
from benchmarks._report import ROOT, Table, figure
from perdure.engines import EngineUrl, parse_url
from tests.engines._bank import Bank
from tests.engines._nats import NatsCluster, nats_cluster
from tests.integration._servers import postgres_server

ROUNDS = 3
SECONDS = 1.5
BYTES = 200
THREADS = 64
NODES = 3
READS = 200_000
GOAL_BATCHED = 20_000
_BLOB = b"x" * (BYTES - 60)  # With the head of an entry about as long as what the bare client sends.


class Row(NamedTuple):
    """``rate``: a second, or a time where ``unit`` says so. ``bare``: the same of the engine's own client."""

    engine: str
    case: str
    rate: float
    bare: float | None = None
    unit: str = "a second"


def run() -> list[Row]:
    """Measures everything."""
    warnings.simplefilter("ignore", perdure.EngineWarning)
    rows: list[Row] = []
    with ExitStack() as stack:
        three = stack.enter_context(nats_cluster(3))
        alone = stack.enter_context(nats_cluster(1))
        postgres = stack.enter_context(postgres_server())
        engines: list[tuple[str, Callable[[str], str], Callable[[EngineUrl], float]]] = [
            ("NATS, one server", alone.url, _bare_nats),
            ("NATS, three servers", three.url, _bare_nats),
            ("PostgreSQL", lambda name: f"{postgres.url.replace('+psycopg', '')}?system={name}", _bare_postgres),
        ]
        for number, (engine, url_of, bare) in enumerate(engines):
            rows += _measure(engine, url_of(f"bench{number}"), bare)
        rows.append(_three_nodes(three.url("nodes")))
        rows.append(_reads(alone.url("reads")))
        rows.append(_without_writes(three))
    return rows


def table(rows: list[Row]) -> Table:
    """The rows, with the ratio to the bare client."""
    cells = [
        (
            row.engine,
            row.case,
            f"{figure(row.rate)} {row.unit}",
            "" if row.bare is None else f"{figure(row.bare)} {row.unit}",
            "" if row.bare is None else f"{row.rate / row.bare:.2f}",
        )
        for row in rows
    ]
    return Table(("engine", "case", "perdure", "bare client", "ratio"), cells)


def _measure(engine: str, url: str, bare: Callable[[EngineUrl], float]) -> list[Row]:
    bank: Any = perdure.open(Bank, url, create=True)
    try:
        alone, own, many = [], [], []
        for _ in range(ROUNDS):
            alone.append(_calls(lambda: bank.put(_BLOB), 1))
            own.append(bare(parse_url(url)))
            many.append(_calls(lambda: bank.put(_BLOB), THREADS))
        return [
            Row(engine, "commands, one after the other", statistics.median(alone), statistics.median(own)),
            Row(engine, f"commands of {THREADS} threads", statistics.median(many)),
        ]
    finally:
        perdure.control(bank).close()


def _calls(call: Callable[[], object], threads: int) -> float:
    counts = [0] * threads
    until = time.perf_counter() + SECONDS

    def work(number: int) -> None:
        while time.perf_counter() < until:
            call()
            counts[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    started = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - started)


def _bare_nats(url: EngineUrl) -> float:
    import nats

    async def publish() -> float:
        client = await nats.connect([f"nats://{host}" for host in url.hosts])
        stream = client.jetstream()
        name = f"bare_{url.system}"
        replicas = 3 if len(url.hosts) >= 3 else 1
        await stream.add_stream(name=name, subjects=[name], num_replicas=replicas)
        count, started = 0, time.perf_counter()
        while time.perf_counter() < started + SECONDS:
            await stream.publish(name, b"x" * BYTES)
            count += 1
        rate = count / (time.perf_counter() - started)
        await stream.delete_stream(name)
        await client.close()
        return rate

    return asyncio.run(publish())


def _bare_postgres(url: EngineUrl) -> float:
    import psycopg

    with psycopg.connect(url.target, autocommit=True, prepare_threshold=1) as connection:
        connection.execute("create table if not exists bare (position bigserial primary key, data bytea not null)")
        count, started = 0, time.perf_counter()
        while time.perf_counter() < started + SECONDS:
            connection.execute("insert into bare (data) values (%s) returning position", (b"x" * BYTES,)).fetchone()
            count += 1
        return count / (time.perf_counter() - started)


_NODE = """
import json, sys, threading, time, warnings
warnings.simplefilter("ignore")
import perdure
from perdure.cluster._waiting import Waiting
from perdure.records import COMMAND
from perdure.system import system_of
from perdure.system._command import encode_command
from tests.engines._bank import Bank
bank = perdure.open(Bank, sys.argv[1])
node = system_of(bank).engine
payload = encode_command(system_of(bank).codec, "inc", ("x" * 60,), {})[0]
print("ready", flush=True)
sys.stdin.readline()
until, count, started = time.perf_counter() + float(sys.argv[2]), 0, time.perf_counter()
while time.perf_counter() < until:
    # What a server with many clients, or an event loop, hands over at once.
    waiting = [Waiting(COMMAND, payload, call=node.state.decode(payload), deadline_s=time.monotonic() + 60)
               for _ in range(500)]
    for each in waiting[:-1]:
        node._outbox.put(each)
    node.submit(waiting[-1])
    assert all(each.done and each.error is None for each in waiting)
    count += len(waiting)
print(json.dumps([count, time.perf_counter() - started]), flush=True)
sys.stdin.readline()
perdure.control(bank).close()
"""


def _three_nodes(url: str) -> Row:
    """Commands that arrive in heaps, on three nodes at once: how many are acknowledged, and run on all."""
    perdure.control(perdure.open(Bank, url, create=True)).close()
    rates = []
    for _ in range(ROUNDS):
        nodes = [
            subprocess.Popen(
                [sys.executable, "-c", _NODE, url, str(2 * SECONDS)],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for _ in range(NODES)
        ]  # fmt: skip
        for node in nodes:
            assert node.stdout is not None
            node.stdout.readline()
        for node in nodes:
            assert node.stdin is not None
            node.stdin.write("\n")
            node.stdin.flush()
        found = [json.loads(node.stdout.readline()) for node in nodes if node.stdout is not None]
        rates.append(sum(count / seconds for count, seconds in found))
        for node in nodes:
            node.communicate("\n")
    return Row("NATS, three servers", f"commands in heaps of 500 on {NODES} nodes", statistics.median(rates))


def _reads(url: str) -> Row:
    def seconds(bank: Any) -> float:
        query, started = bank.total, time.perf_counter()
        for _ in range(READS):
            query()
        return (time.perf_counter() - started) / READS * 1e9

    here: Any = perdure.open(Bank, url, create=True)
    embedded: Any = perdure.open(Bank, perdure.MEMORY)
    try:
        own = [(seconds(here), seconds(embedded)) for _ in range(ROUNDS)]
        rate, bare = (statistics.median(values) for values in zip(*own, strict=True))
        return Row("a query", "on a node, beside the same in one process", rate, bare, "ns")
    finally:
        for proxy in (here, embedded):
            perdure.control(proxy).close()


def _without_writes(cluster: NatsCluster) -> Row:
    """The leader is killed: how long nothing is acknowledged, to a node and to the bare client at the same time."""
    import nats

    bank: Any = perdure.open(Bank, cluster.url("gap"), create=True, timeout=60.0)
    done = threading.Event()
    gaps = {"node": 0.0, "bare": 0.0}

    def call() -> None:
        last = time.perf_counter()
        while not done.is_set():
            bank.inc("x")
            gaps["node"] = max(gaps["node"], time.perf_counter() - last)
            last = time.perf_counter()

    async def publish() -> None:
        hosts = parse_url(cluster.url("gap")).hosts
        client = await nats.connect(
            [f"nats://{host}" for host in hosts], reconnect_time_wait=0.05, ping_interval=1, max_reconnect_attempts=-1
        )
        # The same stream, so the same leader: what nodes do not know they would stop at, so the subject is another one.
        stream = client.jetstream(timeout=3)
        await stream.add_stream(name="bare_gap", subjects=["bare_gap"], num_replicas=3)
        info = await stream.stream_info("bare_gap")
        bare_leader.append(info.cluster.leader)
        ready.set()
        last = time.perf_counter()
        while not done.is_set():
            try:
                await stream.publish("bare_gap", b"x" * BYTES)
            except (nats.errors.Error, nats.js.errors.Error):
                await asyncio.sleep(0.1)
                continue
            gaps["bare"] = max(gaps["bare"], time.perf_counter() - last)
            last = time.perf_counter()
        await client.close()

    bare_leader: list[str] = []
    ready = threading.Event()
    workers = [threading.Thread(target=call), threading.Thread(target=lambda: asyncio.run(publish()))]
    for worker in workers:
        worker.start()
    ready.wait(30)
    time.sleep(1.0)
    killed = {cluster.leader("gap"), cluster.servers[int(bare_leader[0].removeprefix("n"))]}
    gaps.update(node=0.0, bare=0.0)
    victims = list(killed)
    # Both leaders, one after the other: each candidate loses its own once.
    for server in victims:
        server.kill()
        time.sleep(12.0)
        server.start()
        time.sleep(3.0)
    done.set()
    for worker in workers:
        worker.join()
    perdure.control(bank).close()
    return Row("NATS, three servers", "time without writes when the leader dies", gaps["node"], gaps["bare"], "s")
