"""``perdure import --from``: a dict from what another library wrote."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import click

from perdure.cli._common import emit_json
from perdure.codecs import Pickle
from perdure.fs import Fs, temporary_name
from perdure.mapping import (
    ImportReport,
    PersistentDict,
    import_diskcache,
    import_shelve,
    import_sqlitedict,
    import_tastypy,
)

Reader = Callable[[str, PersistentDict, tuple[str, ...], str | None], ImportReport]

READERS: dict[str, Reader] = {
    "shelve": lambda path, into, allow, table: import_shelve(path, into, allow=allow),
    "sqlitedict": lambda path, into, allow, table: import_sqlitedict(path, into, table=table, allow=allow),
    "diskcache": lambda path, into, allow, table: import_diskcache(path, into, allow=allow),
    "tastypy": lambda path, into, allow, table: import_tastypy(path, into),
}
_SHOWN_MAX = 20


def import_from(
    kind: str, source: str, target: str, *, codec: str, allow: tuple[str, ...], table: str | None, as_json: bool
) -> int:
    """Makes a ``PersistentDict`` in ``target``: there as a whole, or not at all. What is passed over is named."""
    fs = Fs()
    work = temporary_name(target)
    try:
        with PersistentDict(work, codec=Pickle(allow=allow) if codec == "pickle" else codec) as pod:
            report = READERS[kind](source, pod, allow, table)
        fs.rename_durably(work, target)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    _tell(report, target, as_json=as_json)
    return 0


def _tell(report: ImportReport, target: str, *, as_json: bool) -> None:
    if as_json:
        skipped: list[dict[str, Any]] = [{"key": each.key, "reason": each.reason} for each in report.skipped]
        emit_json({"path": target, "imported": report.imported, "skipped": report.skipped_count, "reasons": skipped})
        return
    click.echo(f"{os.path.abspath(target)}: {report.imported:,} keys imported, {report.skipped_count:,} passed over")
    for each in report.skipped[:_SHOWN_MAX]:
        click.echo(f"  {each.key}: {each.reason}")
    if report.skipped_count > _SHOWN_MAX:
        click.echo(f"  … and {report.skipped_count - _SHOWN_MAX:,} more; --json names them")
