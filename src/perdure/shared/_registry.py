"""One ``Member`` a path in this process, whatever the number of handles on it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from perdure.codecs import Codec
from perdure.errors import UsageError
from perdure.fs import Fs
from perdure.shared._member import Member
from perdure.shared._session import Served

_members: dict[str, Member] = {}
_registry = threading.RLock()


def join(
    directory: str, opener: Callable[[Member], Served], description: dict[str, Any], codec: Codec, fs: Fs
) -> Member:
    """The member of a path, for one more handle. Raises ``UsageError`` where it is open here as something else."""
    name = os.path.realpath(directory)
    with _registry:
        member = _members.get(name)
        if member is None or member.closed:
            member = Member(directory, opener, description, codec, fs)
            _members[name] = member
        else:
            for field, value in description.items():
                known = member.description.get(field, value)
                if known != value:
                    raise UsageError(
                        f"it is open in this process with {field}={known!r}, not {value!r}",
                        path=directory,
                        hint="give the same options, or close it first",
                    )
            if description.keys() - member.description.keys():
                member.describe({**member.description, **description}, opener)
        member.handle_count += 1
        return member


def release(member: Member, *, snapshot: bool | None = None) -> None:
    """One handle less; the last one leaves. Raises what closing raises, after letting go."""
    with _registry:
        member.handle_count -= 1
        if member.handle_count > 0:
            return
        name = os.path.realpath(member.directory)
        if _members.get(name) is member:
            del _members[name]
    member.close(snapshot=snapshot)


def release_forgotten(member: Member) -> None:
    """``release`` for a handle that nobody closed: called by the collector, at any moment and in any thread, and at
    interpreter exit.
    """
    if member.pid != os.getpid():
        return
    # Not here: this thread may be in the middle of a call.
    try:
        threading.Thread(target=release, args=(member,), kwargs={"snapshot": False}, name="perdure-closing").start()
    except RuntimeError:
        # The interpreter is about to exit and starts no threads any more.
        release(member, snapshot=False)


def _after_fork_in_child() -> None:
    # The members stay: a forked child's handles go on by them.
    global _registry
    _registry = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
