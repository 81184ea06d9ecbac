"""``perdure _replay``: what ``perdure verify`` runs in a process of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import sys

import click

from perdure.cli._app import app_argument, load_app
from perdure.cli._common import class_options, directory_argument, secret_option
from perdure.repair import Comparer, survey


@click.command("_replay", hidden=True)
@directory_argument
@app_argument
@class_options
@secret_option
def replay(
    directory: str, app: str, allow: tuple[str, ...], renames: dict[str, str], secrets: tuple[bytes, ...]
) -> int:
    """Replays a journal between its snapshots and prints what came out, as JSON."""
    # The user's code may print; what we have to say goes through a descriptor that it does not know.
    result_fd = os.dup(1)
    os.dup2(2, 1)
    try:
        found = survey(directory, secrets=secrets)
        loaded = load_app(app, found.description, allow=allow, renames=renames, secrets=secrets)
        comparer = Comparer(found, loaded.blank, secrets=secrets, renamed=bool(renames))
        results = [dataclasses.asdict(result) for result in comparer.compare()]
        sys.stdout.flush()
        os.dup2(result_fd, 1)
        sys.stdout.write(json.dumps(results))
        sys.stdout.flush()
    finally:
        os.close(result_fd)
    return 0
