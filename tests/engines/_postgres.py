"""A PostgreSQL with a synchronous standby, of this run, to be killed, frozen and brought back."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration._servers import (
    START_S,
    Server,
    free_port,
    postgres_folder,
    temporary_directory,
    unavailable,
    unprivileged_user,
    wait_for_postgres,
)


class PostgresPair:
    """``primary`` waits for ``standby`` with every commit."""

    def __init__(self, folder: Path, directory: Path, user: str | None) -> None:
        self._folder = folder
        self._directory = directory
        self._user = user
        self._port = free_port()
        self._standby_port = free_port()
        self._address = f"postgresql://postgres@127.0.0.1:{self._port}/postgres"
        self.primary = self._server("primary", self._port)
        self.standby = self._server("standby", self._standby_port)

    def url(self, system: str) -> str:
        return f"{self._address}?system={system}"

    def _server(self, name: str, port: int) -> Server:
        log = self._directory / f"{name}.log"
        argv = [
            str(self._folder / "postgres"), "-D", str(self._directory / name), "-p", str(port), "-c",
            "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self._directory}",
        ]  # fmt: skip
        return Server(self._address, argv, port, log, user=self._user)

    def _run(self, program: str, *arguments: str) -> None:
        group = pwd.getpwnam(self._user).pw_gid if self._user else None
        subprocess.run(
            [self._folder / program, *arguments], check=True, capture_output=True, cwd="/", user=self._user,
            group=group, extra_groups=[] if self._user else None,
        )  # fmt: skip

    def make(self) -> None:
        psycopg: Any = pytest.importorskip("psycopg")
        self._run("initdb", "-D", str(self._directory / "primary"), "-A", "trust", "-U", "postgres", "--no-sync")
        self.start()
        self._run(
            "pg_basebackup", "-D", str(self._directory / "standby"), "-R", "-h", "127.0.0.1", "-p", str(self._port),
            "-U", "postgres", "-X", "stream", "-c", "fast",
        )  # fmt: skip
        with open(self._directory / "standby" / "postgresql.auto.conf", "a") as config:
            config.write(
                f"primary_conninfo='host=127.0.0.1 port={self._port} user=postgres application_name=standby'\n"
            )
        self.standby.start()
        with psycopg.connect(self._address, autocommit=True) as connection:
            connection.execute("alter system set synchronous_standby_names = 'standby'")
            connection.execute("select pg_reload_conf()")
        self._wait_for_standby()

    def _wait_for_standby(self) -> None:
        psycopg: Any = pytest.importorskip("psycopg")
        deadline = time.monotonic() + START_S
        with psycopg.connect(self._address, autocommit=True) as connection:
            while not connection.execute("select 1 from pg_stat_replication where sync_state = 'sync'").fetchone():
                assert time.monotonic() < deadline, "the standby does not follow"
                time.sleep(0.05)

    # ---- what may happen to it

    def kill(self) -> None:
        """The whole of it at once: a postmaster that is killed alone leaves its children to end by themselves."""
        for process in (*self._children(), self.primary.pid):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.primary.kill()

    def _children(self) -> list[int]:
        parent = self.primary.pid
        listing = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False
        )
        return [int(line) for line in listing.stdout.split()]

    def start(self) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.primary.start()
                wait_for_postgres(self._address)
                return
            except RuntimeError:
                # What is left of the old one may hold its shared memory for a moment.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for process in (*self._children(), self.primary.pid):
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def kill_standby(self) -> None:
        self.standby.stop()

    def start_standby(self) -> None:
        self.standby.start()

    def cut_connections(self) -> None:
        """As a broken network does, and a waiting commit's cancellation: it is then on the primary alone."""
        psycopg: Any = pytest.importorskip("psycopg")
        with psycopg.connect(self._address, autocommit=True) as connection:
            connection.execute("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'")
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'perdure%'"
            )


@contextmanager
def postgres_pair() -> Iterator[PostgresPair]:
    user = unprivileged_user() if os.geteuid() == 0 else None
    folder = postgres_folder(user)
    if folder is None or not (folder / "pg_basebackup").exists():
        unavailable("pg", "apt-get install postgresql: a standby takes pg_basebackup")
    with temporary_directory(user) as directory:
        pair = PostgresPair(folder, directory, user)
        for name in ("primary.log", "standby.log"):
            (directory / name).touch()
        try:
            pair.make()
            yield pair
        finally:
            pair.thaw()
            pair.standby.stop()
            pair.primary.stop()
