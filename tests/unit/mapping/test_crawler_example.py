"""The crawler of ``examples/`` runs for real: it is killed, and takes up where it was."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from perdure.mapping import Tracker

CRAWLER = Path(__file__).resolve().parents[3] / "examples" / "crawler.py"
PAGES = 60
WORKERS = 3


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(directory: Path, port: int, errors: Path) -> subprocess.Popen[str]:
    options = ["--pages", str(PAGES), "--workers", str(WORKERS), "--delay-s", "0.02", "--port", str(port)]
    with errors.open("w") as file:
        return subprocess.Popen(
            [sys.executable, str(CRAWLER), str(directory), *options], stdout=subprocess.PIPE, stderr=file, text=True
        )


def test_a_crawler_that_is_killed_takes_up_where_it_was(tmp_path: Path) -> None:
    port = free_port()
    errors = tmp_path / "errors"
    served: list[str] = []
    kills = 0
    for _ in range(20):
        with start(tmp_path / "crawl", port, errors) as child:
            assert child.stdout is not None
            if kills < 3:
                served += [child.stdout.readline() for _ in range(8)]
                os.kill(child.pid, signal.SIGKILL)
                kills += 1
            # To the end, through the same buffer: it may hold lines already that communicate() would pass over.
            served += child.stdout.readlines()
            child.wait(timeout=60)
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL, errors.read_text()
    assert child.returncode == 0
    with Tracker(tmp_path / "crawl", max_tries=3) as tracker:
        assert tracker.num_done() == PAGES
        assert [Path(url).name for url in tracker.failures()] == ["lost"]
        assert all(job["title"] for job in tracker.values() if job["_done"])
    fetched = [line for line in served if line.startswith("served ")]
    assert len(set(fetched)) == PAGES
    # Only what was being fetched when it was killed is fetched again.
    assert len(fetched) <= PAGES + kills * WORKERS
    assert f"{PAGES} pages" in served[-1]
    assert "pages: " in errors.read_text()
