"""Nodes in processes of their own, under load, and what must hold of them at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class NodeProcess:
    """One node with threads that call commands, until it is told to stop."""

    def __init__(self, url: str, name: str, threads: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from tests.engines._bank import main; main({url!r}, {name!r}, {threads})"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.name = name

    def ready(self) -> None:
        assert self._line() == {"ready": self.name}

    def stop(self) -> None:
        self._tell()
        assert self._line() == {"stopped": self.name}

    def report(self) -> dict[str, Any]:
        self._tell()
        found = self._line()
        self._process.wait(60)
        return found

    def kill(self) -> None:
        """Like a power cut of the node's machine."""
        self._process.kill()
        self._process.wait()

    def _tell(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self.name} ended with {self._process.wait(10)}"
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        if self._process.poll() is None:
            self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


@contextmanager
def nodes_under_load(url: str, count: int = 3, threads: int = 3) -> Iterator[list[NodeProcess]]:
    with ExitStack() as stack:
        nodes = []
        for number in range(count):
            node = NodeProcess(url, f"n{number}", threads)
            stack.callback(node.close)
            nodes.append(node)
        for node in nodes:
            node.ready()
        yield nodes


def check_agreement(nodes: list[NodeProcess]) -> list[dict[str, Any]]:
    """Stops all, and checks that they executed exactly the acknowledged commands, in one order, with one digest."""
    for node in nodes:
        node.stop()
    reports = [node.report() for node in nodes]
    done = reports[0]["done"]
    assert all(report["other"] == [] for report in reports), [report["other"] for report in reports]
    assert all(report["done"] == done for report in reports)
    assert len({report["digest"] for report in reports}) == 1
    assert len({report["seq"] for report in reports}) == 1
    assert len(set(done)) == len(done), "a command ran twice"
    answered = {who: place for report in reports for who, place in report["answered"]}
    unknown = {who for report in reports for who in report["unknown"]}
    refused = {who for report in reports for who in report["refused"]}
    places = {who: place for place, who in enumerate(done, 1)}
    assert not [who for who in answered if who not in places], "an acknowledged command is lost"
    # What was answered was the command's place in the order of all.
    assert {who: places[who] for who in answered} == answered
    assert set(places) <= set(answered) | unknown
    assert not refused & set(places), "a command ran that was said not to"
    return reports
