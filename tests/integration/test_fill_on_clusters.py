"""Parallel fill on other people's schedulers: the code of the page, on a real cluster of this machine each.

In a process of their own: both keep threads and settings for as long as the process lives.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs._pages import DOCS, blocks_of
from tests.integration._servers import unavailable

PAGE = DOCS / "how-to" / "fill-in-parallel.md"
SECONDS = 500

DASK = """
import runpy, sys, warnings
warnings.simplefilter("ignore")
from distributed import LocalCluster

if __name__ == "__main__":
    loopback = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=2, threads_per_worker=1, **loopback) as cluster:
        for _ in range(2):
            sys.argv = ["on_dask.py", cluster.scheduler_address]
            runpy.run_path("on_dask.py", run_name="__main__")
"""

RAY = """
import json, os, runpy, signal, sys, tempfile
from pathlib import Path
import ray
from perdure.fill import RayExecutor, fill
from perdure.stash import DictionaryStash

here = Path.cwd()

def make(name):
    mark = here / f"killed-{name}"
    if name == "7" or name == "13" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return int(name) + 1

def late(executor):
    try:
        executor.submit(int, "1")
    except RuntimeError as error:
        return str(error)

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="pr-") as short:  # Its sockets' names must be short.
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1",
                 object_store_memory=80 << 20, _temp_dir=short)
        try:
            for _ in range(2):
                runpy.run_path("on_ray.py", run_name="__main__")
            stash = DictionaryStash()
            with RayExecutor() as executor:
                report = fill(stash, map(str, range(20)), make, executor=executor, workers=2, chunk_size=3)
            names = [failure.name for failure in report.failures]
            found = [report.made, names, sorted(map(int, stash.mapping.values())), late(executor)]
            Path("found.json").write_text(json.dumps(found))  # Ray itself prints what it has to say of dead workers.
        finally:
            ray.shutdown()
"""


def run(program: str, folder: Path, **environment: str) -> list[str]:
    for block in blocks_of(PAGE.read_text("utf-8")):
        if block.title:
            (folder / block.title).write_text(block.text, "utf-8")
    path = folder / "program.py"
    path.write_text(program, "utf-8")
    done = subprocess.run(
        [sys.executable, path], cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True,
        timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()


@pytest.mark.timeout(SECONDS + 30)
def test_the_page_runs_on_dask(tmp_path: Path) -> None:
    if importlib.util.find_spec("distributed") is None:
        unavailable("dask", "pip install dask distributed")
    lines = run(DASK, tmp_path)
    assert lines[-2:] == ["200 made, 0 there", "0 made, 200 there"]


@pytest.mark.timeout(SECONDS + 30)
def test_the_page_runs_on_ray_and_a_lost_worker_costs_its_chunk_one_retry(tmp_path: Path) -> None:
    if importlib.util.find_spec("ray") is None:
        unavailable("ray", "pip install ray; there are wheels for some Pythons only")
    # A token of the test's own: otherwise Ray makes one in the user's home.
    lines = run(RAY, tmp_path, RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_USAGE_STATS_ENABLED="0")
    made = [line for line in lines if line.endswith(" there")]
    assert made == ["200 made, 0 there", "0 made, 200 there"]
    expected = [number + 1 for number in range(20) if number != 7]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == [19, ["7"], expected, "cannot submit to an executor that was shut down"]
