"""Writing a snapshot so that nobody waits for it: in a forked child, unless the state is small."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable

from perdure.errors import CodecError, PerdureError, StorageError, WriteError
from perdure.snapshots import Writer

CHILD_S_MAX = 3600
_HELD_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2}
_OK, _CODEC, _WRITE, _OTHER = b"0", b"1", b"2", b"3"


def can_fork() -> bool:
    """Whether a child may be forked safely here."""
    # macOS forks, but its system libraries abort in a forked child that touches them.
    return hasattr(os, "fork") and sys.platform != "darwin"


class TooLargeError(Exception):
    """A state is not as small as it was; never leaves the machine."""


class BoundedWriter:
    """Hands on what is written, up to a bound. Nobody knows the size of a state before it is written."""

    def __init__(self, file: Writer, bytes_max: int) -> None:
        self._file = file
        self._bytes_left = bytes_max

    def write(self, data: bytes, /) -> object:
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise TooLargeError
        return self._file.write(data)


class Child:
    """A forked child that writes a snapshot draft and reports its name. Made by ``fork_writer``."""

    def __init__(self, pid: int, fd: int) -> None:
        self._pid = pid
        self._fd = fd

    def wait(self) -> str:
        """The draft's name, once it is written and proven. Any thread; blocks.

        Raises:
            CodecError: the state cannot be stored, or does not load to the same state.
            WriteError: the disk refused.
            StorageError: the child died or took longer than ``CHILD_S_MAX`` seconds. No draft was published.
        """
        try:
            report = self._read_report()
        except BaseException:
            # Nobody waits for it any more. What it has written is deleted at the next opening.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            raise
        finally:
            os.close(self._fd)
            # Somebody else in the process may have waited for it already; the report is what counts.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
        status, text = report[:1], report[1:].decode("utf-8", "replace")
        if status == _OK:
            return text
        if status == _CODEC:
            raise CodecError(text)
        if status == _WRITE:
            raise WriteError(text, hint="make room and take the snapshot again")
        if status == _OTHER:
            raise StorageError(f"the snapshot could not be written: {text}")
        raise StorageError(
            "the process that wrote the snapshot ended early",
            hint="it needs up to twice the memory of the state for a moment; was it killed for that?",
        )

    def _read_report(self) -> bytes:
        parts: list[bytes] = []
        deadline = time.monotonic() + CHILD_S_MAX
        while True:
            readable, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
                return b""
            part = os.read(self._fd, 65536)
            if not part:
                return b"".join(parts)
            parts.append(part)


def fork_writer(write: Callable[[], str]) -> Child:
    """Forks a child that calls ``write`` and reports what it returns.

    The caller holds every lock that ``write`` could want. The child runs with the memory of this moment and with no
    thread but this one: it encodes, writes, loads back and leaves by ``os._exit``, without logging, imports or
    clean-up.
    """
    try:
        receiver, sender = os.pipe()
    except OSError as error:
        raise StorageError(f"no pipe can be made for the snapshot: {error.strerror}") from error
    # Python 3.12 and later warn of forking with threads, rightly in general. Here the child keeps to the rules above.
    warnings.filterwarnings("ignore", message=".*use of fork.. may lead to deadlocks.*", category=DeprecationWarning)
    # No signal may reach the child before its handlers are set: it would unwind into the caller's code, as a second
    # self.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_SIGNALS)
    try:
        pid = os.fork()
    except OSError as error:
        os.close(receiver)
        os.close(sender)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise StorageError(f"no child process can be started for the snapshot: {error.strerror}") from error
    if pid:
        os.close(sender)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return Child(pid, receiver)
    report = _OTHER
    try:
        # What the terminal or a supervisor says to the parent is the parent's business.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        gc.disable()  # A collection would copy every page of the shared memory, to find nothing.
        with contextlib.suppress(OSError):
            os.nice(10)
        report = _OK + write().encode()
    except CodecError as error:
        report = _CODEC + error.message.encode("utf-8", "replace")
    except WriteError as error:
        report = _WRITE + error.message.encode("utf-8", "replace")
    except PerdureError as error:
        report = _OTHER + str(error).encode("utf-8", "replace")
    except BaseException as error:  # Whatever it was must reach the parent: nothing else will tell it.
        report = _OTHER + "".join(traceback.format_exception_only(error)).encode("utf-8", "replace")
    finally:
        with contextlib.suppress(BaseException):
            os.write(sender, report)
        os._exit(0)
