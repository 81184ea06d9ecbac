"""``perdure repair``: setting a damaged directory right."""

from __future__ import annotations

import dataclasses
import sys

import click

from perdure.cli._common import directory_argument, emit_json, json_option, secret_option
from perdure.errors import CorruptError, UsageError
from perdure.repair import RepairReport, diagnose, plan, survey
from perdure.repair import repair as repair_directory


@click.command(short_help="Repair a damaged directory; nothing is thrown away.")
@directory_argument
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done. Exit code 1: there is something to do.")
@secret_option
@json_option
def repair(directory: str, yes: bool, dry_run: bool, secrets: tuple[bytes, ...], as_json: bool) -> int:
    """Repair a damaged directory, so that it opens and verifies again.

    Everything that is taken away is kept in a folder below quarantine/, with a report of what was done and why. Entries
    behind a damaged one cannot be replayed unless a newer snapshot covers it; how many are lost is said before anything
    is done. Takes the directory's lock. A repair that was interrupted can be repeated.
    """
    diagnosis = diagnose(survey(directory, secrets=secrets), secrets=secrets)
    remedy = diagnosis.remedy
    report = plan(diagnosis)
    if remedy.impossible is not None:
        raise CorruptError(f"it cannot be repaired: {remedy.impossible}", path=diagnosis.survey.path)
    if not as_json:
        _print_plan(report, needed=remedy.is_needed)
    if not remedy.is_needed or dry_run:
        if as_json:
            emit_json({**dataclasses.asdict(report), "state": "planned" if remedy.is_needed else report.state})
        return 1 if remedy.is_needed else 0
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise UsageError("nobody can be asked here", hint="add --yes, after a look at --dry-run")
        if not click.confirm("do this?", err=True):
            click.echo("nothing was done")
            return 2
    report = repair_directory(directory, secrets=secrets, expected=remedy)
    if as_json:
        emit_json(dataclasses.asdict(report))
    else:
        click.echo(f"done; what was taken away lies in {report.folder}")
    return 0


def _print_plan(report: RepairReport, *, needed: bool) -> None:
    if not needed:
        click.echo(f"{report.path}: nothing to repair")
        return
    click.echo(f"{report.path}:")
    for problem in report.problems:
        click.echo(f"  wrong: {problem}")
    for name, end in report.cut.items():
        click.echo(f"  {name}: its first {end:,} bytes stay, the whole of it goes to the quarantine folder")
    if report.written_anew:
        first, last = report.written_anew
        click.echo(f"  entries {first:,} to {last:,} are good and are written anew, in a segment of their own")
    for name, why in report.moved.items():
        click.echo(f"  {name} goes to the quarantine folder: {why}")
    if report.lost_count:
        click.echo(
            f"  LOST: {_entries(report.lost_count)} ({_span(report)}) cannot be replayed; "
            "their bytes are kept in the quarantine folder"
        )
    else:
        click.echo("  no entry is lost")


def _entries(count: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}"


def _span(report: RepairReport) -> str:
    if report.lost_first == report.lost_last:
        return f"seq {report.lost_first:,}"
    return f"seq {report.lost_first:,} to {report.lost_last:,}"
