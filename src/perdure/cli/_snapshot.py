"""``perdure snapshot``: taking one."""

from __future__ import annotations

import time

import click

from perdure import control
from perdure.cli._app import app_argument, load_app
from perdure.cli._common import class_options, directory_argument, emit_json, in_bytes, json_option, secret_option
from perdure.errors import CorruptError
from perdure.repair import survey


@click.command(short_help="Take a snapshot, so that opening replays nothing.")
@directory_argument
@app_argument
@class_options
@secret_option
@json_option
def snapshot(
    directory: str,
    app: str | None,
    allow: tuple[str, ...],
    renames: dict[str, str],
    secrets: tuple[bytes, ...],
    as_json: bool,
) -> int:
    """Open a directory for writing, take a snapshot, and close it again. Prunes nothing.

    dict, list, set, deque and Counter need no app:Wiki.
    """
    found = survey(directory, secrets=secrets, deep=False)
    if not found.good_snapshots:
        # Opening would not find what to build on either, and must not make a new system here.
        raise CorruptError("no snapshot is left that verifies", path=found.path, hint=f"perdure verify {found.path}")
    loaded = load_app(app, found.description, allow=allow, renames=renames, secrets=secrets)
    started = time.monotonic()
    system = loaded.open(found.path, snapshot="manual", keep_history=True)
    try:
        seq = control(system).take_snapshot()
        digest = control(system).digest()
    finally:
        control(system).close()
    seconds = time.monotonic() - started
    file = next(file for file in survey(directory, secrets=secrets, deep=False).snapshots if file.seq == seq)
    if as_json:
        emit_json({"path": file.path, "seq": seq, "size_bytes": file.size_bytes, "digest": digest, "seconds": seconds})
    else:
        click.echo(f"{file.path}: seq {seq:,}, {in_bytes(file.size_bytes)}, {seconds:.1f} s in all")
    return 0
