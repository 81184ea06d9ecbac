"""The helper that ends children: sends an interrupt again that Python drops, and excuses no child that hangs."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.crash import _processes
from tests.crash._processes import end_by_signal

DROPS = """
import time, weakref
class Thing: ...
def wait(_):
    print("ready", flush=True)
    time.sleep(60)
thing = Thing()
kept = weakref.ref(thing, wait)
del thing
print("went on", flush=True)
time.sleep(60)
"""
HANGS = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: print("Exception ignored in: something else", file=sys.stderr, flush=True))
print("ready", flush=True)
while True:
    time.sleep(60)
"""


@pytest.mark.parametrize("text", [True, False])
def test_an_interrupt_that_python_drops_is_sent_again(text: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_processes, "ANSWER_S", 1.0)
    child = start(DROPS, text)
    out, err = end_by_signal(child, signal.SIGINT)
    assert child.returncode == -signal.SIGINT
    assert len(out.splitlines()) == 1, "it went on"
    assert len(err.splitlines()) > 2


def test_a_child_that_does_not_end_fails_the_test_and_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_processes, "ANSWER_S", 1.0)
    child = start(HANGS, text=False)
    with child, pytest.raises(subprocess.TimeoutExpired):
        end_by_signal(child, signal.SIGINT)
    assert child.returncode == -signal.SIGKILL


def start(program: str, text: bool) -> subprocess.Popen[str] | subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=text, bufsize=-text
    )
    assert child.stdout is not None
    assert child.stdout.readline() in ("ready\n", b"ready\n")
    return child
