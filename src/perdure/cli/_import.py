"""``perdure import``: a directory from lines of JSON, or from what another library wrote."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from typing import IO, Any

import click
import msgspec

from perdure.cli._app import App, app_argument, load_app
from perdure.cli._common import class_options, directory_argument, emit_json, json_option, note, secret_option
from perdure.cli._exchange import VERSION, untagged
from perdure.cli._import_from import READERS, import_from
from perdure.codecs import Codec
from perdure.errors import CorruptError, ReplayError, UsageError
from perdure.fs import Fs, temporary_name
from perdure.journal import BINARY, SegmentHeader
from perdure.limits import SEGMENT_BYTES_MAX
from perdure.machine import Outcome, collector_off
from perdure.records import COMMAND, OUTCOME, Chain, Entry
from perdure.repair import Comparer, survey, write_segment
from perdure.snapshots import FileSnapshotStore, SnapshotHeader, Writer
from perdure.system import encode_command

Line = dict[str, Any]


@click.command("import", short_help="Make a new directory from what perdure export wrote.")
@directory_argument
@click.argument("file", metavar="FILE")
@app_argument
@class_options
@secret_option
@click.option("--from", "kind", type=click.Choice(list(READERS)), help="What wrote FILE; without it, perdure export.")
@click.option("--table", metavar="NAME", help="With --from sqlitedict: the table, if there are several.")
@click.option(
    "--codec",
    type=click.Choice(["json", "pickle"]),
    default="json",
    help="With --from: of the new dict; pickle for values that JSON does not know.",
)
@json_option
def import_(
    directory: str,
    file: str,
    app: str | None,
    allow: tuple[str, ...],
    renames: dict[str, str],
    secrets: tuple[bytes, ...],
    kind: str | None,
    table: str | None,
    codec: str,
    as_json: bool,
) -> int:
    """Make a new directory from lines of JSON, with the original times and the same log. FILE may be "-".

    With --from: a PersistentDict from a shelf, a sqlitedict or diskcache file, or a folder of tastypy. Pickles in it
    cannot run anything; what cannot be read safely is passed over, named and counted.

    All commands are run once before the directory gets its name: it is there as a whole, with the outcomes that the
    file tells, or not at all. Lines may have been taken out or changed; then the commands are numbered anew.
    """
    target = os.path.abspath(directory)
    if os.path.lexists(target) and not (os.path.isdir(target) and not os.listdir(target)):
        raise UsageError("there is something already; import makes a new directory", path=target)
    if kind is not None:
        return import_from(kind, file, target, codec=codec, allow=allow, table=table, as_json=as_json)
    with click.open_file(file, "r", encoding="utf-8") as opened:
        return _import_lines(target, opened, app, allow, renames, secrets, as_json)


def _import_lines(
    target: str,
    file: IO[str],
    app: str | None,
    allow: tuple[str, ...],
    renames: dict[str, str],
    secrets: tuple[bytes, ...],
    as_json: bool,
) -> int:
    lines = _Lines(file)
    head = lines.head()
    loaded = load_app(
        app,
        {**head["description"], "class": head["class"], "codec": head["codec"]},
        allow=allow,
        renames=renames,
        secrets=secrets,
    )
    fs = Fs()
    work = temporary_name(target)
    fs.make_directory(work)
    try:
        last_seq = _build(work, loaded, lines, fs)
        digest = _run(work, loaded)
        fs.rename_durably(work, target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    if lines.renumbered:
        note("the file is not as it was exported: the commands were numbered anew")
    if as_json:
        emit_json({"path": target, "commands": lines.count, "last_seq": last_seq, "digest": digest})
    else:
        click.echo(f"{target}: {lines.count:,} commands, up to seq {last_seq:,}; digest {digest}")
    return 0


class _Lines:
    """The file, line by line. Raises ``CorruptError`` with the number of a line that does not belong."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._number = 0
        self._held: Line | None = None
        self.count = 0
        self.renumbered = False

    def wrong(self, what: str) -> CorruptError:
        return CorruptError(f"line {self._number}: {what}", path=getattr(self._file, "name", None))

    def _next(self) -> Line | None:
        if self._held is not None:
            held, self._held = self._held, None
            return held
        for text in self._file:
            self._number += 1
            if not text.strip():
                continue
            try:
                line = json.loads(text)
            except ValueError as error:
                raise self.wrong(f"this is not JSON: {error}") from error
            if not isinstance(line, dict):
                raise self.wrong("this is no JSON object")
            return line
        return None

    def head(self) -> Line:
        line = self._next()
        if line is None or line.get("perdure") != "export":
            raise self.wrong("this was not written by perdure export")
        if line.get("version") != VERSION:
            raise UsageError(f"version {line.get('version')} of the export; this perdure reads {VERSION}")
        try:
            self.class_name, self.codec = str(line["class"]), str(line["codec"])
            self.log_id = bytes.fromhex(line["log_id"])
            base = line["base"]
            self.seq, self.at_ns, self.digest = int(base["seq"]), int(base["at_ns"]), bytes.fromhex(base["digest"])
            if len(self.log_id) != 16 or not isinstance(line.setdefault("description", {}), dict):
                raise ValueError("an id or a description of another form")
        except (KeyError, TypeError, ValueError) as error:
            raise self.wrong(f"the head lacks something: {error!r}") from error
        return line

    def state(self, writer: Writer) -> None:
        """Writes the state that follows the head."""
        while (line := self._next()) is not None and "state" in line:
            try:
                writer.write(base64.b64decode(line["state"], validate=True))
            except (ValueError, TypeError) as error:
                raise self.wrong(f"this is no state: {error}") from error
        self._held = line

    def entries(self, codec: Codec) -> Iterator[Entry]:
        """Commands and their outcomes, numbered from the base on."""
        seq, at_ns = self.seq, self.at_ns
        owed: list[Outcome] = []
        while (line := self._next()) is not None and not line.get("end"):
            try:
                wanted, when = int(line["seq"]), max(at_ns, int(line["at_ns"]))
                offset = int(line.get("utc_offset_min", 0))
                payload = self._payload(line, codec)
                status, kind = str(line.get("outcome", "returned")), str(line.get("error", ""))
                client = bytes.fromhex(line.get("client", ""))
                counter = int(line.get("counter", 0))
            except (KeyError, TypeError, ValueError) as error:
                raise self.wrong(f"this is no command: {error!r}") from error
            # Outcomes stand where they stood: behind what was journaled together with their command.
            while owed and (seq + 1 < wanted or when > at_ns):
                seq += 1
                yield _outcome_entry(seq, at_ns, offset, owed.pop(0))
            at_ns = when
            seq += 1
            self.renumbered |= seq != wanted
            yield Entry(seq, at_ns, COMMAND, payload, offset, client, counter)
            self.count += 1
            if status not in ("returned", "unknown"):
                owed.append(Outcome(seq, status, kind))  # type: ignore[arg-type]
        if line is None:
            raise self.wrong("the file ends too early")
        for outcome in owed:
            seq += 1
            yield _outcome_entry(seq, at_ns, 0, outcome)

    def _payload(self, line: Line, codec: Codec) -> bytes:
        if "$call" in line:
            data = base64.b64decode(line["$call"], validate=True)
            codec.decode(data)
            return b"\x00" + data
        args = untagged(line["args"], codec)
        kwargs = untagged(line.get("kwargs", {}), codec)
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise self.wrong("args must be an array and kwargs an object")
        return encode_command(codec, str(line["method"]), tuple(args), kwargs)[0]


