"""``perdure demo``: a wiki that survives ``kill -9``, twice."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import click

import perdure
from perdure.cli._common import console, emit_json, in_bytes, json_option, local_time, print_table
from perdure.clock import to_ns
from perdure.demo._open import open_wiki
from perdure.demo._pages import gather
from perdure.errors import UsageError
from perdure.repair import survey

MARKER = "perdure-demo.txt"
_MARKER_TEXT = "This folder was made by `perdure demo`, which may delete and make it again.\n"
_OWN = re.compile(r"journal-\d{8}.*|snapshot-\d{20}.*|cut|quarantine")
_APP = "perdure.demo.wiki:Wiki"
_THREADS = 16
_EDITED = "json.dumps"


@click.command(short_help="See a plain object survive kill -9.")
@click.option("--dir", "directory", default="perdure-demo", show_default=True, help="Where the wiki lives.")
@click.option("--pages", "page_count", default=4000, show_default=True, type=click.IntRange(min=30), help="How many.")
@json_option
def demo(directory: str, page_count: int, as_json: bool) -> int:
    """See a plain object survive kill -9.

    A child process fills a wiki with the docstrings of Python's standard library and is killed twice on the way. After
    each time the wiki is opened again and compared, page by page, with what had been acknowledged. The folder stays for
    you to look into. Exit code 1: something that was acknowledged is missing.
    """
    path = _make_room(directory)
    show = _Show(as_json)
    show.title("a wiki of the standard library's documentation")
    started = time.monotonic()
    pages = gather(page_count)
    show.line(f"{len(pages):,} pages, read from Python's own sources in {time.monotonic() - started:.1f} s")
    acknowledged: list[str] = []
    runs = []
    for kill_at in (len(pages) // 3, len(pages) // 3, None):
        runs.append(_run(path, pages, acknowledged, kill_at=kill_at))
        show.run(runs[-1])
    travel = _travel(path, pages, show)
    figures = _figures(path)
    missing = sum(run.missing for run in runs)
    if as_json:
        emit_json({"path": path, "pages": len(pages), "missing": missing, "runs": [vars(run) for run in runs],
                   "time_travel": travel, "figures": figures})  # fmt: skip
    else:
        _print_tables(runs, figures)
        _print_end(directory, travel, missing)
    return 1 if missing else 0


# ---- filling and killing


@dataclass
class Run:
    """One life of the child. ``missing``: acknowledged pages that are not there afterwards, or not as they were."""

    killed: bool
    acknowledged: int
    found: int
    missing: int
    replayed: int
    cut_bytes: int
    fill_seconds: float
    open_seconds: float


def _run(path: str, pages: dict[str, str], acknowledged: list[str], *, kill_at: int | None) -> Run:
    """Lets the child fill the wiki, kills it after ``kill_at`` acknowledged pages, and looks at what is left.

    ``acknowledged``: by all children so far; grows.
    """
    command = [sys.executable, "-m", "perdure.demo.filler", path, str(_THREADS)]
    first = len(acknowledged)
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    started = time.monotonic()
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        with child.stdin:
            json.dump(pages, child.stdin)
        with child.stdout:
            for line in child.stdout:
                if len(acknowledged) == first:
                    started = time.monotonic()
                acknowledged.append(line.rstrip("\n"))
                if len(acknowledged) - first == kill_at:
                    child.kill()  # SIGKILL: nothing in the child can react to it.
        seconds = time.monotonic() - started
        code = child.wait()
    except BaseException:
        child.kill()
        child.wait()
        raise
    if kill_at is None and code != 0:
        raise UsageError(f"the child that fills the wiki ended with exit code {code}")
    return _look(path, pages, acknowledged, seconds, killed=kill_at is not None)


def _look(path: str, pages: dict[str, str], acknowledged: list[str], seconds: float, *, killed: bool) -> Run:
    started = time.monotonic()
    wiki = open_wiki(path)
    opened = time.monotonic() - started
    try:
        kept = wiki.pages
        missing = sum(1 for name in acknowledged if name not in kept or kept[name].text != pages[name])
        report = perdure.control(wiki).report
        found = wiki.page_count()
    finally:
        perdure.control(wiki).close()
    return Run(killed, len(acknowledged), found, missing, report.replayed, report.cut_bytes, seconds, opened)


# ---- time travel


def _travel(path: str, pages: dict[str, str], show: _Show) -> dict[str, Any]:
    """Edits a page, and looks at how it was."""
    name = _EDITED if _EDITED in pages else next(iter(pages))
    wiki = open_wiki(path)
    control = perdure.control(wiki)
    try:
        before_seq = control.seq
        wiki.edit_page(name, "Nobody needs this.")
        wiki.edit_page(name, pages[name] + "\n\nAnd it survives kill -9.")
        after_seq = control.seq
        then, now = control.at(before_seq).pages[name], wiki.pages[name]
        middle = control.at(before_seq + 1).pages[name]
        right = then.text == pages[name] and middle.text == "Nobody needs this." and now.version == 3
        control.take_snapshot()
    finally:
        control.close()
    if not right:
        raise UsageError(f"the earlier version of {name} is not what it was")
    result = {"page": name, "before_seq": before_seq, "after_seq": after_seq}
    show.line(f"edited the page {name} twice, and looked back:")
    for seq, page in ((before_seq, then), (before_seq + 1, middle), (after_seq, now)):
        changed = local_time(to_ns(page.changed_at.astimezone()))
        show.line(f"  at seq {seq:,}: version {page.version} of {changed}: {page.text.splitlines()[-1]!r}")
    return result


# ---- showing


class _Show:
    def __init__(self, quiet: bool) -> None:
        self._console = None if quiet else console()

    def title(self, text: str) -> None:
        if self._console is not None:
            self._console.print(f"[bold]perdure {perdure.__version__}[/bold]: {text}")

    def line(self, text: str) -> None:
        if self._console is not None:
            self._console.print(text, markup=False)

    def run(self, run: Run) -> None:
        what = "killed with SIGKILL" if run.killed else "finished"
        verdict = "none is missing" if not run.missing else f"{run.missing:,} ARE MISSING OR CHANGED"
        more = run.found - run.acknowledged
        unheard = f", {more:,} more were journaled and not yet acknowledged" if more else ""
        self.line(
            f"child {what}; opened again in {run.open_seconds:.2f} s: of {run.acknowledged:,} acknowledged pages "
            f"{verdict}{unheard}"
        )


def _figures(path: str) -> dict[str, Any]:
    started = time.monotonic()
    wiki = open_wiki(path, mode="r")
    seconds = time.monotonic() - started
    perdure.control(wiki).close()
    found = survey(path)
    return {
        "journal_bytes": sum(file.size_bytes for file in found.segments),
        "segments": len(found.segments),
        "entries": sum(file.entry_count for file in found.segments),
        "snapshots": len(found.snapshots),
        "snapshot_bytes": found.snapshots[0].size_bytes,
        "open_from_snapshot_seconds": seconds,
    }


def _print_tables(runs: list[Run], figures: dict[str, Any]) -> None:
    print_table(
        None,
        ["life of the child", "#acknowledged", "#found", "#missing", "#pages/s", "#replayed", "#torn tail", "#restore"],
        [
            (
                f"{number}, {'killed' if run.killed else 'finished'}",
                f"{run.acknowledged:,}",
                f"{run.found:,}",
                f"{run.missing:,}",
                f"{_new(runs, number) / run.fill_seconds:,.0f}" if run.fill_seconds else "",
                f"{run.replayed:,}",
                in_bytes(run.cut_bytes),
                f"{run.open_seconds:.2f} s",
            )
            for number, run in enumerate(runs, 1)
        ],
    )
    replayed = runs[-1]
    print_table(
        None,
        ["", "#"],
        [
            ("journal", f"{in_bytes(figures['journal_bytes'])} in {figures['segments']} segments"),
            ("entries", f"{figures['entries']:,}"),
            ("newest snapshot", in_bytes(figures["snapshot_bytes"])),
            ("restore by replaying everything", f"{replayed.replayed:,} commands in {replayed.open_seconds:.2f} s"),
            ("restore from the newest snapshot", f"{figures['open_from_snapshot_seconds']:.2f} s"),
        ],
    )


def _new(runs: list[Run], number: int) -> int:
    return runs[number - 1].acknowledged - (runs[number - 2].acknowledged if number > 1 else 0)


def _print_end(directory: str, travel: dict[str, Any], missing: int) -> None:
    if missing:
        click.secho(f"{missing:,} acknowledged pages are missing: this is a bug, please report it", fg="red", bold=True)
    else:
        click.secho("nothing that was acknowledged is missing", fg="green", bold=True)
    perdure_ = _program()
    before, after = travel["before_seq"], travel["after_seq"]
    click.echo("\nlook into it:")
    click.echo(f"  {perdure_} info {directory}")
    click.echo(f"  {perdure_} log {directory} --after {before - 3}")
    click.echo(f"  {perdure_} diff {directory} {before} {after} {_APP}")
    click.echo(f"  {perdure_} verify {directory} {_APP}")


def _program() -> str:
    """How to call this program again from here."""
    found = shutil.which("perdure")
    own = os.path.abspath(sys.argv[0])
    if found is not None and os.path.abspath(found) == own:
        return "perdure"
    if os.path.basename(own) == "perdure" and os.access(own, os.X_OK):
        return os.path.relpath(own)
    return f"{os.path.basename(sys.executable)} -m perdure"


# ---- the folder


def _make_room(directory: str) -> str:
    """An empty folder with the marker. Deletes nothing but what an earlier demo made.

    Raises:
        UsageError: there is something else in it.
    """
    path = os.path.abspath(directory)
    os.makedirs(path, mode=0o700, exist_ok=True)
    names = os.listdir(path)
    marker = os.path.join(path, MARKER)
    if names:
        foreign = [name for name in names if name != MARKER and not _OWN.fullmatch(name)]
        if MARKER not in names or foreign:
            raise UsageError(
                f"there is something else in the folder: {', '.join(sorted(foreign or names)[:5])}",
                path=path,
                hint="perdure demo --dir ANOTHER",
            )
        for name in names:
            if name == MARKER:
                continue
            whole = os.path.join(path, name)
            if os.path.isdir(whole) and not os.path.islink(whole):
                shutil.rmtree(whole)
            else:
                os.unlink(whole)
    with open(marker, "w", encoding="utf-8") as file:
        file.write(_MARKER_TEXT)
    return path
