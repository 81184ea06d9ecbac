"""Directories that ``diskcache`` wrote: an SQLite file, with large values in files beside it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from perdure.codecs import Pickle
from perdure.errors import CodecError
from perdure.fs import Fs, existing_directory
from perdure.mapping._dict import PersistentDict
from perdure.mapping._importers._report import ImportReport, Pair, take_over
from perdure.mapping._importers._sqlite import reading

_AS_IT_IS, _BYTES, _TEXT, _PICKLE = 1, 2, 3, 4
_QUERY = "SELECT key, raw, expire_time, mode, filename, value FROM Cache ORDER BY rowid"


def import_diskcache(
    directory: str | os.PathLike[str], into: PersistentDict, *, allow: Iterable[str | type] = ()
) -> ImportReport:
    """Puts what a ``Cache``, ``FanoutCache`` or ``Index`` holds into a dict; what has expired is passed over.

    Keys and values whose pickles hold classes that are not allowed (``allow``: as in ``Pickle``) are named.

    Raises:
        MissingError, StorageError: there is no such cache, or it cannot be read.
    """
    root = existing_directory(os.fspath(directory))
    return take_over(_all_pairs(root, Pickle(allow=tuple(allow))), into)


def _all_pairs(root: str, codec: Pickle) -> Iterator[Pair]:
    # A FanoutCache is a directory of caches, named by number.
    shards = sorted(name for name in Fs().names(root) if os.path.isfile(os.path.join(root, name, "cache.db")))
    for folder in [os.path.join(root, name) for name in shards] or [root]:
        with reading(os.path.join(folder, "cache.db")) as connection:
            yield from _pairs(connection, folder, codec)


def _pairs(connection: sqlite3.Connection, folder: str, codec: Pickle) -> Iterator[Pair]:
    now_s = time.time()
    for key, raw, expire_s, mode, filename, value in connection.execute(_QUERY):
        if not raw:
            try:
                key = codec.decode(key)
            except CodecError as error:
                yield key, partial(_refuse, f"the key cannot be read: {error.message}")
                continue
        if expire_s is not None and expire_s < now_s:
            yield key, partial(_refuse, "it has expired")
        else:
            yield key, partial(_value, folder, codec, mode, filename, value)


def _refuse(reason: str) -> Any:
    raise CodecError(reason)


def _value(folder: str, codec: Pickle, mode: int, filename: str | None, value: Any) -> Any:
    if filename is not None:
        path = os.path.normpath(os.path.join(folder, filename))
        if not path.startswith(folder + os.sep):
            raise CodecError(f"its file lies outside the cache: {filename!r}")
        try:
            value = Fs().read_all(path)
        except OSError as error:
            raise CodecError(f"its file cannot be read: {error.strerror}: {filename!r}") from error
    if mode == _PICKLE:
        return codec.decode(value)
    if mode == _TEXT and isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise CodecError(f"its file is not UTF-8: {filename!r}") from error
    return value
