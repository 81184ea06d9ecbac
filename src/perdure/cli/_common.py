"""Options, output and figures that the verbs share."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from perdure.clock import from_ns
from perdure.errors import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])

directory_argument = click.argument("directory", metavar="DIR", type=click.Path(file_okay=True))
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs to read.")

codec_option = click.option(
    "--codec",
    type=click.Choice(("pickle", "json", "msgpack")),
    default="pickle",
    show_default=True,
    help="The codec that the data is stored with (codec=).",
)
durability_option = click.option(
    "--durability",
    type=click.Choice(("always", "everysec", "never")),
    default="always",
    show_default=True,
    help="How durable a command is when it is answered (durability=).",
)


def secret_option(function: Function) -> Function:
    """``--secret-file``, which arrives as ``secrets``: the keys in it."""
    return click.option(
        "--secret-file",
        "secrets",
        type=click.Path(exists=True, dir_okay=False),
        callback=_read_secrets,
        help="A file with the keys of secret=, one per line, the newest first.",
    )(function)


def class_options(function: Function) -> Function:
    """What concerns the user's classes: ``allow``, a tuple of names, and ``renames``, a dict."""
    function = click.option(
        "--rename",
        "renames",
        multiple=True,
        metavar="OLD=NEW",
        callback=_read_renames,
        help="A class or method that has moved (renames=): old.module.Class=new.module.Class.",
    )(function)
    return click.option(
        "--allow",
        multiple=True,
        metavar="PKG",
        help="A further package or class that the stored data may contain (allow=).",
    )(function)


def _read_renames(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for value in values:
        old, sign, new = value.partition("=")
        if not sign or not old or not new:
            raise click.BadParameter(f"{value!r} is not OLD=NEW")
        found[old] = new
    return found


class Secrets(tuple[bytes, ...]):
    """The keys, and the file that they came from."""

    path: str | None = None


def _read_secrets(_: click.Context, __: click.Parameter, value: str | None) -> Secrets:
    if value is None:
        return Secrets()
    with click.open_file(value, "rb") as file:
        keys = Secrets(line.rstrip(b"\r\n") for line in file if line.rstrip(b"\r\n"))
    keys.path = value
    if not keys:
        raise UsageError("the file holds no key", path=value)
    return keys


# ---- output


def emit_json(value: Any, *, indent: int | None = 2) -> None:
    """One JSON document, or with ``indent=None`` one line."""
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False, default=str) + "\n")


def note(text: str) -> None:
    """Something for people, beside the output."""
    click.echo(f"note: {text}", err=True)


def print_table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table; columns whose names begin with ``#`` are numbers. Nothing where there are no rows."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=_box())
    for column in columns:
        table.add_column(column.removeprefix("#"), justify="right" if column.startswith("#") else "left")
    empty = True
    for row in rows:
        empty = False
        # Text, because names and messages may hold square brackets, which rich would take for markup.
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    if not empty:
        console().print(table)


def _box() -> Any:
    from rich import box

    return box.SIMPLE_HEAD


def console() -> Any:
    """A rich console on standard output that lets a broken pipe through."""
    from rich.console import Console

    class Passing(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Passing(highlight=False, width=None if sys.stdout.isatty() else 160)


# ---- figures


def in_bytes(count: int) -> str:
    """``12.3 KiB``."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{count} bytes" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.2f} GiB"


def local_time(at_ns: int) -> str:
    """To the millisecond, in the zone of whoever looks."""
    return from_ns(at_ns).astimezone().isoformat(" ", "milliseconds") if at_ns else "–"


def utc_time(at_ns: int) -> str | None:
    """ISO 8601 in UTC, for machines."""
    return from_ns(at_ns).astimezone(datetime.UTC).isoformat().replace("+00:00", "Z") if at_ns else None
