"""Stopping: what was accepted is answered, and what was answered is there."""

from __future__ import annotations

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import perdure
from tests.server._process import BOTH, READER, Served, read_answer
from tests.server.models import Wiki


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_what_was_accepted_is_answered(tmp_path: Path, number: signal.Signals) -> None:
    with Served(tmp_path) as server, ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(server.call, "crawl", 1.0), pool.submit(server.call, "wait", 1.0)]
        server.wait_until(
            lambda: b"perdure_calls_running 2.0" in server.request("GET", "/metrics").body, "the calls did not start"
        )
        os.kill(server.pid, number)
        assert [each.result().result for each in waiting] == ["done", "waited"]
        assert server.wait() == 0
        assert "Traceback" not in server.log()
        assert "ERROR" not in server.log()
    with perdure.open(Wiki, server.directory, validate="off") as wiki:
        assert perdure.control(wiki).report.replayed == 0  # It was closed, with a snapshot.


def test_feeds_and_idle_connections_end(tmp_path: Path) -> None:
    with Served(tmp_path) as server:
        server.call("write", "a")
        idle = socket.create_connection(("127.0.0.1", server.port), 30)
        feed = socket.create_connection(("127.0.0.1", server.port), 30)
        with idle, feed:
            feed.sendall(f"GET /feed?after=0 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {READER}\r\n\r\n".encode())
            assert feed.recv(100).startswith(b"HTTP/1.1 200")
            assert server.stop() == 0
            assert read_answer(idle) == b""
            while feed.recv(65536):
                pass
        assert "Traceback" not in server.log()


def test_a_client_goes_on_where_the_server_is_started_again(tmp_path: Path) -> None:
    with Served(tmp_path) as server, perdure.connect(Wiki, server.url, token=BOTH, timeout=60) as wiki:
        assert wiki.count("x") == 1
        with ThreadPoolExecutor(1) as pool:
            server.stop()
            waiting = pool.submit(wiki.count, "x")
            server.start()
            assert waiting.result() == 2
        assert wiki.counted("x") == 2
