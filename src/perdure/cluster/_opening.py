"""Making a system on an engine, and opening it there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from perdure.clock import Clock
from perdure.cluster._entries import Genesis, Head, code_of, decode_body, decode_head, encode_body, encode_entry
from perdure.cluster._node import TIMEOUT_S, Node
from perdure.cluster._snapshots import BlobSnapshots, Place
from perdure.engines import (
    ID_BYTES,
    ConflictError,
    EngineUrl,
    Log,
    check_requirement,
    create_log,
    open_blobs,
    open_log,
)
from perdure.errors import (
    CorruptError,
    LockedError,
    MissingError,
    OutcomeUnknownError,
    PerdureError,
    UnreachableError,
)
from perdure.machine import RecoveryReport, State
from perdure.records import GENESIS
from perdure.snapshots import SnapshotHeader

_RETRY_S = 0.1
_IDLE_S = 3.0


@dataclass(frozen=True)
class ClusterOptions:
    """How a system on an engine is opened. ``snapshots``: where they go, if not into the engine; as fsspec has it.

    ``require``: "fsync" or "fsync-majority", refused unless proven. ``timeout_s``: of commands and of opening.
    """

    create: bool = False
    leader: bool = False
    require: str | None = None
    snapshots: str | None = None
    timeout_s: float = TIMEOUT_S
    snapshot: str | float = "auto"
    keep_history: bool = False
    read_only: bool = False
    clock: Clock | None = None


@dataclass(frozen=True)
class Beginning:
    """What a log begins with: nothing, or what another place held. ``receipts``: as ``Receipts.dump`` gives them."""

    log_id: bytes
    seq: int = 0
    at_ns: int = 0
    receipts: bytes = b""


def create_system(url: EngineUrl, state: State, options: ClusterOptions, beginning: Beginning | None = None) -> None:
    """Makes a system whose state is the one given.

    What a crash leaves at each step: an empty log; an empty log and a blob; a whole system. An empty log is taken up by
    the next creation. Of several at the same time one appends the first entry; the others' snapshots are taken away,
    or, where their states are the same, are the same snapshot.

    Raises ``LockedError`` where there is one, and what connecting raises.
    """
    beginning = beginning or Beginning(os.urandom(16))
    _retried(lambda: _make_log(url, beginning.log_id), options.timeout_s)
    log = open_log(url)
    try:
        check_requirement(log, options.require)
        _begin(log, state, options, beginning)
    finally:
        log.close()


def _make_log(url: EngineUrl, log_id: bytes) -> None:
    try:
        create_log(url, log_id)
    except LockedError:
        log = open_log(url)
        try:
            if log.bounds().last > 0:
                raise
        finally:
            log.close()


def _begin(log: Log, state: State, options: ClusterOptions, beginning: Beginning) -> None:
    """The initial state as a snapshot, and the entry that names it."""
    if log.bounds().last > 0:
        raise LockedError("there is a system of this name", path=log.url)
    snapshots = snapshots_of(log, options)
    try:
        # Equal beginnings have one name for their snapshot, so they must not differ in what it says.
        text = b"%b%d:%b" % (log.log_id, beginning.seq, state.digest())
        id = hashlib.blake2b(text, digest_size=ID_BYTES).digest()
        place = Place(1, id, b"", 0)
        header = SnapshotHeader(
            beginning.seq, beginning.at_ns, log.log_id, place.described(state.description), beginning.receipts
        )
        draft = snapshots.write(header, state.dump, state.digest, lambda file: state.digest(state.read(file)))
        try:
            name = snapshots.upload(snapshots.publish(draft, header), state.digest())
        except MissingError as error:
            # Taken away by one who wanted the same and was too late.
            if log.bounds().last == 0:
                raise
            raise LockedError("somebody else has just made it", path=log.url) from error
        genesis = Genesis(log.log_id, dict(state.description), name, beginning.seq)
        at_ns = max(beginning.at_ns, time.time_ns())
        data = encode_entry(Head(GENESIS, 0, at_ns, code_of(state.description)), encode_body(genesis))

        def append() -> None:
            try:
                log.append(data, id, expected=0)
            except ConflictError as error:
                first = log.read(0, 1)[0]
                if first.data == data:
                    return
                if first.id != id:
                    snapshots.refuse(name)
                raise LockedError("somebody else has just made it", path=log.url) from error

        _retried(append, options.timeout_s)
    finally:
        if snapshots.blobs is not log.blobs:
            snapshots.blobs.close()
        snapshots.close()


def snapshots_of(log: Log, options: ClusterOptions) -> BlobSnapshots:
    """The snapshots of a log, in the engine or where ``options`` say."""
    blobs = log.blobs if options.snapshots is None else open_blobs(options.snapshots)
    return BlobSnapshots(blobs, log.log_id, keep_history=options.keep_history)


def _retried(attempt: Callable[[], Any], timeout_s: float) -> Any:
    """Calls until the engine answers: a cluster may be choosing its leader."""
    until = time.monotonic() + timeout_s
    while True:
        try:
            return attempt()
        except (UnreachableError, OutcomeUnknownError):
            if time.monotonic() > until:
                raise
            time.sleep(_RETRY_S)


def open_node(
    url: EngineUrl, state: State, initial: Callable[[], Any], options: ClusterOptions
) -> tuple[Node, RecoveryReport]:
    """A running node: the newest snapshot that verifies, and every entry behind it.

    Never makes a system, unless ``options.create`` says so.

    Raises:
        MissingError: there is none, or its snapshots are gone.
        UnreachableError, UnauthorizedError: the engine.
        RejectedError: it does not promise what is required.
        UsageError, CodecError, ReplayError, CorruptError, FormatVersionError: what is there is not for this code.
    """
    if options.create and not _is_made(url):
        state.take_over(initial())
        # Where somebody else has just made it, theirs is opened.
        with contextlib.suppress(LockedError):
            create_system(url, state, options)
    return open_node_on(open_log(url), state, options)


def _is_made(url: EngineUrl) -> bool:
    try:
        log = open_log(url)
    except MissingError:
        return False
    try:
        return log.bounds().last > 0
    finally:
        log.close()


def open_node_on(log: Log, state: State, options: ClusterOptions) -> tuple[Node, RecoveryReport]:
    """``open_node`` on a log that is open; it is closed where this raises."""
    started = time.monotonic()
    snapshots: BlobSnapshots | None = None
    try:
        check_requirement(log, options.require)
        _retried(lambda: _check_genesis(log, state), options.timeout_s)
        snapshots = snapshots_of(log, options)
        node = Node(
            log,
            state,
            snapshots,
            writes=not options.read_only,
            timeout_s=options.timeout_s,
            clock=options.clock,
            snapshot=options.snapshot,
            keep_history=options.keep_history,
        )
        snapshot_seq = _recover(node, options.timeout_s)
    except BaseException:
        if snapshots is not None:
            snapshots.close()
        log.close()
        raise
    node.start()
    try:
        if options.leader:
            node.take_lead()
    except BaseException:
        node.close()
        raise
    return node, RecoveryReport(
        snapshot_seq=snapshot_seq, replayed=node.seq - snapshot_seq, seconds=time.monotonic() - started
    )


def _check_genesis(log: Log, state: State) -> None:
    """Whether the log is for this state, as far as its first entry is still there; snapshots say it, too."""
    bounds = log.bounds()
    if bounds.last == 0:
        raise MissingError("the log is empty: making it was not finished", path=log.url, hint="create it again")
    if bounds.first > 1:
        return
    first = log.read(0, 1)
    if not first:
        raise UnreachableError("the engine's answer is an old one", path=log.url)
    if decode_head(first[0].data, 1).kind != GENESIS:
        raise CorruptError("the log does not begin with a genesis record", path=log.url, seq=1)
    genesis = decode_body(first[0].data, Genesis, 1)
    if genesis.log_id != log.log_id:
        raise CorruptError("the log's first entry belongs to another log", path=log.url, seq=1)
    state.check(genesis.description, log.url)


def _recover(node: Node, timeout_s: float) -> int:
    """Brings the state up to date; the seq of the snapshot that it began with. Raises like ``open_node``."""
    while True:
        first = _retried(node.log.bounds, timeout_s).first
        try:
            _retried(lambda: _load_newest(node), timeout_s)
            snapshot_seq = node.seq
            _retried(lambda: _catch_up(node), timeout_s)
        except MissingError:
            # Where others have trimmed the log in the meantime, they have taken newer snapshots before.
            if _retried(node.log.bounds, timeout_s).first == first:
                raise
        else:
            return snapshot_seq


def _load_newest(node: Node) -> None:
    damaged: PerdureError | None = None
    for name in node.snapshots.names():
        try:
            node.take_over(node.snapshots.fetched(name, anew=True))
            first = node.log.bounds().first
            if node.position + 1 < first:
                continue
            if node.position >= first:
                _check_place(node, name)
        except (CorruptError, MissingError) as error:
            damaged = damaged or error
            continue
        return
    raise damaged or MissingError(
        "no snapshot that the log goes on from is there",
        path=node.log.url,
        hint="is snapshots= the place that it was created with?",
    )


def _check_place(node: Node, name: str) -> None:
    """Raises ``CorruptError`` for a snapshot that no entry of the log leads to, such as a creation's that lost."""
    found = node.log.read(node.position - 1, 1)
    if found and found[0].id != node.last_id:
        raise CorruptError("the log has another entry where the snapshot was taken", path=name, seq=node.position)


def _catch_up(node: Node) -> None:
    """Applies what is in the log by now."""
    last = node.log.bounds().last
    if node.position >= last:
        return
    # One stream for all of it: beginning one costs an engine more than many entries do.
    following = node.log.follow(node.position, idle_s=_IDLE_S)
    try:
        for entries in following:
            node.apply_all(entries)
            if node.failure is not None:
                raise node.failure
            if node.position >= last:
                return
            if not entries:
                raise UnreachableError("the engine's answer is an old one", path=node.log.url)
    finally:
        following.close()  # type: ignore[attr-defined]
