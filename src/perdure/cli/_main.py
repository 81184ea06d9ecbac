"""The group of all verbs, and what becomes of their errors."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click

from perdure import __version__
from perdure.cli._create import copy, create
from perdure.cli._demo import demo
from perdure.cli._diff import diff
from perdure.cli._export import export
from perdure.cli._follow import follow
from perdure.cli._import import import_
from perdure.cli._info import info
from perdure.cli._log import log
from perdure.cli._repair import repair
from perdure.cli._replay import replay
from perdure.cli._serve import serve
from perdure.cli._snapshot import snapshot
from perdure.cli._verify import verify
from perdure.errors import CorruptError, MissingError, PerdureError, ReplayError
from perdure.system import PerdureWarning

INTERRUPTED = 130
NOBODY_READS = 141


class _UnreadError(Exception):
    """Nobody reads the output any more."""


class _Verbs(click.Group):
    """Keeps the order of the verbs, and takes a broken pipe out of click's hands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError as error:
            raise _UnreadError from error


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="perdure")
def cli() -> None:
    """Inspect, check, repair, move and serve what perdure keeps.

    Exit codes: 0 fine, 1 something is wrong with the data, 2 cannot run.
    """


for verb in (info, log, verify, repair, snapshot, export, import_, diff, create, copy, serve, follow, demo, replay):
    cli.add_command(verb)


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code. Prints errors; raises none of the tree."""
    _prepare_streams()
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        try:
            result = cli.main(
                None if arguments is None else list(arguments), prog_name="perdure", standalone_mode=False
            )
            return result if isinstance(result, int) else 0
        except (click.Abort, KeyboardInterrupt):
            return INTERRUPTED
        except (_UnreadError, BrokenPipeError):
            _silence_output()
            return NOBODY_READS
        except click.ClickException as error:
            error.show()
            return 2
        except PerdureError as error:
            return _report(error)
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            click.echo(f"perdure: {error.strerror or error}{where}", err=True)
            return 2


def _report(error: PerdureError) -> int:
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    click.echo(f"perdure: {error}", err=True)
    missing_entries = isinstance(error, MissingError) and error.seq is not None
    return 1 if isinstance(error, CorruptError | ReplayError) or missing_entries else 2


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if issubclass(category, PerdureWarning):
        click.echo(f"perdure: note: {message}", err=True)


def _prepare_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        # Text that is not valid Unicode is shown with escapes, which are those of JSON, too.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _silence_output() -> None:
    """The interpreter flushes once more at its end; then there must be somebody who listens."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
