"""A system for the tests of engines, and a node of it in a process of its own."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
import warnings
from typing import Any

import perdure


class BankruptError(Exception):
    """The bank's own."""


class Bank:
    def __init__(self) -> None:
        self.count = 0
        self.done: list[str] = []
        self.drawn: list[float] = []

    def inc(self, who: str) -> int:
        self.count += 1
        self.done.append(who)
        return self.count

    def draw(self) -> float:
        self.drawn.append(perdure.rng.random())
        return self.drawn[-1]

    def at(self) -> float:
        return float(perdure.clock.time())

    def break_half_way(self) -> None:
        self.count += 1
        raise BankruptError("half way")

    @perdure.abort_exception
    def break_and_undo(self, who: str) -> None:
        self.count += 1000
        self.done.append(who)
        if self.count >= 1000:
            raise BankruptError("undone")

    def put(self, blob: bytes) -> int:
        self.done.append(blob.hex()[:8])
        return len(blob)

    @perdure.readonly
    def total(self) -> int:
        return self.count

    @perdure.readonly
    def fingerprint(self) -> str:
        return hashlib.sha256(repr((self.count, self.done)).encode()).hexdigest()


def main(url: str, name: str, threads: int) -> None:
    """Increments until a line comes on standard input; then prints what it was answered and what it has.

    One line of JSON when it is ready, one at the end.
    """
    warnings.simplefilter("ignore")
    bank = perdure.open(Bank, url, timeout=60.0)
    control = perdure.control(bank)
    answered: list[tuple[str, int]] = []
    unknown: list[str] = []
    refused: list[str] = []
    other: list[str] = []
    gaps: list[float] = [0.0]
    stop = threading.Event()

    def work(number: int) -> None:
        done = 0
        last = time.monotonic()
        while not stop.is_set():
            done += 1
            who = f"{name}.{number}.{done}"
            try:
                answered.append((who, bank.inc(who)))
            except perdure.OutcomeUnknownError:
                unknown.append(who)
            except perdure.UnreachableError:
                refused.append(who)
            except Exception as error:
                # Whatever it is, the test wants to read it.
                other.append(f"{type(error).__name__}: {error}")
                return
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    print(json.dumps({"ready": name}), flush=True)
    sys.stdin.readline()
    stop.set()
    for worker in workers:
        worker.join()
    print(json.dumps({"stopped": name}), flush=True)
    # All have stopped writing when the second line comes.
    sys.stdin.readline()
    control.read(consistency="linearizable", timeout=60.0)
    report: dict[str, Any] = {
        "name": name, "answered": answered, "unknown": unknown, "refused": refused, "other": other,
        "gap_s": max(gaps), "done": bank.done, "seq": control.seq, "digest": control.digest(),
    }  # fmt: skip
    print(json.dumps(report), flush=True)
    control.close()
