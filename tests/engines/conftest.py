"""One server of each kind for the whole run; each test takes a system of its own in it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.engines._nats import NatsCluster, nats_cluster
from tests.integration._servers import postgres_server

_count = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A system's name that no other test uses."""
    return f"t{os.getpid()}_{next(_count)}"


@pytest.fixture(scope="session")
def nats_alone() -> Iterator[NatsCluster]:
    with nats_cluster(1) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def nats_three() -> Iterator[NatsCluster]:
    with nats_cluster(3) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def nats_url(nats_alone: NatsCluster, name: str) -> str:
    return nats_alone.url(name)


@pytest.fixture
def postgres_url(postgres: Any, name: str) -> str:
    return postgres.url.replace("+psycopg", "") + f"?system={name}"


@pytest.fixture(params=["nats", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """A system's URL on each engine."""
    return str(request.getfixturevalue(f"{request.param}_url"))


UrlOf = Callable[[str], str]
