"""``perdure export``: a directory as lines of JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import click

from perdure.cli._app import app_argument, load_app
from perdure.cli._common import class_options, directory_argument, emit_json, json_option, note, secret_option, utc_time
from perdure.cli._entries import readable
from perdure.cli._exchange import STATE_CHUNK_BYTES, VERSION, NotPlainError, tagged
from perdure.cli._viewer import read_call
from perdure.codecs import Codec
from perdure.errors import CodecError, MissingError
from perdure.fs import check_not_open, existing_directory
from perdure.machine import Outcome
from perdure.records import Entry
from perdure.snapshots import FileSnapshotStore, Snapshot, Source
from perdure.system import decode_command


@click.command(short_help="Write the commands as lines of JSON, for perdure import.")
@directory_argument
@app_argument
@class_options
@secret_option
@json_option
def export(
    directory: str,
    app: str | None,
    allow: tuple[str, ...],
    renames: dict[str, str],
    secrets: tuple[bytes, ...],
    as_json: bool,
) -> int:
    """Write the oldest state and all commands since as lines of JSON to standard output.

    Imports nothing of yours without app:Wiki; then a call whose arguments are objects is one opaque text. With the
    class each argument stands by itself. It may run beside a writer.
    """
    del as_json  # It is JSON anyway.
    if app is not None:
        check_not_open(existing_directory(directory))
    found, journal = readable(directory, secrets)
    snapshots = [file.snapshot for file in found.good_snapshots if file.snapshot is not None]
    base = next((snapshot for snapshot in reversed(snapshots) if snapshot.seq >= journal.first_seq - 1), None)
    if base is None:
        raise MissingError("there is no snapshot that the journal builds on", path=found.path, seq=journal.first_seq)
    if base.seq > 0:
        note(f"the oldest state that is left is that of seq {base.seq}; see keep_history=True")
    description = base.header.description
    codec_name = str(description.get("codec", "pickle"))
    codec = (
        None if app is None else load_app(app, description, allow=allow, renames=renames, secrets=secrets).blank().codec
    )
    _write_state(FileSnapshotStore(found.path, secrets=secrets), base)
    count = 0
    for entry, outcome in journal.commands(base.seq):
        emit_json(_line(codec_name, codec, entry, outcome), indent=None)
        count += 1
    emit_json({"end": True, "commands": count}, indent=None)
    return 0


def _write_state(store: FileSnapshotStore, base: Snapshot) -> None:
    """The head, and the state behind it in pieces: it may be large."""
    # Read twice, because the head comes first and holds the digest, and because all of it is verified first.
    _, digest = store.load(base, lambda _: None)
    header = base.header
    emit_json(
        {
            "perdure": "export",
            "version": VERSION,
            "class": header.description.get("class"),
            "codec": header.description.get("codec"),
            "log_id": header.log_id.hex(),
            "base": {"seq": header.seq, "at_ns": header.at_ns, "digest": digest.hex()},
            "description": _plain(header.description),
        },
        indent=None,
    )

    def write(source: Source) -> None:
        while part := source.read(STATE_CHUNK_BYTES):
            emit_json({"state": base64.b64encode(part).decode()}, indent=None)

    store.load(base, write)


def _plain(description: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in description.items() if isinstance(value, str | int | dict | list)}


def _line(codec_name: str, codec: Codec | None, entry: Entry, outcome: Outcome | None) -> dict[str, Any]:
    line: dict[str, Any] = {
        "seq": entry.seq,
        "at": utc_time(entry.at_ns),
        "at_ns": entry.at_ns,
        "utc_offset_min": entry.utc_offset_min,
        **_call(codec_name, codec, entry.payload),
        "outcome": "returned" if outcome is None else outcome.status,
    }
    if outcome is not None:
        line["error"] = outcome.error
    if entry.client:
        line["client"] = entry.client.hex()
        line["counter"] = entry.counter
    return line


def _call(codec_name: str, codec: Codec | None, payload: bytes) -> dict[str, Any]:
    call = read_call(codec_name, payload)
    if call.opaque is not None and codec is None:
        raise CodecError(f"a call cannot be read: {call.opaque}")
    try:
        if not call.coded:
            return {
                "method": call.method,
                "args": tagged(call.args, set(), None),
                "kwargs": tagged(call.kwargs, set(), None),
            }
        if codec is not None:
            parts = _taken_apart(codec, payload)
        else:
            seen: set[int] = set()
            parts = {"args": tagged(call.args, seen, None), "kwargs": tagged(call.kwargs, seen, None)}
        return {"method": call.method, **parts}
    except NotPlainError:
        return {"method": call.method, "$call": base64.b64encode(payload[1:]).decode(), "text": call.text(200)}


def _taken_apart(codec: Codec, payload: bytes) -> dict[str, Any]:
    """Each argument by itself, if nothing is lost by that: the parts must make the same bytes again."""
    method, args, kwargs = decode_command(codec, payload)
    seen: set[int] = set()
    parts = {"args": tagged(list(args), seen, codec), "kwargs": tagged(kwargs, seen, codec)}
    if "$pickle" in repr(parts):
        again = tuple(codec.decode(codec.encode(value)) for value in args)
        named = {name: codec.decode(codec.encode(value)) for name, value in kwargs.items()}
        if codec.encode((method, again, named)) != codec.encode((method, args, kwargs)):
            raise NotPlainError
    return parts
