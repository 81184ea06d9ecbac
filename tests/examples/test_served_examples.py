"""The examples that serve something run for real: over loopback, killed, and started again upon the same data."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import Pyro5.api
import Pyro5.errors
import pytest

import perdure
from examples.guestbook import Guestbook

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0


def start(*command: str, **environment: str) -> subprocess.Popen[str]:
    paths = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, "it did not start"
    return line


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def once_it_is_there(call: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return call()
        except ConnectionError:
            assert time.monotonic() < deadline, "it did not start"
            time.sleep(0.05)


def request(port: int, method: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        connection.request(method, "/", None if body is None else json.dumps(body))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_the_web_application_answers_only_what_outlives_it(tmp_path: Path) -> None:
    port = free_port()
    command = ("-m", "uvicorn", "examples.guestbook:app", "--port", str(port), "--log-level", "critical")
    with start(*command, GUESTBOOK_DIR=str(tmp_path / "g")) as process:
        once_it_is_there(lambda: request(port, "GET"))
        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(lambda n: request(port, "POST", {"name": f"n{n}", "text": "hello"}), range(64)))
        assert sorted(answer["number"] for status, answer in answers if status == 201) == list(range(1, 65))
        assert request(port, "POST", {"name": "", "text": "x"})[0] == 400
        kill(process)
    with start(*command, GUESTBOOK_DIR=str(tmp_path / "g")) as process:
        status, latest = once_it_is_there(lambda: request(port, "GET"))
        assert (status, len(latest)) == (200, 10)
        assert request(port, "POST", {"name": "last", "text": "x"}) == (201, {"number": 65})
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_S)
    with perdure.open(Guestbook, tmp_path / "g") as guestbook:
        assert len(guestbook.entries) == 65
        # It was closed in good order: nothing was left to replay.
        assert perdure.control(guestbook).report.replayed == 0


def test_the_object_behind_xmlrpc(tmp_path: Path) -> None:
    for turn in range(2):
        with start("examples/behind_xmlrpc.py", str(tmp_path / "s"), "0") as process:
            with xmlrpc.client.ServerProxy(first_line(process)) as stock:
                assert stock.count("nut") == 3 * turn
                assert stock.add("nut", 5) == 3 * turn + 5
                with pytest.raises(xmlrpc.client.Fault, match="there are not 99 of nut"):
                    stock.take("nut", 99)
                assert stock.take("nut", 2) == 3 * turn + 3
                with pytest.raises(xmlrpc.client.Fault, match="not supported"):
                    stock.close()
            kill(process)


def test_the_object_behind_pyro(tmp_path: Path) -> None:
    for turn in range(2):
        with start("examples/behind_pyro.py", str(tmp_path / "s")) as process:
            with Pyro5.api.Proxy(first_line(process)) as stock:
                assert stock.count("nut") == 3 * turn
                assert stock.add("nut", 5) == 3 * turn + 5
                with pytest.raises(ValueError, match="there are not 99 of nut"):
                    stock.take("nut", 99)
                assert stock.take("nut", 2) == 3 * turn + 3
                with pytest.raises(AttributeError):
                    stock.close()
            kill(process)
