"""One thread's way to the owner, wherever that is: over a socket, or straight ahead in this very process.

A link has an id of its own and counts its calls. A call that got no answer is sent again under the same number.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from perdure.errors import OutcomeUnknownError, PerdureError, UsageError
from perdure.mapping import is_gone
from perdure.shared._address import connect
from perdure.shared._frames import (
    BEGIN,
    COMMIT,
    ERROR,
    HELLO,
    LEAVING,
    LOCK,
    ROLLBACK,
    UNLOCK,
    Answer,
    GoneError,
    Stream,
    encode,
    read_answer,
)
from perdure.shared._owner import PROTOCOL_VERSION, Owner
from perdure.shared._session import DONE, Session, lost_transaction
from perdure.shared._turn import Turn

if TYPE_CHECKING:
    from perdure.shared._member import Member, Role

_LOOK_S = 1.0
"""How often whoever waits for an answer looks whether the owner still lives. Usually the connection says so; but a
process that was forked from the owner at a bad moment may hold that open."""
_PAUSE_S_MIN, _PAUSE_S_MAX = 0.001, 0.05


class Link:
    """One thread at a time. ``lock_count``, ``depth``: locks and transactions that it has open."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._client = secrets.token_bytes(16)
        self._counter = 0
        self._role: Role | None = None
        self._stream: Stream | None = None
        self._session: Session | None = None
        self._owner_id = ""
        self._send: Callable[[int, int, bytes], Answer] = self._nowhere
        self._turn: Turn | None = None
        self.lock_count = 0
        self.depth = 0
        self._is_lost = False

    @property
    def holds(self) -> bool:
        """Whether it must stay with its thread."""
        return bool(self.lock_count or self.depth)

    # ---- calls

    def exchange(self, kind: int, body: bytes) -> Answer:
        """Has one call made, once, and raises what it raises. See ``Member.call``."""
        if self._is_lost and kind != ROLLBACK:
            raise lost_transaction()
        self._counter += 1
        started_s = 0.0
        pause_s = _PAUSE_S_MIN
        while True:
            try:
                if not self._member.is_current(self._role):
                    self._attach(kind)
                return self._send(kind, self._counter, body)
            except GoneError as gone:
                self._member.lost(self._role)
                self._detach()
                if kind in (UNLOCK, ROLLBACK):
                    return DONE  # They ended with the owner.
                if self.depth and kind != COMMIT:
                    self._is_lost = True
                    raise lost_transaction() from gone
                if not started_s:
                    started_s = time.monotonic()
                elif time.monotonic() - started_s > self._member.lease_s:
                    raise self._member.unreachable(str(gone)) from gone
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_S_MAX)

    def _nowhere(self, kind: int, counter: int, body: bytes) -> Answer:
        raise GoneError("not connected")

    def _attach(self, kind: int) -> None:
        """Finds the owner, and says who calls. Raises ``GoneError``, and what joining raises."""
        self._detach()
        if self.depth and kind != COMMIT:
            # Whether a commit has arrived is known to the new owner; everything before it was known to the old one.
            raise GoneError("another process owns it now")
        member = self._member
        role = self._role = member.role()
        if isinstance(role, Owner):
            self._session = role.session(self._client)
            self._send = self._send_here
        else:
            stream = self._stream = connect(member.fs, member.directory, role)
            stream.welcome()
            stream.set_timeout(_LOOK_S)
            hello = encode((PROTOCOL_VERSION, self._client, member.description))
            self._send = self._send_there
            # The owner may be about to recover: this waits for as long as that takes.
            _, self._owner_id = self._send(HELLO, 0, hello)
        for _ in range(self.lock_count):
            self._send(LOCK, 0, b"")

    def _detach(self) -> None:
        self._role = None
        self._send = self._nowhere
        session, self._session = self._session, None
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
        if session is not None:
            session.end()

    def _send_here(self, kind: int, counter: int, body: bytes) -> Answer:
        assert self._session is not None
        owner: Any = self._role
        if owner.has_stopped():
            raise GoneError("it was closed")
        try:
            return self._session.answer(kind, counter, body)
        except PerdureError as error:
            if owner.has_stopped():
                raise GoneError("it was closed") from error
            raise

    def _send_there(self, kind: int, counter: int, body: bytes) -> Answer:
        stream = self._stream
        assert stream is not None
        try:
            stream.send(encode((kind, counter, body)))
            status, found = self._receive(stream)
        except (GoneError, UsageError):
            raise
        except BaseException:
            # An interrupt, or time is up: the answer may still come, and belongs to nobody any more.
            self._detach()
            self._is_lost = self.depth > 0
            raise
        if status == ERROR:
            error = self._member.codec.decode(found)
            if isinstance(error, BaseException):
                raise error
            raise GoneError("an answer that makes no sense")
        if status == LEAVING:
            raise GoneError("the owner is leaving")
        return status, found

    def _receive(self, stream: Stream) -> Answer:
        waited_s = 0.0
        while True:
            try:
                return read_answer(stream.receive())
            except TimeoutError:
                waited_s += _LOOK_S
                self._look_at_owner(waited_s)

    def _look_at_owner(self, waited_s: float) -> None:
        if self._owner_id and is_gone(self._owner_id):
            raise GoneError("the owner has ended")
        if waited_s > self._member.lease_s:
            raise OutcomeUnknownError(
                f"no answer came in {waited_s:.0f} s",
                path=self._member.directory,
                hint="the call may still be made, once; is the process that owns it stopped?",
            )

    # ---- holding on

    def hold(self, kind: int) -> None:
        """Takes a lock or begins a transaction."""
        if kind == BEGIN:
            self.exchange(BEGIN, b"")
            self.depth += 1
            return
        turn = None
        if not self.lock_count:
            turn = Turn(self._member.fs, self._member.directory)
            # The file lies in the directory, which joining makes.
            self._member.role()
            turn.take(self._member.lease_s)
        try:
            self.exchange(LOCK, b"")
        except BaseException:
            if turn is not None:
                turn.give_back()
            raise
        self.lock_count += 1
        self._turn = turn or self._turn

    def let_go(self, kind: int) -> None:
        """Gives a lock back, or ends a transaction."""
        if kind == UNLOCK:
            if not self.lock_count:
                raise UsageError("unlock() by a thread that has not locked it", path=self._member.directory)
            try:
                self.exchange(UNLOCK, b"")
            finally:
                self.lock_count -= 1
                if not self.lock_count and self._turn is not None:
                    self._turn.give_back()
                    self._turn = None
            return
        if not self.depth:
            raise UsageError("there is no transaction of this thread", path=self._member.directory)
        try:
            if kind == COMMIT or not self._is_lost:
                self.exchange(kind, b"")
        finally:
            self.depth -= 1
            if not self.depth:
                self._is_lost = False

    # ---- the end

    def close(self) -> None:
        """Idempotent."""
        self._detach()
        if self._turn is not None:
            self._turn.give_back()
            self._turn = None
        self.lock_count = self.depth = 0

    def abandon(self) -> None:
        """In a forked child: closes its copy of the socket, and leaves everything else to the parent."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.sock.close()
        self._session = None
        self._turn = None
        self._role = None
        self._send = self._nowhere
        self.lock_count = self.depth = 0

    def __del__(self) -> None:
        stream = getattr(self, "_stream", None)
        if stream is not None:
            stream.close()
