"""``perdure create`` and ``perdure copy``: systems on engines come to be by one of these, never by opening."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import click

from perdure.cli._app import App, app_argument, load_app
from perdure.cli._common import class_options, codec_option, secret_option
from perdure.cluster import Beginning, ClusterOptions, create_system, open_node, peek
from perdure.engines import REQUIREMENTS, is_engine_url, parse_url
from perdure.errors import LockedError, UsageError
from perdure.fs import Fs, temporary_name
from perdure.journal import BINARY, SegmentHeader
from perdure.repair import survey, write_segment
from perdure.snapshots import FileSnapshotStore, SnapshotHeader
from perdure.system import system_of

snapshots_option = click.option(
    "--snapshots",
    metavar="PLACE",
    help="Where to keep snapshots, if not in the engine: a URL for fsspec, s3://bucket/…",
)


@click.command(short_help="Create a system on an engine.")
@click.argument("url", metavar="URL")
@app_argument
@codec_option
@click.option(
    "--require", type=click.Choice(REQUIREMENTS), help="Refuse the engine unless it is proven to promise this."
)
@snapshots_option
@class_options
def create(
    url: str,
    app: str | None,
    codec: str,
    require: str | None,
    snapshots: str | None,
    allow: tuple[str, ...],
    renames: Mapping[str, str],
) -> int:
    """Create a system on an engine: nats://host:4222/name or postgresql://host/database?system=name.

    The initial state is what app:Wiki makes. Opening does not create systems, so that one that has vanished is noticed.
    """
    if app is None:
        raise UsageError("say what it holds", hint=f"perdure create {url} app:Wiki")
    parsed = parse_url(url)
    made = load_app(app, {"codec": codec}, allow=allow, renames=renames)
    state = made.blank()
    state.take_over(made.cls())
    options = ClusterOptions(require=require, snapshots=snapshots)
    create_system(parsed, state, options)
    with peek(parsed, snapshots=snapshots) as found:
        click.echo(f"{parsed.shown}: made; {found.log.capabilities.server}: {found.log.capabilities.durability}")
    return 0


@click.command(short_help="Copy a system between directories and engines.")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@app_argument
@snapshots_option
@secret_option
@class_options
def copy(
    source: str,
    target: str,
    app: str | None,
    snapshots: str | None,
    secrets: tuple[bytes, ...],
    allow: tuple[str, ...],
    renames: Mapping[str, str],
) -> int:
    """Copy a system from a directory to an engine, from an engine to a directory, or from engine to engine.

    The copy has the same state, seq, log id, time and memory of requests; commands behind it are numbered on. The
    history stays where it is. The target must not be there yet; a source directory must not be open for writing.
    """
    options: dict[str, Any] = {"allow": allow, "renames": renames}
    if is_engine_url(source):
        seq = _from_engine(source, target, app, snapshots, options)
    elif is_engine_url(target):
        seq = _from_directory(source, target, app, snapshots, options, secrets)
    else:
        raise UsageError("neither of these is on an engine", hint="to copy a directory: cp -a, while it is closed")
    shown = parse_url(target).shown if is_engine_url(target) else target
    click.echo(f"{shown}: a copy of seq {seq:,}")
    return 0


def _from_directory(
    source: str,
    target: str,
    spec: str | None,
    snapshots: str | None,
    options: Mapping[str, Any],
    secrets: Sequence[bytes],
) -> int:
    description = survey(source, secrets=tuple(secrets), deep=False).description
    app: App = load_app(spec, description, secrets=secrets, **options)
    system = system_of(app.open(source))
    try:
        machine = system.machine
        assert machine is not None
        with machine.paused():
            beginning = Beginning(
                machine.journal.log_id, machine.seq, machine.journal.last_at_ns, machine.receipts.dump()
            )
            create_system(parse_url(target), system.state, ClusterOptions(snapshots=snapshots), beginning)
        return beginning.seq
    finally:
        system.close()


def _from_engine(source: str, target: str, spec: str | None, snapshots: str | None, options: Mapping[str, Any]) -> int:
    parsed = parse_url(source)
    with peek(parsed, snapshots=snapshots) as found:
        app = load_app(spec, found.description, **options)
    state = app.blank()
    node, _ = open_node(parsed, state, app.cls, ClusterOptions(snapshots=snapshots))
    try:
        node.barrier()
        with node.order:
            beginning = Beginning(node.log.log_id, node.seq, node.last_at_ns, node.receipts.dump())
            if is_engine_url(target):
                create_system(parse_url(target), state, ClusterOptions(snapshots=snapshots), beginning)
            else:
                _to_directory(target, state, beginning)
        return beginning.seq
    finally:
        node.close()


def _to_directory(target: str, state: Any, beginning: Beginning) -> None:
    """A snapshot, and an empty segment behind it; the directory has its name once both are durable, or not at all."""
    fs = Fs()
    target = os.path.abspath(target)
    if fs.exists(target) and fs.names(target):
        raise LockedError("there is something in it", path=target)
    work = temporary_name(target)
    fs.make_directory(work)
    try:
        store = FileSnapshotStore(work, fs=fs)
        fields = beginning.seq, beginning.at_ns, beginning.log_id, state.description, beginning.receipts
        header = SnapshotHeader(*fields)
        draft = store.write(header, state.dump, state.digest, lambda file: state.digest(state.read(file)))
        store.publish(draft, header)
        segment = SegmentHeader(
            1, beginning.seq + 1, beginning.at_ns, beginning.log_id, description=dict(state.description)
        )
        write_segment(fs, BINARY, work, segment, (), None)
        fs.rename_durably(work, target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
