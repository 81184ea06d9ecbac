"""Ends a child process by a signal, and is not misled by what Python does with some of them."""

from __future__ import annotations

import signal
import subprocess
from typing import AnyStr

ANSWER_S = 20.0
END_S = 60.0
DROPPED = (b"Exception ignored in", b"KeyboardInterrupt")
"""Python prints these, and goes on, where an interrupt falls into a callback of a weak reference, such as those of its
import system: nobody can be told of it then."""


def end_by_signal(child: subprocess.Popen[AnyStr], number: int) -> tuple[AnyStr, AnyStr]:
    """Sends the signal and returns what the child wrote; sends an interrupt again where Python dropped it, once.

    Raises ``subprocess.TimeoutExpired`` where the child does not end. It is gone in any case.
    """
    try:
        child.send_signal(number)
        try:
            return child.communicate(timeout=ANSWER_S if number == signal.SIGINT else END_S)
        except subprocess.TimeoutExpired as late:
            # Bytes, also where the pipes are read as text.
            if number != signal.SIGINT or not all(each in (late.stderr or b"") for each in DROPPED):
                raise
        child.send_signal(number)
        return child.communicate(timeout=END_S)
    finally:
        child.kill()
        child.wait()
