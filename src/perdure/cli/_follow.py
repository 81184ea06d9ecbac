"""``perdure follow``: a replica, or what becomes of one."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import click

import perdure
from perdure.cli._app import App, load_app
from perdure.cli._common import (
    class_options,
    codec_option,
    durability_option,
    emit_json,
    json_option,
    secret_option,
)
from perdure.errors import UsageError
from perdure.fs import Fs

_LOOK_S = 0.2


@click.command(short_help="Keep a replica of a served system.")
@click.argument("app", metavar="app:Wiki")
@click.argument("url", metavar="URL")
@click.option("--dir", "directory", metavar="DIR", required=True, help="Where the replica keeps its files.")
@click.option("--token-file", metavar="FILE", help="A file that holds the primary's token and nothing else.")
@codec_option
@durability_option
@click.option("--promote", is_flag=True, help="Make the replica in DIR a writer, tell the old one, and end.")
@class_options
@secret_option
@json_option
def follow(
    app: str,
    url: str,
    directory: str,
    token_file: str | None,
    codec: str,
    durability: str,
    promote: bool,
    allow: tuple[str, ...],
    renames: dict[str, str],
    secrets: tuple[bytes, ...],
    as_json: bool,
) -> int:
    """Follow the system that `perdure serve` offers at URL, into DIR, until SIGTERM or SIGINT.

    A DIR that was followed into before goes on from there. Other processes may read in it: mode="r".
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    loaded = load_app(app, {"codec": codec}, allow=allow, renames=renames, secrets=secrets)
    token = None if token_file is None else _token_in(token_file)
    replica = _follow(loaded, url, directory, token=token, durability=durability)
    control = perdure.control(replica)
    try:
        if promote:
            control.promote()
            _tell({"directory": control.path, "seq": control.seq, "promoted": True}, as_json)
            return 0
        _tell({"directory": control.path, "seq": control.seq, "url": url, "pid": os.getpid()}, as_json)
        with _stopped_by_signals() as stopped:
            while not stopped.wait(_LOOK_S):
                # Raises what has ended the following, if something has.
                with perdure.system.system_of(replica).engine.lock:
                    pass
        _tell({"directory": control.path, "seq": control.seq, "stopped": True}, as_json)
    finally:
        control.close()
    return 0


def _follow(loaded: App, url: str, directory: str, **options: Any) -> Any:
    secrets = tuple(loaded.secrets) or None
    return perdure.follow(
        loaded.cls, url, directory, codec=loaded.codec, allow=loaded.allow, renames=loaded.renames, secret=secrets,
        **options,
    )  # fmt: skip


def _token_in(path: str) -> str:
    try:
        words = Fs().read_all(path).decode("utf-8", "replace").split()
    except OSError as error:
        raise UsageError(f"the token file cannot be read: {error.strerror}", path=path) from error
    if len(words) != 1:
        raise UsageError("the token file must hold one token and nothing else", path=path)
    return words[0]


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    stopped = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(what: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit_json(what, indent=None)
    else:
        state = (
            "promoted: it is a writer now" if "promoted" in what else "stopped" if "stopped" in what else "following"
        )
        click.echo(f"{what['directory']}, seq {what['seq']}: {state}")
    sys.stdout.flush()
