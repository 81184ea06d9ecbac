"""The verbs that look into a directory, for a system on an engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import click

from perdure.cli._app import load_app
from perdure.cli._common import emit_json, in_bytes, local_time, note, print_table, utc_time
from perdure.cluster import LogReader, Peek, peek
from perdure.engines import parse_url
from perdure.records import Entry


def info_of_engine(url: str, as_json: bool) -> int:
    """``perdure info URL``: what the log and its snapshots say, and what the engine promises."""
    with peek(parse_url(url)) as found:
        document = _describe(found)
    if as_json:
        emit_json(document)
        return 0
    rows = [
        ("system", document["url"]),
        (document["kind"] or "kind", document["class"] or "unknown"),
        ("codec", document["codec"] or "unknown"),
        ("engine", document["server"]),
        ("durability", document["durability"]),
        ("log", document["log_id"]),
        ("entries", f"{document['first_position']:,} to {document['last_position']:,}"),
    ]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        click.echo(f"{name:<{width}}  {text}")
    click.echo()
    print_table(
        "snapshots",
        ["#seq", "#position", "time", "#size"],
        [
            (f"{each['seq']:,}", f"{each['position']:,}", local_time(each["at_ns"]), in_bytes(each["size_bytes"]))
            for each in document["snapshots"]
        ],
    )
    return 0


def _describe(found: Peek) -> dict[str, Any]:
    capabilities, bounds = found.log.capabilities, found.log.bounds()
    return {
        "url": found.log.url,
        "kind": found.description.get("kind"),
        "class": found.description.get("class"),
        "codec": found.description.get("codec"),
        "server": capabilities.server,
        "durability": capabilities.durability,
        "level": capabilities.level,
        "log_id": found.log.log_id.hex(),
        "first_position": bounds.first,
        "last_position": bounds.last,
        "snapshots": [
            {
                "name": name,
                "seq": snapshot.seq,
                "position": place.position,
                "at": utc_time(snapshot.header.at_ns),
                "at_ns": snapshot.header.at_ns,
                "size_bytes": snapshot.size_bytes,
            }
            for name, snapshot, place in found.snapshots
        ],
    }


@contextmanager
def log_of_engine(url: str, after: int, before: int | None, follow: bool) -> Iterator[tuple[str, Iterator[Entry]]]:
    """``perdure log URL``: the name of the codec, and the commands. Outcomes are not in the log of an engine."""
    with peek(parse_url(url)) as found:
        reader = LogReader(found)
        if after < reader.first_seq - 1:
            note(f"commands before seq {reader.first_seq} are not in the log any more; see keep_history=True")
        entries = takewhile(lambda entry: before is None or entry.seq < before, reader.entries(follow=follow))
        codec = str(found.description.get("codec", "pickle"))
        yield codec, (entry for entry in entries if entry.seq > after)


def verify_engine(url: str, spec: str | None, options: Mapping[str, Any], as_json: bool) -> int:
    """``perdure verify URL app:Wiki``: replays the log from each snapshot to the next one, and to its end."""
    with peek(parse_url(url)) as found:
        app = load_app(spec, found.description, allow=options["allow"], renames=options["renames"])
        checks: Sequence[Mapping[str, Any]] = found.verified(app.blank)
    wrong = [check for check in checks if not check["same"]]
    if as_json:
        emit_json({"checks": checks, "same": not wrong})
        return 1 if wrong else 0
    for check in checks:
        ending = "the same state" if check["same"] else f"ANOTHER STATE: {check['problem']}"
        click.echo(f"from seq {check['from_seq']:,} to {check['to_seq']:,}: {ending}")
    return 1 if wrong else 0
