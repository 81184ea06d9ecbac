"""SIGKILL under load: nothing that was acknowledged is lost, and nothing runs twice.

What a kill leaves of a command, step by step: before its entry is in the journal, nothing, and the client's retry runs
it; behind that, the entry with its client and counter, wholly or, torn, not at all; replay runs it once and makes its
receipt, and the retry is answered from that. So each command of each client runs exactly once, however often it was
sent, and each client sees its own counter grow by one.
"""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

import perdure
from tests.server._process import BOTH, Served
from tests.server.models import Wiki

CLIENTS = 6


class Client(threading.Thread):
    """Counts under a name of its own; ``wrong``: what it was told that was not the next number."""

    def __init__(self, url: str, name: str, stop: threading.Event) -> None:
        super().__init__(name=name)
        self._url = url
        self._stop_wanted = stop
        self.told = 0
        self.wrong: list[object] = []

    def run(self) -> None:
        with perdure.connect(Wiki, self._url, token=BOTH, timeout=100) as wiki:
            while not self._stop_wanted.is_set():
                try:
                    number = wiki.count(self.name)
                except perdure.PerdureError as error:
                    self.wrong.append(error)
                    return
                if number != self.told + 1:
                    self.wrong.append((self.told, number))
                    return
                self.told = number


def kill_under_load(folder: Path, kills: int, chance: random.Random) -> int:
    """Returns how many commands were acknowledged."""
    stop = threading.Event()
    with Served(folder) as server:
        clients = [Client(server.url, f"client {number}", stop) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            for _ in range(kills):
                before = sum(client.told for client in clients)
                deadline = time.monotonic() + 60
                # All of them have come back and work again.
                while sum(client.told for client in clients) < before + 40:
                    assert time.monotonic() < deadline, "no client makes progress"
                    assert not any(client.wrong for client in clients), [client.wrong for client in clients]
                    time.sleep(0.005)
                time.sleep(chance.random() * 0.1)
                server.kill()
                server.start()
        finally:
            stop.set()
            for client in clients:
                client.join(150)
        assert not any(client.is_alive() for client in clients)
        assert [client.wrong for client in clients] == [[]] * CLIENTS
        told = {client.name: client.told for client in clients}
        with perdure.connect(Wiki, server.url, token=BOTH) as wiki:
            assert perdure.control(wiki).snapshot().counts == told
    with perdure.open(Wiki, server.directory, validate="off") as reopened:
        assert reopened.counts == told
    return sum(told.values())


def test_kills_under_load_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    assert kill_under_load(tmp_path, 3, random.Random(1)) > 100


@pytest.mark.crash
def test_twenty_kills_and_more_lose_nothing_and_repeat_nothing(tmp_path: Path, crash_seconds: float) -> None:
    deadline = time.monotonic() + crash_seconds
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rounds = 0
    while rounds == 0 or time.monotonic() < deadline:
        folder = tmp_path / str(rounds)
        folder.mkdir()
        assert kill_under_load(folder, 20, random.Random(seed + rounds)) > 500
        rounds += 1
