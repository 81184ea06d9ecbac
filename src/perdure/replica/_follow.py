"""``perdure.follow``: a replica of a system that is served somewhere."""

from __future__ import annotations

import os
import ssl
from typing import TypeVar, Unpack

from perdure.errors import RemoteError, UnreachableError, UsageError
from perdure.journal import FileJournal
from perdure.machine import (
    Place,
    RecoveryReport,
    ReplicaMachine,
    clear_unused,
    create_replica,
    has_snapshot,
    open_replica,
    open_replica_in_memory,
)
from perdure.replica._following import Following, TrimmedError
from perdure.replica._primary import Primary
from perdure.replica._refused import FeedRefusedError
from perdure.system import ObjectState, OpenOptions, rebind, replica_parts, replica_proxy, system_of

T = TypeVar("T")


def follow(
    cls: type[T],
    url: str,
    where: str | os.PathLike[str] | None = None,
    *,
    token: str | None = None,
    tls: ssl.SSLContext | None = None,
    **options: Unpack[OpenOptions],
) -> T:
    """A read-only replica of the system that ``perdure serve`` offers at ``url``: a snapshot first, then its entries.

    ``where``: a directory for a journal and snapshots of its own, with the same entries; without one it lives in
    memory. A directory that has been followed into before goes on from there, also while the primary is away.
    ``token``: for the primary; of the write scope, if the replica is to fence it once promoted. ``tls``: for https,
    instead of what the system trusts. ``options``: ``durability``, ``codec``, ``allow``, ``snapshot``,
    ``keep_history``, ``validate``, ``secret``, ``renames``, as for ``open``; those of what is stored must be the
    primary's.

    Queries are answered from memory; commands raise ``ReadOnlyError``. ``perdure.control`` tells its ``lag``, takes its
    snapshots and promotes it. It connects again by itself; what no repetition mends (``DivergedError``,
    ``ReplayError``, ``FencedError``) ends it, and queries raise that from then on. Any thread may call.

    Raises:
        UnreachableError, UnauthorizedError, RejectedError: there is nothing to begin with, and the primary gave none.
        DivergedError: the directory holds something else than what is at ``url``.
        ReplayError, UsageError: the primary runs another version of the class, or another class.
        FencedError: what is at ``url`` was replaced by a newer writer, which this replica knows.
        LockedError, StorageError, CodecError: as ``open`` does.
    """
    state, place = replica_parts(cls, where, options)
    return replica_proxy(*_begin(state, place, Primary(url, token, tls)))  # type: ignore[no-any-return]


def follow_in_place(proxy: object, url: str, *, token: str | None = None) -> None:
    """Makes an opened system that never had a command a replica, in its directory; what it held is deleted.

    What a crash leaves: the system as it was, or a directory that is empty, or a replica's.

    Raises:
        UsageError: it has commands of its own, or no directory. Nothing happened.
        and what ``follow`` raises: the system is closed, and empty.
    """
    system = system_of(proxy)
    machine = system.machine
    if machine is None or not isinstance(machine.journal, FileJournal) or system.replica is not None:
        raise UsageError("only an opened system in a directory becomes a replica", path=system.path)
    if machine.seq:
        raise UsageError(
            "it has commands of its own, and a replica has its primary's",
            path=system.path,
            hint="follow into another directory: perdure.follow(…)",
        )
    place = Place(machine.path, machine.durability, fs=machine.journal.fs)
    primary = Primary(url, token)
    # Whether there is anything to follow, before anything is given up.
    primary.ask("GET", "/snapshot").close()
    system.close()
    clear_unused(place)
    rebind(proxy, *_begin(system.state, place, primary))


def _begin(
    state: ObjectState, place: Place, primary: Primary
) -> tuple[ReplicaMachine, ObjectState, RecoveryReport, Following]:
    try:
        if place.directory is None:
            machine, report = open_replica_in_memory(state, place, primary.snapshot())
        else:
            if not has_snapshot(place):
                create_replica(place, primary.url, primary.snapshot())
            machine, report = open_replica(state, place, primary.url)
    except FeedRefusedError as error:
        raise UnreachableError(f"{primary.url} gives no snapshot: {error.message}") from error
    try:
        following = Following(machine, primary, place)
        _try(following)
        following.start()
        return machine, state, report, following
    except BaseException:
        machine.close(snapshot=False)
        raise


def _try(following: Following) -> None:
    """Connects once in the caller's thread, so that what is wrong for good is told at once."""
    try:
        answer = following.connect()
        while not following.greeted:
            data = answer.read()
            if not data:
                raise UnreachableError("the primary closed the connection")
            following.take(data)
    except (RemoteError, TrimmedError):
        # There is something to read. The thread tries again, or begins with a newer snapshot.
        following.disconnect()
    except BaseException:
        following.disconnect()
        raise
