"""This process's part in a shared directory: owner, or one of the others, and from one call to the next the other way
round.

A call is made by whoever owns the directory. Where nobody does, the next caller takes it over: it locks the file
``owner``, listens, recovers and serves. Whose call was on the way then sends it again, under the same id, and the
receipts in the journal make sure that it runs once.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from perdure.codecs import Codec
from perdure.errors import ClosedError, LockedError, UnreachableError, UsageError
from perdure.fs import Fs, check_private
from perdure.limits import SHARED_LEASE_S
from perdure.shared._address import Address, Claim, Listener, find
from perdure.shared._frames import BEGIN, COMMIT, LOCK, ROLLBACK, UNLOCK, Answer
from perdure.shared._link import Link
from perdure.shared._owner import Owner
from perdure.shared._session import Served

_FOREIGN_WRITER_S = 2.0
"""How long a directory may be locked by somebody who does not share it, before that is said. Not at once: the lock of
an owner that was just killed may last a moment longer than its process."""
_PAUSE_S_MIN, _PAUSE_S_MAX = 0.001, 0.05

Role = Owner | Address


class Member:
    """One a path in each process, whatever the number of handles on it. Any thread may call."""

    def __init__(
        self,
        directory: str,
        opener: Callable[[Member], Served],
        description: dict[str, Any],
        codec: Codec,
        fs: Fs,
    ) -> None:
        """``opener``: opens what is in the directory, for the process that comes to own it. ``description``: what all
        processes must agree on.
        """
        self.directory = directory
        self.description = description
        self.codec = codec
        self.fs = fs
        self.lease_s = SHARED_LEASE_S
        self.handle_count = 0
        self.pid = os.getpid()
        self.closed = False
        self.opener = opener
        self._role: Role | None = None
        self._joining = threading.Lock()
        self._free: deque[Link] = deque()
        self._links: weakref.WeakSet[Link] = weakref.WeakSet()
        self._pinned: dict[int, Link] = {}
        _members.add(self)

    @property
    def is_owner(self) -> bool:
        """Whether this process has the directory open at the moment."""
        return isinstance(self._role, Owner)

    # ---- calls

    def call(self, kind: int, body: bytes) -> Answer:
        """Has a call made, once, and raises what it raises.

        Raises:
            UnreachableError: nobody owned the directory, and it could not be taken over, for the time of a lease.
            OutcomeUnknownError: no answer came for the time of a lease.
            and what opening the directory raises, where this process had to take it over.
        """
        pinned = self._pinned.get(threading.get_ident()) if self._pinned else None
        if pinned is not None:
            return pinned.exchange(kind, body)
        link = self._take_link()
        try:
            return link.exchange(kind, body)
        finally:
            self._give_back(link)

    def _take_link(self) -> Link:
        try:
            return self._free.pop()
        except IndexError:
            if self.closed:
                raise self.refusal() from None
            link = Link(self)
            self._links.add(link)
            return link

    def _give_back(self, link: Link) -> None:
        if self.closed:
            link.close()
        else:
            self._free.append(link)

    def describe(self, description: dict[str, Any], opener: Callable[[Member], Served]) -> None:
        """A further handle says more of what is there: the next calls greet the owner anew."""
        self.description = description
        self.opener = opener
        while self._free:
            self._free.pop().close()
        role = self._role
        if isinstance(role, Owner):
            role.served.check(description)

    def refusal(self) -> ClosedError:
        """What is told to whoever uses a handle that was closed."""
        return ClosedError("it was closed", path=self.directory, hint="open it again")

    @contextmanager
    def _pin(self) -> Iterator[Link]:
        """This thread's calls go over one link, for as long as that holds something."""
        ident = threading.get_ident()
        link = self._pinned.get(ident)
        if link is None:
            link = self._pinned[ident] = self._take_link()
        try:
            yield link
        finally:
            if not link.holds:
                del self._pinned[ident]
                self._give_back(link)

    def lock(self) -> None:
        """Keeps everybody else out, until ``unlock``: other processes, and other threads of this one. Reentrant."""
        with self._pin() as link:
            link.hold(LOCK)

    def unlock(self) -> None:
        """Raises ``UsageError`` where this thread has not locked it."""
        with self._pin() as link:
            link.let_go(UNLOCK)

    @property
    def is_locked_here(self) -> bool:
        """Whether this thread has locked it."""
        link = self._pinned.get(threading.get_ident())
        return link is not None and link.lock_count > 0

    def begin(self) -> None:
        """Opens a transaction of this thread."""
        with self._pin() as link:
            link.hold(BEGIN)

    def commit(self) -> None:
        """Raises ``WriteError`` where the owner ended in the middle of it: nothing of it was made."""
        with self._pin() as link:
            link.let_go(COMMIT)

    def roll_back(self) -> None:
        """Takes back what this thread's transaction has done."""
        with self._pin() as link:
            link.let_go(ROLLBACK)

    # ---- who owns it

    def role(self) -> Role:
        """The owner, or where it listens. Takes the directory over where nobody has it."""
        role = self._role
        if role is None:
            with self._joining:
                role = self._role
                if role is None:
                    role = self._role = self._join()
        return role

    def is_current(self, role: Role | None) -> bool:
        """Whether the owner is still the one that this was."""
        return role is not None and role is self._role

    def lost(self, role: Role | None) -> None:
        """That owner does not answer any more."""
        with self._joining:
            if self._role is role:
                self._role = None

    def _join(self) -> Role:
        deadline_s = time.monotonic() + self.lease_s
        pause_s = _PAUSE_S_MIN
        self._make_ready()
        while True:
            if self.closed:
                raise self.refusal()
            try:
                return self._take_over(Claim(self.fs, self.directory))
            except BlockingIOError:
                address = find(self.fs, self.directory)
            if address is not None:
                return address
            if time.monotonic() >= deadline_s:
                raise self.unreachable("its owner does not say where it listens")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_S_MAX)

    def _make_ready(self) -> None:
        if os.path.lexists(self.directory) and not os.path.isdir(self.directory):
            raise UsageError("it is a file; it needs a directory of its own", path=self.directory)
        if not os.path.isdir(self.directory):
            self.fs.make_directory(self.directory)
        check_private(self.fs, self.directory)

    def _take_over(self, claim: Claim) -> Owner:
        """Listens first and recovers then: whoever comes meanwhile waits at the door, and knows that it is one."""
        listener = None
        try:
            listener = Listener(self.fs, self.directory)
            claim.publish(listener.address)
            return Owner(self.fs, claim, listener, self._open())
        except BaseException:
            if listener is not None:
                listener.close()
            claim.release()
            raise

    def _open(self) -> Served:
        deadline_s = time.monotonic() + _FOREIGN_WRITER_S
        while True:
            try:
                return self.opener(self)
            except LockedError as error:
                if time.monotonic() >= deadline_s:
                    error.hint = "whoever has it open does not share it: open it there with shared=True, too"
                    raise
                time.sleep(_PAUSE_S_MAX)

    def unreachable(self, why: str) -> UnreachableError:
        """What is told to whoever has waited for the time of a lease."""
        return UnreachableError(
            f"nobody serves it: {why}", path=self.directory, hint="is the process that owns it stopped?"
        )

    # ---- the end

    def close(self, *, snapshot: bool | None = None) -> None:
        """Leaves. The others go on. Idempotent. Raises what closing raises, after letting go."""
        self.closed = True
        self._free.clear()
        for link in list(self._links):
            link.close()
        with self._joining:
            role, self._role = self._role, None
        if isinstance(role, Owner):
            role.stop(snapshot=snapshot)

    def after_fork_in_child(self) -> None:
        """A forked child begins anew, as one of the others. Sockets are closed without a word."""
        self.pid = os.getpid()
        self._joining = threading.Lock()
        self._role = None
        self._pinned.clear()
        self._free.clear()
        for link in list(self._links):
            with contextlib.suppress(OSError):
                link.abandon()
        self._links = weakref.WeakSet()


_members: weakref.WeakSet[Member] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for member in list(_members):
        member.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
