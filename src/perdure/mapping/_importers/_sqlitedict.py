"""Files that ``sqlitedict`` wrote: a table of keys and pickles."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import msgspec

from perdure.codecs import Pickle
from perdure.errors import CodecError, UsageError
from perdure.mapping._dict import PersistentDict
from perdure.mapping._importers._report import ImportReport, Pair, take_over
from perdure.mapping._importers._sqlite import reading


def import_sqlitedict(
    path: str | os.PathLike[str],
    into: PersistentDict,
    *,
    table: str | None = None,
    allow: Iterable[str | type] = (),
) -> ImportReport:
    """Puts what a ``SqliteDict`` holds into a dict. ``table``: which one, if there are several.

    Values are pickles, or JSON where it was used with ``encode=json.dumps``. Those whose pickles hold classes that are
    not allowed (``allow``: as in ``Pickle``) are passed over and named.

    Raises:
        MissingError, StorageError: there is no such file, or it cannot be read.
        UsageError: there are several tables, or none; the message names them.
    """
    name = os.fspath(path)
    with reading(name) as connection:
        found = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table' ORDER BY 1")]
        found = [each for each in found if not each.startswith("sqlite_")]
        chosen = table or (found[0] if len(found) == 1 else None)
        if chosen is None or chosen not in found:
            raise UsageError(f"which table? There are {found}", path=name, hint="say it with table=")
        return take_over(_pairs(connection, chosen, Pickle(allow=tuple(allow))), into)


def _pairs(connection: sqlite3.Connection, table: str, codec: Pickle) -> Iterator[Pair]:
    quoted = table.replace('"', '""')
    for key, value in connection.execute(f'SELECT key, value FROM "{quoted}" ORDER BY rowid'):
        yield key, partial(_value, value, codec)


def _value(stored: Any, codec: Pickle) -> Any:
    if not isinstance(stored, str):
        return codec.decode(stored) if isinstance(stored, bytes) else stored
    try:
        return msgspec.json.decode(stored)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise CodecError(f"the value is neither a pickle nor JSON: {error}") from error
