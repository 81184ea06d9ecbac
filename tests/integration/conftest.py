"""One server of each kind for the whole run; each test takes a corner of its own in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration._servers import postgres_server, redis_server, s3_server


@pytest.fixture(scope="session")
def redis_shared() -> Iterator[Any]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_shared() -> Iterator[Any]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3_shared() -> Iterator[Any]:
    with s3_server() as server:
        yield server
