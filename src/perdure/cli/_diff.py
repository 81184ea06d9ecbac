"""``perdure diff``: what changed between two moments."""

from __future__ import annotations

import contextlib
import sys

import click

from perdure import control
from perdure.cli._app import app_argument, load_app
from perdure.cli._common import class_options, directory_argument, emit_json, json_option, secret_option
from perdure.cli._structure import changed_texts, differences, shown
from perdure.repair import survey
from perdure.system import system_of

_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


@click.command(short_help="Show what changed between two moments.")
@directory_argument
@click.argument("before", metavar="SEQ", type=click.IntRange(min=0))
@click.argument("after", metavar="SEQ", type=click.IntRange(min=0))
@app_argument
@click.option("--full", is_flag=True, help="Do not shorten long values.")
@class_options
@secret_option
@json_option
def diff(
    directory: str,
    before: int,
    after: int,
    app: str | None,
    full: bool,
    allow: tuple[str, ...],
    renames: dict[str, str],
    secrets: tuple[bytes, ...],
    as_json: bool,
) -> int:
    """What changed between the states after two seqs; 0 is the initial one.

    dict, list, set, deque and Counter need no app:Wiki. Reads only, and may run beside a writer. How far back it can
    look depends on what was pruned; see keep_history=True.
    """
    found = survey(directory, secrets=secrets, deep=False)
    loaded = load_app(app, found.description, allow=allow, renames=renames, secrets=secrets)
    system = loaded.open(found.path, mode="r")
    with contextlib.ExitStack() as stack:
        stack.callback(control(system).close)
        old = system_of(control(system).at(before)).state.root
        new = system_of(control(system).at(after)).state.root
    rows = list(differences(old, new))
    width = None if full else 60
    if as_json:
        emit_json(
            [
                {
                    "kind": row.kind,
                    "path": row.path,
                    **({} if row.kind == "added" else {"before": shown(row.before, None)}),
                    **({} if row.kind == "removed" else {"after": shown(row.after, None)}),
                }
                for row in rows
            ]
        )
        return 0
    name = loaded.cls.__name__.lower()
    for row in rows:
        sign, color = _SIGNS[row.kind]
        values = {
            "added": shown(row.after, width),
            "removed": shown(row.before, width),
            "changed": " → ".join(changed_texts(row.before, row.after, width)),
        }
        click.echo(f"{click.style(sign, fg=color)} {name}{row.path}  {values[row.kind]}", file=sys.stdout)
    if not rows:
        click.echo(f"nothing differs between seq {before:,} and seq {after:,}")
    return 0
