"""``perdure log``: the commands in a journal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from perdure.cli._common import directory_argument, emit_json, json_option, local_time, note, secret_option, utc_time
from perdure.cli._engine import log_of_engine
from perdure.cli._entries import Readable, readable
from perdure.cli._viewer import json_of, read_call
from perdure.engines import is_engine_url
from perdure.errors import MissingError
from perdure.fs import Fs
from perdure.journal import DirectoryFollower
from perdure.limits import FOLLOW_POLL_MS
from perdure.machine import Outcome, outcomes_in
from perdure.records import COMMAND, Chain, Entry

_WIDTH = 60


@click.command(short_help="Show the commands in a journal.")
@directory_argument
@click.option("--after", type=int, default=0, metavar="N", help="Only commands behind seq N.")
@click.option("--before", type=int, metavar="N", help="Only commands before seq N.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what a writer adds, until Ctrl-C.")
@click.option("--full", is_flag=True, help="Do not shorten long arguments.")
@secret_option
@json_option
def log(
    directory: str,
    after: int,
    before: int | None,
    follow: bool,
    full: bool,
    secrets: tuple[bytes, ...],
    as_json: bool,
) -> int:
    """The commands in a journal: seq, time, method, arguments and outcome.

    Imports nothing of yours: objects are shown by what they were made from. With --json one line of JSON each, with
    everything in it. What became of the last command is "unknown" as long as the writer has not written it down: it
    does so before the next one, or when it is idle. --follow waits for what a writer adds and shows it once it has
    settled: as durable as the writer promises, and with its outcome. The log of an engine holds no outcomes: each node
    sees for itself.
    """
    width = None if full else _WIDTH
    if is_engine_url(directory):
        with log_of_engine(directory, after, before, follow) as (codec, entries):
            printer = _Printer(codec, width, as_json)
            for entry in entries:
                printer.print(entry, None)
        return 0
    found, journal = readable(directory, secrets, dicts=True)
    codec = str(found.description.get("codec", "pickle"))
    first_seq = journal.first_seq
    if after + 1 < first_seq and journal.segments:
        note(f"entries before seq {first_seq} are not in the journal any more; see keep_history=True")
    printer = _Printer(codec, width, as_json)
    if follow:
        after = max(after, first_seq - 1)
        commands = _following(found.path, journal, after, before, Chain(secrets) if secrets else None)
    else:
        commands = journal.commands(after, before)
    for entry, outcome in commands:
        printer.print(entry, outcome)
    return 0


class _Printer:
    def __init__(self, codec: str, width: int | None, as_json: bool) -> None:
        self._codec = codec
        self._width = width
        self._as_json = as_json

    def print(self, entry: Entry, outcome: Outcome | None) -> None:
        if self._as_json:
            emit_json(as_document(self._codec, entry, outcome), indent=None)
            return
        call = read_call(self._codec, entry.payload).text(self._width)
        ending = "" if outcome is None else f"  → {outcome.status} {outcome.error}".rstrip()
        sys.stdout.write(f"{entry.seq:>8}  {local_time(entry.at_ns)}  {call}{ending}\n")


def as_document(codec: str, entry: Entry, outcome: Outcome | None) -> dict[str, Any]:
    """A command for machines."""
    call = read_call(codec, entry.payload)
    document: dict[str, Any] = {
        "seq": entry.seq,
        "at": utc_time(entry.at_ns),
        "at_ns": entry.at_ns,
        "method": call.method,
        "args": [json_of(value) for value in call.args],
        "kwargs": {name: json_of(value) for name, value in call.kwargs.items()},
        "outcome": "returned" if outcome is None else outcome.status,
        "error": None if outcome is None else outcome.error or None,
    }
    if call.opaque is not None:
        document["opaque"] = call.opaque
    return document


def _following(
    path: str, journal: Readable, after: int, before: int | None, chain: Chain | None
) -> Iterator[tuple[Entry, Outcome | None]]:
    """Settled commands for ever, or up to ``before``."""
    if journal.error is not None:
        yield from journal.commands(after, before)
    follower = DirectoryFollower(path, fs=Fs(), framing=journal.framing, after=after, chain=chain)
    while True:
        try:
            entries = follower.poll()
        except (MissingError, FileNotFoundError):
            # The writer took a snapshot and pruned what was not read yet.
            _, journal = readable(path, dicts=True)
            note(f"entries {follower.after + 1} to {journal.first_seq - 1} were pruned before they were read")
            follower = DirectoryFollower(
                path, fs=Fs(), framing=journal.framing, after=journal.first_seq - 1, chain=chain
            )
            continue
        outcomes = outcomes_in([*entries, *follower.pending])
        for entry in entries:
            if before is not None and entry.seq >= before:
                return
            if entry.kind == COMMAND:
                yield entry, outcomes.get(entry.seq)
        sys.stdout.flush()
        time.sleep(FOLLOW_POLL_MS / 1000)
