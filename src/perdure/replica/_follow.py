"""``perdure.follow``: a replica of a system that is served somewhere."""

from __future__ import annotations

import os
import ssl
from typing import TypeVar, Unpack

from perdure.errors import RemoteError, UnreachableError
from perdure.machine import create_replica, has_snapshot, open_replica, open_replica_in_memory
from perdure.replica._following import Following, TrimmedError
from perdure.replica._primary import Primary
from perdure.replica._refused import FeedRefusedError
from perdure.system import OpenOptions, replica_parts, replica_proxy

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
    primary = Primary(url, token, tls)
    try:
        if place.directory is None:
            machine, report = open_replica_in_memory(state, place, primary.snapshot())
        else:
            if not has_snapshot(place):
                create_replica(place, primary.url, primary.snapshot())
            machine, report = open_replica(state, place, primary.url)
    except FeedRefusedError as error:
        raise UnreachableError(f"{url} gives no snapshot: {error.message}") from error
    try:
        following = Following(machine, primary, place)
        _try(following)
        following.start()
        return replica_proxy(machine, state, report, following)  # type: ignore[no-any-return]
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
        pass
    finally:
        following.disconnect()
