"""Real processes that share a directory with the test: each obeys what it is told, a line at a time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DEADLINE_S = 100.0

_PROGRAM = """
import os, signal, sys, time, traceback
from perdure import errors
from perdure.fs import Fs
from perdure.shared import SharedPersistentDict, SharedTracker


class Dying(Fs):
    # Ends the process at the write that holds a text: before the bytes are out, or behind it.
    def __init__(self, text, after):
        self.text, self.after = text, after

    def write(self, fd, data):
        hit = self.text in bytes(data)
        if hit and not self.after:
            os.kill(os.getpid(), signal.SIGKILL)
        taken = os.write(fd, data)
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return taken


def refused(code):
    # The name and the message of what it raises.
    try:
        exec(code, names)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


names = globals()
for line in sys.stdin:
    code = eval(line)
    try:
        try:
            result = eval(code, names)
        except SyntaxError:
            exec(code, names)
            result = None
        told = ("ok", repr(result))
    except BaseException:
        told = ("raised", traceback.format_exc())
    print(repr(told), flush=True)
"""


class Process:
    """One of them. ``do`` waits for the answer, ``send`` does not."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._child.pid

    def send(self, code: str) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(repr(code) + "\n")
        self._child.stdin.flush()

    def answer(self) -> str:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        assert line, "the process has ended"
        kind, text = eval(line)
        assert kind == "ok", text
        return str(text)

    def do(self, code: str) -> str:
        self.send(code)
        return self.answer()

    def kill(self) -> None:
        self._child.kill()
        self._child.wait(DEADLINE_S)

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        wait_for(lambda: Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")

    def leave(self) -> None:
        """Has it end by itself."""
        assert self._child.stdin is not None
        self._child.stdin.close()

    def end(self) -> int:
        """Has it end by itself; the exit code."""
        self.leave()
        return self._child.wait(DEADLINE_S)

    def close(self) -> None:
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]


@contextlib.contextmanager
def processes() -> Iterator[Callable[[], Process]]:
    """Makes processes, and ends them behind the block."""
    made: list[Process] = []

    def make() -> Process:
        made.append(Process())
        return made[-1]

    try:
        yield make
    finally:
        for process in made:
            process.close()


def wait_for(condition: Callable[[], Any]) -> None:
    """Until it holds."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come to pass"
        time.sleep(0.005)
