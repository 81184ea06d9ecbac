"""The how-to of clusters (three-machines.md), followed literally, with the servers that ``make cluster`` starts."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.docs._pages import DOCS, ROOT, run_page
from tests.engines._nats import nats_program

PORTS = [4221, 4222, 4223, 6221, 6222, 6223, 8221, 8222, 8223]


def test_the_how_to_was_followed(tmp_path: Path) -> None:
    nats_program()
    for port in PORTS:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"port {port} is taken by somebody else")
    cluster = subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / "cluster.py"), str(tmp_path / "data")],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert cluster.stdout is not None
        assert "three servers" in cluster.stdout.readline()
        (tmp_path / "page").mkdir()
        problems = run_page((DOCS / "how-to" / "three-machines.md").read_text("utf-8"), tmp_path / "page")
        assert not problems, "\n".join(problems)
    finally:
        cluster.send_signal(signal.SIGINT)
        cluster.wait(60)
        assert cluster.stdout is not None
        cluster.stdout.close()
    assert cluster.returncode == 0
