"""Engines that are not there, refuse, are too old, too full, or cut off: each a named error, nothing lost."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

import perdure
from perdure.engines import _nats_connection, _postgres_connection
from perdure.system import system_of
from tests.engines._bank import Bank
from tests.engines._nats import NatsCluster, nats_cluster
from tests.engines._relay import Relay


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", perdure.EngineWarning)
        yield


# ---- connecting


@pytest.mark.parametrize("url", ["nats://127.0.0.1:9/x", "postgresql://127.0.0.1:9/none?system=x"])
def test_nobody_answers(url: str) -> None:
    with pytest.raises(perdure.UnreachableError, match="nobody answers"):
        perdure.open(Bank, url)


def test_wrong_credentials_on_nats() -> None:
    with nats_cluster(1, extra='authorization { user: "u", password: "p" }') as cluster:
        plain = cluster.url("x")
        for credentials in ("", "u:wrong@", "somebody:p@", "token@"):
            url = plain.replace("nats://", f"nats://{credentials}")
            with pytest.raises(perdure.UnauthorizedError) as caught:
                perdure.open(Bank, url)
            assert "wrong" not in str(caught.value)
            assert "token" not in str(caught.value)
        bank = perdure.open(Bank, plain.replace("nats://", "nats://u:p@"), create=True)
        assert bank.inc("a") == 1
        assert "u:***@" in str(perdure.control(bank).path)
        perdure.control(bank).close()


def test_wrong_user_and_wrong_database_on_postgres(postgres_url: str) -> None:
    with pytest.raises(perdure.UnauthorizedError):
        perdure.open(Bank, postgres_url.replace("postgres@", "nobody_knows@"))
    with pytest.raises(perdure.UsageError, match="no such database"):
        perdure.open(Bank, postgres_url.replace("/postgres?", "/no_such_one?"))


def test_a_server_that_speaks_no_tls_is_refused(nats_url: str) -> None:
    with pytest.raises(perdure.UnreachableError, match="tls=1"):
        perdure.open(Bank, nats_url + "&tls=1")


def test_a_server_that_is_too_old_is_refused(nats_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nats_connection, "VERSION_MIN", (99, 0))
    monkeypatch.setattr(_postgres_connection, "VERSION_MIN", 990000)
    for url in (nats_url, postgres_url):
        with pytest.raises(perdure.UsageError, match="too old"):
            perdure.open(Bank, url, create=True)


# ---- what is promised


def test_what_an_engine_promises_is_said_and_required(nats_three: NatsCluster, name: str) -> None:
    bank = perdure.open(Bank, nats_three.url(name), create=True, require="fsync-majority")
    assert "synced before it is acknowledged" in perdure.control(bank).durability
    perdure.control(bank).close()
    with pytest.raises(perdure.RejectedError, match="not proven"):
        perdure.open(Bank, nats_three.url(name, monitor=""), require="fsync")
    with warnings.catch_warnings(), pytest.raises(perdure.EngineWarning, match="is not known"):
        warnings.simplefilter("error", perdure.EngineWarning)
        perdure.open(Bank, nats_three.url(name, monitor=""))
    with pytest.raises(perdure.UsageError, match="require"):
        perdure.open(Bank, nats_three.url(name), require="everything")


def test_one_server_is_no_majority_and_a_server_that_does_not_sync_is_told(nats_url: str, name: str) -> None:
    perdure.control(perdure.open(Bank, nats_url, create=True, require="fsync")).close()
    with pytest.raises(perdure.RejectedError):
        perdure.open(Bank, nats_url, require="fsync-majority")
    with nats_cluster(1, sync="2m") as cluster, pytest.raises(perdure.RejectedError, match="a power cut loses"):
        perdure.open(Bank, cluster.url(name), create=True, require="fsync")


def test_postgres_without_a_standby_is_no_majority(postgres_url: str) -> None:
    perdure.control(perdure.open(Bank, postgres_url, create=True, require="fsync")).close()
    with pytest.raises(perdure.RejectedError, match="no synchronous standby"):
        perdure.open(Bank, postgres_url, require="fsync-majority")


# ---- room


def test_an_engine_without_room_refuses_and_all_goes_on_when_there_is_some(nats_url: str) -> None:
    bank = perdure.open(Bank, nats_url, create=True)
    log: Any = system_of(bank).engine.log  # type: ignore[attr-defined]
    bank.inc("a")

    def limit(size: int) -> None:
        async def update() -> None:
            info = await log._connection.js.stream_info(log._stream)
            info.config.max_bytes = size
            await log._connection.js.update_stream(info.config)

        log._connection.ask(update())

    limit(2000)
    with pytest.raises(perdure.WriteError, match="no room") as caught:
        bank.put(bytes(10_000))
    assert caught.value.outcome == "not-written"
    assert bank.total() == 1
    limit(-1)
    assert bank.put(bytes(10_000)) == 10_000
    perdure.control(bank).close()


# ---- networks that break


@pytest.fixture
def relayed(url: str) -> Iterator[tuple[str, Relay]]:
    """The URL of a system by way of a relay."""
    port = urlsplit(url).port
    assert port is not None
    relay = Relay(port)
    yield url.replace(f":{port}/", f":{relay.port}/", 1), relay
    relay.close()


def test_a_connection_that_is_cut_at_each_step_loses_and_doubles_nothing(relayed: tuple[str, Relay], url: str) -> None:
    through, relay = relayed
    direct = perdure.open(Bank, url, create=True)
    bank = perdure.open(Bank, through, timeout=60.0)
    for step in range(8):
        relay.arm(step)
        assert bank.inc(f"step {step}") == step + 1
        deadline = time.monotonic() + 30
        while relay.cut_at is not None and time.monotonic() < deadline:
            time.sleep(0.02)
    assert relay.cuts >= 8
    perdure.control(direct).read(consistency="linearizable")
    assert direct.done == bank.done == [f"step {step}" for step in range(8)]
    assert perdure.control(direct).digest() == perdure.control(bank).digest()
    for proxy in (bank, direct):
        perdure.control(proxy).close()


def test_without_a_server_commands_raise_in_time_queries_go_on_and_it_reconnects(name: str) -> None:
    with nats_cluster(1) as cluster:
        bank = perdure.open(Bank, cluster.url(name), create=True, timeout=4)
        bank.inc("a")
        cluster.servers[0].kill()
        with pytest.raises((perdure.UnreachableError, perdure.OutcomeUnknownError)):
            bank.inc("b")
        with pytest.raises((perdure.UnreachableError, perdure.OutcomeUnknownError)):
            perdure.control(bank).read(consistency="linearizable")
        assert bank.total() == 1
        cluster.servers[0].start()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                bank.inc("c")
                break
            except (perdure.UnreachableError, perdure.OutcomeUnknownError):
                continue
        assert bank.done[0] == "a"
        assert "c" in bank.done
        assert bank.done.count("b") <= 1
        perdure.control(bank).close()
