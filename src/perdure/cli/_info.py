"""``perdure info``: what is in a directory."""

from __future__ import annotations

from typing import Any

import click

from perdure.cli._common import (
    directory_argument,
    emit_json,
    in_bytes,
    json_option,
    local_time,
    print_table,
    secret_option,
    utc_time,
)
from perdure.cli._engine import info_of_engine
from perdure.engines import is_engine_url
from perdure.fs import lock_holder
from perdure.repair import SegmentFile, Survey, survey

_DURABILITY = {0: "always", 1: "everysec", 2: "never"}


@click.command(short_help="Show what is in a directory.")
@directory_argument
@secret_option
@json_option
def info(directory: str, secrets: tuple[bytes, ...], as_json: bool) -> int:
    """Show what is in a directory: class, snapshots, segments, and who has it open.

    Reads headers and the last segment only, imports nothing of yours and changes nothing; it may run beside a writer.
    With the URL of a system on an engine: its log, its snapshots, and what the engine promises.
    """
    if is_engine_url(directory):
        return info_of_engine(directory, as_json)
    found = survey(directory, secrets=secrets, deep=False, dicts=True)
    holder = lock_holder(found.path)
    document = describe(found, holder)
    if as_json:
        emit_json(document)
    else:
        _print(found, document)
    wrong = any(file.error for file in found.snapshots) or any(f.error or f.tail_error for f in found.segments)
    return 1 if wrong else 0


def describe(found: Survey, holder: int | None) -> dict[str, Any]:
    """All of it, for machines."""
    description = found.description
    good = found.good_snapshots
    log_id = next((file.header.log_id for file in found.segments if file.header), None)
    if log_id is None and good and good[0].snapshot is not None:
        log_id = good[0].snapshot.header.log_id
    last_seq = max([file.last_seq for file in found.segments] + [file.seq for file in good], default=0)
    return {
        "path": found.path,
        "kind": description.get("kind"),
        "class": description.get("class"),
        "codec": description.get("codec"),
        "log_id": log_id.hex() if log_id else None,
        "last_seq": last_seq,
        "entries_since_snapshot": last_seq - good[0].seq if good else None,
        "lock_holder": holder,
        "snapshots": [
            {
                "file": file.name,
                "seq": file.seq,
                "at": utc_time(file.snapshot.header.at_ns) if file.snapshot else None,
                "size_bytes": file.size_bytes,
                "state": "damaged" if file.error else "good",
                "error": file.error.message if file.error else None,
            }
            for file in found.snapshots
        ],
        "segments": [_segment(file) for file in found.segments],
        "cut": [{"file": name, "size_bytes": size_bytes} for name, size_bytes in found.cuts.items()],
        "quarantine": found.quarantine,
        "temporaries": found.temporaries,
        "foreign": found.foreign,
    }


def _segment(file: SegmentFile) -> dict[str, Any]:
    error = file.error or file.tail_error
    return {
        "file": file.name,
        "number": file.number,
        "base_seq": file.base_seq if file.header else None,
        "last_seq": file.last_seq if file.header else None,
        "size_bytes": file.size_bytes,
        "state": _state(file),
        "durability": _DURABILITY.get(file.header.durability) if file.header else None,
        "authenticated": file.segment is not None and file.segment.chain is not None,
        "last_at": utc_time(file.last_at_ns),
        "error": error.message if error else None,
    }


def _state(file: SegmentFile) -> str:
    if file.error or file.tail_error:
        return "damaged"
    if file.torn:
        return "torn"
    return "sealed" if file.sealed else "open" if file.scanned else "ended"


def _print(found: Survey, document: dict[str, Any]) -> None:
    holder = document["lock_holder"]
    rows = [
        ("directory", found.path),
        ("kind", "dict") if found.is_dict else (document["kind"] or "kind", document["class"] or "unknown"),
        ("codec", document["codec"] or "unknown"),
        ("log", document["log_id"] or "unknown"),
        ("last seq", f"{document['last_seq']:,}"),
        ("to replay", _to_replay(document["entries_since_snapshot"])),
        ("open in", f"process {holder}" if holder else "no process that is known"),
    ]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        click.echo(f"{name:<{width}}  {text}")
    click.echo()
    print_table(
        "snapshots",
        ["#seq", "time", "#size", "header and end"],
        [
            (f"{s.seq:,}", local_time(s.snapshot.header.at_ns) if s.snapshot else "", in_bytes(s.size_bytes),
             "damaged: " + s.error.message if s.error else "good")
            for s in found.snapshots
        ],
    )  # fmt: skip
    print_table(
        "segments",
        ["#number", "#first seq", "#last seq", "#size", "state", "durability"],
        [
            (row["number"], row["base_seq"], row["last_seq"], in_bytes(row["size_bytes"]),
             row["state"] + (f": {row['error']}" if row["error"] else ""), row["durability"])
            for row in document["segments"]
        ],
    )  # fmt: skip
    for title, names in [
        ("torn tails, kept in cut/", [f"{name}, {in_bytes(size)}" for name, size in found.cuts.items()]),
        ("set aside in quarantine/", found.quarantine),
        ("left by an interrupted write, deleted at the next opening", found.temporaries),
        ("other files, never touched", found.foreign),
    ]:
        if names:
            click.echo(f"{title}: {', '.join(names)}")


def _to_replay(count: int | None) -> str:
    if count is None:
        return "there is no snapshot to begin with"
    return f"{count:,} {'entry' if count == 1 else 'entries'} since the newest snapshot"
