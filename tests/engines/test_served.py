"""A server on an engine: several of them behind a load balancer are one system."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from contextlib import ExitStack
from typing import Any

import pytest

import perdure
from tests.engines._bank import Bank
from tests.engines._nodes import ROOT


def serve(stack: ExitStack, url: str) -> str:
    """A server process; where it listens."""
    argv = ["serve", "tests.engines._bank:Bank", "--dir", url, "--port", "0", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "perdure", *argv], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )

    def stop() -> None:
        process.terminate()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()

    stack.callback(stop)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the server ended with {process.wait(10)}"
    return str(json.loads(line)["url"])


def test_two_servers_on_one_log_are_one_system(nats_url: str) -> None:
    for library in ("starlette", "uvicorn", "aiohttp"):
        pytest.importorskip(library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        perdure.control(perdure.open(Bank, nats_url, create=True)).close()
    with ExitStack() as stack:
        one, other = (perdure.connect(Bank, serve(stack, nats_url)) for _ in range(2))
        banks: list[Any] = [one, other]
        for number in range(10):
            assert banks[number % 2].inc(f"{number}") == number + 1
        for bank in banks:
            perdure.control(bank).close()


def test_a_dict_of_its_own_is_refused_on_an_engine(nats_url: str) -> None:
    with pytest.raises(perdure.UsageError, match=r"perdure\.open\(dict"):
        perdure.PersistentDict(nats_url)
