"""``perdure verify``: whether everything is whole, and whether today's code still makes the same of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import click

from perdure.cli._app import app_argument
from perdure.cli._common import (
    Secrets,
    class_options,
    directory_argument,
    emit_json,
    json_option,
    print_table,
    secret_option,
)
from perdure.cli._engine import verify_engine
from perdure.engines import is_engine_url
from perdure.errors import PerdureError
from perdure.fs import check_not_open, existing_directory
from perdure.repair import Diagnosis, diagnose, survey


@click.command(short_help="Check that everything is whole and still replays to the same state.")
@directory_argument
@app_argument
@class_options
@secret_option
@json_option
def verify(
    directory: str, app: str | None, allow: tuple[str, ...], renames: dict[str, str], secrets: Secrets, as_json: bool
) -> int:
    """Check that everything in a directory is whole; with app:Wiki, also that today's code replays to the same state.

    Reads every record and every block. With a class it also replays the journal from each snapshot to the next one, in
    another process with another hash seed, and compares the states. Changes nothing; may run beside a writer. With the
    URL of a system on an engine: replays its log from each snapshot to the next one, and to its end.
    """
    if is_engine_url(directory):
        return verify_engine(directory, app, {"allow": allow, "renames": renames}, as_json)
    if app is not None:
        check_not_open(existing_directory(directory))
    diagnosis = diagnose(survey(directory, secrets=secrets, dicts=app is None), secrets=secrets)
    replays: list[dict[str, Any]] | None = None
    if app is not None and not diagnosis.problems:
        replays = _replay_elsewhere(directory, app, allow, renames, secrets)
    wrong = bool(diagnosis.problems) or any(replay["verdict"] in ("different", "failed") for replay in replays or [])
    if as_json:
        emit_json(_document(diagnosis, replays, wrong))
    else:
        _print(diagnosis, app, replays, wrong)
    return 1 if wrong else 0


def _replay_elsewhere(
    directory: str, app: str, allow: tuple[str, ...], renames: dict[str, str], secrets: Secrets
) -> list[dict[str, Any]]:
    """What the verb ``_replay`` finds in another process, where sets of strings have another order."""
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    command = [sys.executable, "-m", "perdure", "_replay", directory, app]
    for name in allow:
        command += ["--allow", name]
    for old, new in renames.items():
        command += ["--rename", f"{old}={new}"]
    if secrets.path is not None:
        # The file and not the keys: a command line can be seen by everybody.
        command += ["--secret-file", secrets.path]
    child = subprocess.run(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONHASHSEED": seed}, check=False)
    if child.returncode == -2 or child.returncode == 130:
        raise KeyboardInterrupt
    if child.returncode != 0:
        raise PerdureError("the journal could not be replayed, for the reason above", path=directory)
    found: list[dict[str, Any]] = json.loads(child.stdout)
    return found


def _document(diagnosis: Diagnosis, replays: list[dict[str, Any]] | None, wrong: bool) -> dict[str, Any]:
    found = diagnosis.survey
    return {
        "path": found.path,
        "good": not wrong,
        "last_seq": diagnosis.reach,
        "snapshots": len(found.snapshots),
        "segments": len(found.segments),
        "problems": [
            {"path": p.path, "offset": p.offset, "seq": p.seq, "message": p.message} for p in diagnosis.problems
        ],
        "notes": diagnosis.notes,
        "lost_first": diagnosis.reach + 1 if diagnosis.lost_count else None,
        "lost_last": diagnosis.known_seq if diagnosis.lost_count else None,
        "replays": replays,
    }


def _print(diagnosis: Diagnosis, app: str | None, replays: list[dict[str, Any]] | None, wrong: bool) -> None:
    found = diagnosis.survey
    entries = sum(file.entry_count for file in found.segments)
    click.echo(
        f"{found.path}: {_count(len(found.snapshots), 'snapshot')}, {_count(len(found.segments), 'segment')}, "
        f"{_count(entries, 'entry', 'entries')}, up to seq {diagnosis.reach:,}"
    )
    for note in diagnosis.notes:
        click.echo(f"note: {note}")
    print_table(
        "problems",
        ["file", "#byte", "#seq", "what is wrong"],
        [(os.path.basename(p.path), p.offset, p.seq, p.message) for p in diagnosis.problems],
    )
    if diagnosis.problems:
        if found.is_dict:
            click.echo("opening it with PersistentDict says what to do: its lines can be corrected by hand")
        else:
            click.echo(f"what can be kept, and how, says: perdure repair --dry-run {found.path}")
        if app is not None:
            click.echo("not replayed: the files must be whole first")
    for replay in replays or []:
        click.echo(_in_words(replay))
    if replays and not any(replay["verdict"] == "same" for replay in replays) and not wrong:
        click.echo("nothing could be compared: that takes two snapshots with entries between them")
    if not wrong:
        click.echo("good")


def _in_words(replay: dict[str, Any]) -> str:
    first, last = replay["first"], replay["last"]
    span = f"entries {first:,} to {last:,}" if last >= first else f"no entries behind seq {last:,}"
    if replay["verdict"] == "same":
        return f"{span}: replayed to the state of the next snapshot"
    if replay["verdict"] == "replayed":
        if last < first:
            return f"{span}: nothing to replay"
        return f"{span}: replayed without an error; no newer snapshot to compare the state with"
    where = f" at seq {replay['seq']:,}" if replay["seq"] is not None else ""
    text = f"{span}: {replay['verdict']}{where}: {replay['problem']}"
    return f"{text}\n  hint: {replay['hint']}" if replay["hint"] else text


def _count(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
