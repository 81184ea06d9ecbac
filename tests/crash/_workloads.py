"""What the crash tests do with a ledger, and how they judge what is left of it."""

from __future__ import annotations

import os
from collections.abc import Callable

from perdure.errors import PerdureError
from perdure.fs import Fs, open_descriptor_count
from perdure.journal import BINARY, CUT_DIRECTORY, DirectoryFollower, needed_segments, segment_numbers
from perdure.records import Chain
from perdure.testing.crashsim import Log, Workload
from tests.crash._ledger import Ledger, payload

STORE = "ledger"

SCRIPTS = {
    # A digit appends so many entries in one step and syncs, u appends one and does not; s takes a snapshot; m marks; r
    # closes and opens again.
    "single": "111",
    "rotation": "1111111",
    "batches": "32413",
    "marks": "1m1m11mm",
    "snapshots": "11s11s1s1",
    "snapshots at once": "ss1ss",
    "reopened": "11r1r1mr2",
    "unsynced": "1uuu1uuru",
    "everything": "13s1r2mr31s11s2",
}


def run_script(script: str, ledger: Callable[[], Ledger], log: Log) -> None:
    """Runs the steps, each from where the ledger stands, and logs tries and promises."""
    store = ledger()
    try:
        log.acknowledged(len(store.values))
        for step in script:
            if step == "s":
                store.snapshot()
            elif step == "m":
                store.mark()
            elif step == "r":
                store.close()
                store = ledger()
                log.acknowledged(len(store.values))
            elif step == "u":
                log.tried(len(store.values) + 1)
                store.append([payload(len(store.values) + 1)], sync=False)
            else:
                end = len(store.values) + int(step)
                log.tried(end)
                store.append([payload(seq) for seq in range(len(store.values) + 1, end + 1)])
                log.acknowledged(end)
    finally:
        store.close()


def workload(script: str, *, secret: bytes = b"") -> Workload:
    def run(directory: str, fs: Fs, log: Log) -> None:
        run_script(script, lambda: Ledger(os.path.join(directory, STORE), fs, secret=secret), log)

    return run


def check(directory: str, acknowledged: int, tried: int, *, secret: bytes = b"") -> str | None:
    """Everything acknowledged is there, nothing that was not tried, no hole, and it goes on from here."""
    return check_store(os.path.join(directory, STORE), acknowledged, tried, secret=secret)


def check_store(directory: str, acknowledged: int, tried: int, *, secret: bytes = b"") -> str | None:
    open_before = open_descriptor_count()
    fs = Fs()
    count = -1
    try:
        for turn in range(3):
            store = Ledger(directory, fs, secret=secret)
            try:
                problem = _judge(store, acknowledged, tried) if turn == 0 else _judge(store, count, count)
                if problem is not None:
                    return f"opened for the {turn + 1}. time: {problem}"
                count = len(store.values) + 1
                store.append([payload(count)])
                if turn == 1:
                    store.snapshot(keep=1)
            finally:
                store.close()
        problem = _follow(directory, fs, count, secret)
    except PerdureError as error:
        problem = f"refused: {type(error).__name__}: {error}"
    if open_descriptor_count() != open_before:
        return f"descriptors are left open; {problem}"
    return problem


def _judge(store: Ledger, acknowledged: int, tried: int) -> str | None:
    count = len(store.values)
    if store.values != [payload(seq) for seq in range(1, count + 1)]:
        return f"wrong content among {count} entries"
    if count < acknowledged:
        return f"lost: {count} entries of {acknowledged} acknowledged"
    if count > tried:
        return f"phantom: {count} entries of {tried} tried"
    if store.read() != store.values:
        return "the journal reads differently from how it recovered"
    return None


def _follow(directory: str, fs: Fs, count: int, secret: bytes) -> str | None:
    """A reader beside the writer comes to the same end."""
    chain = Chain([secret]) if secret else None
    numbers = segment_numbers(fs, directory)
    after = needed_segments(fs, BINARY, directory, count, chain)[0].base_seq - 1 if numbers else 0
    follower = DirectoryFollower(directory, fs=fs, framing=BINARY, after=after, chain=chain)
    found = [entry.payload for entry in follower.poll()]
    wanted = [payload(seq) for seq in range(after + 1, count + 1)]
    return None if found == wanted else f"a follower found {len(found)} entries instead of {len(wanted)}"


def restart(directory: str, fs: Fs, log: Log) -> None:
    """What a restarted program does: it shows what it found, and goes on."""
    run_script("1m1", lambda: Ledger(os.path.join(directory, STORE), fs), log)


def cut_files(directory: str) -> list[str]:
    """The side files that hold torn tails."""
    side = os.path.join(directory, CUT_DIRECTORY)
    return sorted(os.listdir(side)) if os.path.isdir(side) else []
