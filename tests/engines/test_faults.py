"""Three nodes under load while servers, and a node, are killed, frozen and brought back."""

from __future__ import annotations

import os
import random
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

import perdure
from tests.engines._bank import Bank
from tests.engines._nats import NatsCluster, nats_cluster
from tests.engines._nodes import NodeProcess, check_agreement, nodes_under_load
from tests.engines._postgres import PostgresPair, postgres_pair

Fault = Callable[[], None]
THOROUGH_S = 600.0  # What `make crash` is given where its long forms are not to be cut short.


def make(url: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        perdure.control(perdure.open(Bank, url, create=True)).close()


def under(url: str, faults: Iterable[Fault], *, calm_s: float) -> list[dict[str, Any]]:
    """Load, faults one after the other, and the agreement of all at the end; and of a fresh node with them."""
    make(url)
    with nodes_under_load(url) as nodes:
        for fault in faults:
            time.sleep(calm_s)
            fault()
        time.sleep(calm_s)
        reports = check_agreement(nodes)
    print(f"{len(reports[0]['done'])} commands, {sum(len(each['unknown']) for each in reports)} of unknown outcome")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fresh = perdure.open(Bank, url)
    try:
        assert perdure.control(fresh).digest() == reports[0]["digest"]
        assert perdure.control(fresh).seq == reports[0]["seq"] > 0
    finally:
        perdure.control(fresh).close()
    return reports


def nats_faults(cluster: NatsCluster, system: str, down_s: float) -> dict[str, Fault]:
    def kill_leader() -> None:
        server = cluster.leader(system)
        server.kill()
        time.sleep(down_s)
        server.start()

    def freeze_leader() -> None:
        server = cluster.leader(system)
        server.freeze()
        time.sleep(down_s)
        server.thaw()

    def kill_follower() -> None:
        leader = cluster.leader(system)
        server = next(each for each in cluster.servers if each is not leader)
        server.kill()
        time.sleep(down_s / 4)
        server.start()

    def kill_two() -> None:
        leader = cluster.leader(system)
        others = [each for each in cluster.servers if each is not leader][:1]
        for server in (leader, *others):
            server.kill()
        time.sleep(down_s / 2)
        for server in (leader, *others):
            server.start()

    def kill_all() -> None:
        for server in cluster.servers:
            server.kill()
        for server in cluster.servers:
            server.start()

    return {
        "kill the leader": kill_leader,
        "freeze the leader": freeze_leader,
        "kill a follower": kill_follower,
        "kill two of three": kill_two,
        "kill all": kill_all,
    }


def test_three_nodes_on_nats_agree_through_kills_and_freezes(name: str) -> None:
    with nats_cluster(3) as cluster:
        faults = nats_faults(cluster, name, 6.0)
        reports = under(
            cluster.url(name), [faults["kill the leader"], faults["freeze the leader"], faults["kill all"]], calm_s=1.0
        )
        assert sum(len(report["answered"]) for report in reports) > 50


def postgres_faults(pair: PostgresPair, down_s: float) -> dict[str, Fault]:
    def kill() -> None:
        pair.kill()
        time.sleep(down_s / 4)
        pair.start()

    def freeze() -> None:
        pair.freeze()
        time.sleep(down_s)
        pair.thaw()

    def kill_standby() -> None:
        pair.kill_standby()
        time.sleep(down_s / 2)
        pair.start_standby()

    def cut_connections() -> None:
        pair.cut_connections()

    return {
        "kill": kill,
        "freeze": freeze,
        "kill the standby": kill_standby,
        "cut all connections": cut_connections,
    }


def test_three_nodes_on_postgres_agree_through_kills_and_freezes(name: str) -> None:
    with postgres_pair() as pair:
        faults = postgres_faults(pair, 4.0)
        reports = under(pair.url(name), list(faults.values()), calm_s=1.0)
        assert sum(len(report["answered"]) for report in reports) > 50


def test_three_nodes_agree_when_one_of_them_is_killed(nats_three: NatsCluster, name: str) -> None:
    url = nats_three.url(name)
    make(url)
    with nodes_under_load(url) as nodes:
        time.sleep(1.0)
        nodes[0].kill()
        time.sleep(0.5)
        again = NodeProcess(url, "again", 2)
        try:
            again.ready()
            time.sleep(0.5)
            alive = [*nodes[1:], again]
            for node in alive:
                node.stop()
            reports = [node.report() for node in alive]
        finally:
            again.close()
    done = reports[0]["done"]
    assert all(report["done"] == done and report["other"] == [] for report in reports)
    assert len(set(done)) == len(done)
    for report in reports:
        assert {who for who, _ in report["answered"]} <= set(done)


def shuffled(faults: dict[str, Fault], each: int, seconds: float) -> Iterator[Fault]:
    """``each`` of all kinds. A short run ends after ``seconds``; a thorough one does all of them."""
    kinds = [kind for kind in faults for _ in range(each)]
    random.Random(50).shuffle(kinds)
    is_thorough = float(os.environ.get("PERDURE_CRASH_SECONDS", "0")) >= THOROUGH_S
    until = time.monotonic() + seconds
    for number, kind in enumerate(kinds, 1):
        if not is_thorough and time.monotonic() > until:
            return
        print(f"{number} of {len(kinds)}: {kind}")
        yield faults[kind]


@pytest.mark.crash
def test_fifty_kills_and_freezes_on_nats(name: str, crash_seconds: float) -> None:
    with nats_cluster(3) as cluster:
        faults = shuffled(nats_faults(cluster, name, 7.0), 10, crash_seconds)
        under(cluster.url(name), faults, calm_s=0.5)


@pytest.mark.crash
def test_fifty_kills_and_freezes_on_postgres(name: str, crash_seconds: float) -> None:
    with postgres_pair() as pair:
        faults = shuffled(postgres_faults(pair, 3.0), 17, crash_seconds)
        under(pair.url(name), faults, calm_s=0.3)