def _outcome_entry(seq: int, at_ns: int, offset: int, outcome: Outcome) -> Entry:
    return Entry(seq, at_ns, OUTCOME, msgspec.msgpack.encode(outcome), offset)


def _build(work: str, app: App, lines: _Lines, fs: Fs) -> int:
    """Writes snapshot and segments; the last seq."""
    state = app.blank()
    store = FileSnapshotStore(work, fs=fs, secrets=tuple(app.secrets))
    header = SnapshotHeader(lines.seq, lines.at_ns, lines.log_id, state.description)

    def prove(source: Any) -> bytes:
        with collector_off():
            return state.digest(state.read(source))

    draft = store.write(header, lines.state, lambda: lines.digest, prove)
    store.publish(draft, header)
    chain = Chain(tuple(app.secrets)) if app.secrets else None
    entries = _Counted(lines.entries(state.codec), lines.seq)
    number = 0
    while not entries.ended:
        number += 1
        segment = SegmentHeader(
            number=number,
            base_seq=entries.seq + 1,
            created_ns=lines.at_ns,
            log_id=lines.log_id,
            chain_start=bytes(16) if chain is None else chain.value,
            description=dict(state.description),
        )
        write_segment(fs, BINARY, work, segment, entries.some(SEGMENT_BYTES_MAX), chain)
    return entries.seq


class _Counted:
    """Entries in portions of about so many bytes."""

    def __init__(self, entries: Iterator[Entry], seq: int) -> None:
        self._entries = entries
        self.seq = seq
        self.ended = False

    def some(self, bytes_max: int) -> Iterator[Entry]:
        size_bytes = 0
        while size_bytes < bytes_max:
            entry = next(self._entries, None)
            if entry is None:
                self.ended = True
                return
            self.seq = entry.seq
            size_bytes += len(entry.payload) + 64
            yield entry


def _run(work: str, app: App) -> str:
    """Runs all commands; the digest of the state that they lead to.

    Raises:
        ReplayError: a command came out differently from what the file tells.
    """
    found = survey(work, secrets=app.secrets)
    comparer = Comparer(found, app.blank, secrets=app.secrets)
    for result in comparer.compare():
        if result.verdict == "failed":
            raise ReplayError(f"nothing was imported: {result.problem}", seq=result.seq, hint=result.hint)
    return comparer.digest.hex()
