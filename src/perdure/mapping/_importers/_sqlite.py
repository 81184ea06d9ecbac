"""Reading other libraries' SQLite files."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from perdure.errors import MissingError, StorageError


@contextmanager
def reading(path: str) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing.

    Raises:
        MissingError: there is no such file.
        StorageError: it is no SQLite file, or is damaged, or lacks what is asked for.
    """
    if not os.path.isfile(path):
        raise MissingError("there is no such file", path=path)
    connection = sqlite3.connect(f"file:{quote(os.path.abspath(path))}?mode=ro", uri=True)
    try:
        yield connection
    except sqlite3.Error as error:
        raise StorageError(f"the SQLite file cannot be read: {error}", path=path) from error
    finally:
        connection.close()
