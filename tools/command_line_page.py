"""Writes what the verbs say of themselves into ``docs/reference/command-line.md``; a test looks whether it is there."""

from __future__ import annotations

import inspect
from pathlib import Path

import click

from perdure.cli._main import cli

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "command-line.md"
BEGIN = "<!-- The verbs, written by tools/command_line_page.py: -->\n"
END = "<!-- End of the verbs. -->\n"


def page(text: str) -> str:
    """The page with its verbs as they are today."""
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n{verbs()}\n{END}{tail}"


def verbs() -> str:
    """A section for each verb that ``perdure --help`` shows."""
    context = click.Context(cli, info_name="perdure")
    shown = [(name, cli.get_command(context, name)) for name in cli.list_commands(context)]
    return "\n".join(_section(name, verb, context) for name, verb in shown if verb is not None and not verb.hidden)


def _section(name: str, verb: click.Command, parent: click.Context) -> str:
    context = click.Context(verb, info_name=name, parent=parent)
    usage = " ".join(verb.collect_usage_pieces(context))
    parts = [f"### perdure {name}", f"`perdure {name} {usage}`".replace("[OPTIONS] ", ""), _prose(verb.help or "")]
    records = [
        record
        for parameter in verb.get_params(context)
        if isinstance(parameter, click.Option) and "--help" not in parameter.opts
        if (record := parameter.get_help_record(context)) is not None
    ]
    if records:
        rows = "\n".join(f"| `{option}` | {_cell(text)} |" for option, text in records)
        parts.append(f"| option | |\n|---|---|\n{rows}")
    return "\n\n".join(parts) + "\n"


def _prose(text: str) -> str:
    return inspect.cleandoc(text).replace("\b\n", "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
