"""Files that ``shelve`` wrote: a ``dbm`` of pickles."""

from __future__ import annotations

import dbm
import os
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, cast

from perdure.codecs import Pickle
from perdure.errors import CodecError, MissingError, StorageError
from perdure.mapping._dict import PersistentDict
from perdure.mapping._importers._report import ImportReport, Pair, take_over, text_of


def import_shelve(
    path: str | os.PathLike[str], into: PersistentDict, *, allow: Iterable[str | type] = ()
) -> ImportReport:
    """Puts what a shelf holds into a dict. ``path``: as it was given to ``shelve.open``. ``allow``: as in ``Pickle``.

    Values whose pickles hold classes that are not allowed are passed over and named.

    Raises:
        MissingError: there is no such shelf.
        StorageError: it cannot be read, or needs a dbm library that this Python lacks.
    """
    name = os.fspath(path)
    kind = dbm.whichdb(name)
    if kind is None:
        raise MissingError("there is no such shelf", path=name)
    if kind == "":
        raise StorageError("the file is not one of a dbm that this Python knows", path=name)
    # Which errors these are depends on the libraries that this Python was built with.
    errors: tuple[type[Exception], ...] = (ImportError, *cast(Any, dbm.error))
    try:
        shelf = dbm.open(name, "r")  # noqa: SIM115 (closed below)
    except errors as error:
        raise StorageError(f"the shelf ({kind}) cannot be read: {error}", path=name) from error
    try:
        return take_over(_pairs(shelf, Pickle(allow=tuple(allow))), into)
    except errors as error:
        raise StorageError(f"the shelf ({kind}) cannot be read further: {error}", path=name) from error
    finally:
        shelf.close()


def _pairs(shelf: Any, codec: Pickle) -> Iterator[Pair]:
    for raw in _keys(shelf):
        try:
            key: Any = text_of(raw)
        except CodecError:
            key = raw  # No key of a dict: it is reported like any other.
        yield key, partial(_value, shelf, codec, raw)


def _value(shelf: Any, codec: Pickle, raw: bytes) -> Any:
    return codec.decode(shelf[raw])


def _keys(shelf: Any) -> Iterator[bytes]:
    """One by one where the library can, so that a large shelf's keys need not fit in memory."""
    if not hasattr(shelf, "firstkey"):
        yield from shelf.keys()
        return
    key = shelf.firstkey()
    while key is not None:
        yield key
        key = shelf.nextkey(key)
