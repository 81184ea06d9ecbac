"""``perdure serve`` in a process of its own, which can be stopped, killed, and started again upon the same data."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parents[2]
WIKI = "tests.server.models:Wiki"
START_S = 60.0
BOTH = "b" * 32
READER = "r" * 32
WRITER = "w" * 32
PACKED = ("application/msgpack", "application/vnd.perdure")


class Served:
    """One server. ``url``, ``port``: where it listens, the same after each start."""

    def __init__(self, folder: Path, *options: str, app: str = WIKI, tokens: bool = True) -> None:
        self.folder = folder
        self.directory = folder / "wiki"
        self._log = folder / "log.txt"
        self._options = list(options)
        if tokens:
            path = folder / "tokens"
            path.write_text(f"read,write {BOTH} both\n# a comment\n\nread {READER} reader\nwrite {WRITER} writer\n")
            path.chmod(0o600)
            self._options += ["--token-file", str(path)]
        self._app = app
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> Served:
        command = [sys.executable, "-m", "perdure", "serve", self._app, "--dir", str(self.directory), "--json"]
        with open(self._log, "a") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port), *self._options],
                cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
            )  # fmt: skip
        line = self._first_line()
        if not line:
            self.stop()
            raise RuntimeError(f"the server did not start:\n{self.log()[-3000:]}")
        told = json.loads(line)
        self.url: str = told["url"]
        self.port = int(self.url.rpartition(":")[2])
        return self

    def _first_line(self) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        watchdog = threading.Timer(START_S, self.process.kill)
        watchdog.start()
        try:
            return self.process.stdout.readline()
        finally:
            watchdog.cancel()
            watchdog.join()

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.wait()

    def stop(self) -> int:
        """With SIGTERM; the exit code."""
        if self.is_running():
            os.kill(self.pid, signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """Until it has ended; the exit code."""
        assert self.process is not None
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def __enter__(self) -> Served:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ---- requests, by hand

    def request(
        self, verb: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None,
        *, token: str | None = BOTH,
    ) -> Answer:  # fmt: skip
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            given = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request(verb, path, body, {**given, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def call(self, method: str, *args: Any, key: str | None = None, token: str | None = BOTH, **kwargs: Any) -> Answer:
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        body = json.dumps({"args": args, "kwargs": kwargs}).encode()
        return self.request("POST", f"/call/{method}", body, headers, token=token)

    def raw(self, data: bytes, *, timeout_s: float = 30.0, end: bool = False) -> bytes:
        """Sends bytes and reads until the server closes, or a whole answer with a length is there."""
        with socket.create_connection(("127.0.0.1", self.port), timeout_s) as connection:
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
            return read_answer(connection)

    def wait_until(self, condition: Any, what: str, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, what
            assert self.is_running(), self.log()[-3000:]
            time.sleep(0.02)


def read_answer(connection: socket.socket) -> bytes:
    received = b""
    try:
        while True:
            part = connection.recv(65536)
            if not part:
                return received
            received += part
            head, _, body = received.partition(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:") and len(body) >= int(line.partition(b":")[2]):
                    return received
    except ConnectionError:
        return received


class Answer:
    """``json``: the body. ``failure``: its ``error``."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        kind = self.headers["content-type"]
        return msgspec.msgpack.decode(self.body) if kind in PACKED else json.loads(self.body)

    @property
    def result(self) -> Any:
        assert self.status == 200, (self.status, self.body[:500])
        return self.json["result"]

    @property
    def failure(self) -> Any:
        return self.json["error"]

    def __repr__(self) -> str:
        return f"{self.status} {self.body[:300]!r}"
