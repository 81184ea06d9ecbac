"""The process that has a directory open, and serves it to the others from threads in the background."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
from typing import Any

import msgspec

from perdure.errors import PerdureError, RejectedError, UsageError
from perdure.fs import Fs, close_in_forked_children
from perdure.limits import SHARED_LEASE_S
from perdure.mapping import worker_id
from perdure.shared._address import Claim, Listener
from perdure.shared._frames import ERROR, HELLO, LEAVING, VALUE, Answer, GoneError, Stream, encode, read_request
from perdure.shared._session import Gate, Served, Session
from perdure.shared._turn import is_taken

PROTOCOL_VERSION = 1
_STOP_S = 2.0
_TURN_POLL_S = 0.01
_log = logging.getLogger("perdure")


class Hello(msgspec.Struct, array_like=True):
    """The first request of a conversation. ``description``: what the process thinks that the directory holds."""

    version: int
    client: bytes
    description: dict[str, Any]


_decode_hello = msgspec.msgpack.Decoder(Hello).decode


class Owner:
    """Serves what it has open until it is stopped, or its process ends."""

    def __init__(self, fs: Fs, claim: Claim, listener: Listener, served: Served) -> None:
        self.served = served
        self.gate = Gate()
        self._stopping = threading.Event()
        self._fs = fs
        self._claim = claim
        self._listener = listener
        self._lock = threading.Lock()
        self._streams: dict[Stream, threading.Thread] = {}
        if not is_taken(fs, claim.directory):
            self.gate.open()
        else:
            threading.Thread(target=self._watch_turn, name="perdure-shared-turn", daemon=True).start()
        close_in_forked_children(self)
        # Before the interpreter closes what is served: whoever calls then must not be told that it was closed.
        atexit.register(self.stop, snapshot=False)
        self._thread = threading.Thread(target=self._accept, name="perdure-shared", daemon=True)
        self._thread.start()

    def _watch_turn(self) -> None:
        """Opens the gate when the holder of the turn has given it back, or is gone."""
        while not self.gate.is_open and not self.has_stopped():
            if not is_taken(self._fs, self._claim.directory):
                self.gate.open()
            time.sleep(_TURN_POLL_S)

    def has_stopped(self) -> bool:
        """Whether it serves nobody any more."""
        return self._stopping.is_set()

    def session(self, client: bytes) -> Session:
        """For a thread of this very process."""
        return Session(self.served, client, self.gate)

    # ---- conversations

    def _accept(self) -> None:
        while not self.has_stopped():
            try:
                stream = self._listener.accept()
            except OSError as error:
                if self.has_stopped():
                    return
                # Too many descriptors, for one. Those who wait go on waiting.
                _log.error("nobody can be let in: %s", error)
                time.sleep(0.05)
                continue
            thread = threading.Thread(target=self._converse, args=(stream,), name="perdure-shared-peer", daemon=True)
            with self._lock:
                refused = self.has_stopped()
                if not refused:
                    self._streams[stream] = thread
            try:
                if refused:
                    stream.close()
                    return
                thread.start()
            except RuntimeError as error:
                _log.error("nobody can be served: %s", error)
                self._forget(stream)

    def _converse(self, stream: Stream) -> None:
        session: Session | None = None
        try:
            self._listener.admit(stream)
            session = self._greet(stream)
            while not self.has_stopped():
                kind, counter, body = self._next(stream, session)
                reply = self._reply(session, kind, counter, body)
                try:
                    stream.send(reply)
                except UsageError as error:
                    # The answer is too large. A change that it was for has been made.
                    stream.send(encode(self._told(error)))
        except (GoneError, TimeoutError) as error:
            # It ended, or it is nobody to talk to; the others are not concerned.
            _log.debug("a conversation is over: %s", error)
        finally:
            try:
                if session is not None:
                    session.end()
            finally:
                self._forget(stream)

    def _greet(self, stream: Stream) -> Session:
        """Raises ``GoneError`` where the other process is told to go."""
        kind, _, body = read_request(stream.receive())
        try:
            if kind != HELLO:
                raise UsageError("a conversation begins with a greeting")
            hello = _decode_hello(body)
            if hello.version != PROTOCOL_VERSION or len(hello.client) != 16:
                raise UsageError(f"this process speaks version {PROTOCOL_VERSION}, not {hello.version}")
            self.served.check(hello.description)
        except (PerdureError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            stream.send(encode(self._told(error)))
            raise GoneError(f"refused: {error}") from error
        stream.welcome()
        stream.set_timeout(0)
        stream.send(encode((VALUE, worker_id())))
        return Session(self.served, hello.client, self.gate)

    def _next(self, stream: Stream, session: Session) -> tuple[int, int, bytes]:
        if not session.holds:
            return read_request(stream.receive())
        # Others wait for this one: no longer than a lease.
        stream.set_timeout(SHARED_LEASE_S)
        try:
            return read_request(stream.receive())
        finally:
            stream.set_timeout(0)

    def _reply(self, session: Session, kind: int, counter: int, body: bytes) -> bytes:
        if self.has_stopped():
            return encode((LEAVING, None))
        try:
            return encode(session.answer(kind, counter, body))
        except BaseException as error:  # Whatever it is, it belongs to whoever called.
            if self.has_stopped():
                # Closed under its feet: whoever owns it next knows whether it has run.
                return encode((LEAVING, None))
            return encode(self._told(error))

    def _told(self, error: BaseException) -> Answer:
        return ERROR, encode_error(self.served, error)

    def _forget(self, stream: Stream) -> None:
        with self._lock:
            self._streams.pop(stream, None)
        stream.close()

    # ---- the end

    def stop(self, *, snapshot: bool | None = None) -> None:
        """Ends all conversations, closes what is served, and gives the directory back. Idempotent.

        Raises what closing raises, after letting go of everything.
        """
        with self._lock:
            if self.has_stopped():
                return
            self._stopping.set()
            streams = dict(self._streams)
        atexit.unregister(self.stop)
        self.gate.end()
        self._listener.close()
        for stream in streams:
            stream.shut()
        deadline_s = time.monotonic() + _STOP_S
        for thread in (self._thread, *streams.values()):
            if thread is not threading.current_thread():
                with contextlib.suppress(RuntimeError):  # It was never started.
                    thread.join(max(0.0, deadline_s - time.monotonic()))
        try:
            self.served.close(snapshot=snapshot)
        finally:
            self._claim.release()

    def after_fork_in_child(self) -> None:
        """A forked child is no owner: it closes its copies of the sockets, or the others would never learn of the
        owner's end.
        """
        self._stopping.set()
        self._lock = threading.Lock()
        self._listener.sock.close()
        for stream in self._streams:
            stream.sock.close()
        self._streams.clear()


def encode_error(served: Served, error: BaseException) -> bytes:
    """An exception as bytes; of one that cannot be stored, its type's name and its message."""
    try:
        return served.codec.encode(error)
    except PerdureError:
        kind = type(error)
        told = RejectedError(
            f"{kind.__module__}.{kind.__qualname__}: {error}",
            hint=f"process {os.getpid()} raised it; it cannot be handed over as itself",
        )
        return served.codec.encode(told)
