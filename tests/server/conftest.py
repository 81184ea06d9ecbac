"""One server with tokens and one without for the whole run; a test that stops or kills one starts its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.server._process import Served


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served"), "--keep-history", "--durability", "everysec") as server:
        yield server
        assert server.is_running(), server.log()[-3000:]


@pytest.fixture(scope="session")
def served_openly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("open"), "--durability", "everysec", tokens=False) as server:
        yield server
        assert server.is_running(), server.log()[-3000:]
