"""Blobs as rows, in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from perdure.engines._postgres_connection import PostgresConnection
from perdure.errors import MissingError
from perdure.limits import GIB, MIB

_PART_BYTES = 1 * MIB


class PostgresBlobs:
    """See ``Blobs``."""

    bytes_max = 1 * GIB

    def __init__(self, connection: PostgresConnection, system: str) -> None:
        self._connection = connection
        self._system = system

    def put(self, key: str, chunks: Iterable[bytes]) -> None:
        """See ``Blobs.put``: one transaction."""
        content = b"".join(chunks)
        parts = [content[start : start + _PART_BYTES] for start in range(0, len(content), _PART_BYTES)] or [b""]
        with self._connection.using() as server, server.transaction(), server.cursor() as cursor:
            # Of two who store under one name the second replaces what the first has stored.
            cursor.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"{self._system}/{key}",))
            cursor.execute("delete from perdure_blob where system = %s and key = %s", (self._system, key))
            cursor.executemany(
                "insert into perdure_blob values (%s, %s, %s, %s, %s)",
                [(self._system, key, number, len(parts), part) for number, part in enumerate(parts)],
            )

    def get(self, key: str) -> Iterator[bytes]:
        """See ``Blobs.get``."""
        number, count = 0, 1
        while number < count:
            with self._connection.using() as server:
                row = server.execute(
                    "select parts, data from perdure_blob where system = %s and key = %s and part = %s",
                    (self._system, key, number),
                    binary=True,
                ).fetchone()
            if row is None:
                raise MissingError("there is no such blob", path=key)
            count = int(row[0])
            yield bytes(row[1])
            number += 1

    def keys(self, prefix: str) -> list[str]:
        """See ``Blobs.keys``."""
        with self._connection.using() as server:
            rows = server.execute(
                "select key from perdure_blob where system = %s and part = 0 and starts_with(key, %s) order by key",
                (self._system, prefix),
            ).fetchall()
        return sorted(str(key) for (key,) in rows)

    def delete(self, key: str) -> None:
        """See ``Blobs.delete``."""
        with self._connection.using() as server:
            server.execute("delete from perdure_blob where system = %s and key = %s", (self._system, key))

    def close(self) -> None:
        """See ``Blobs.close``: the connection is the log's."""
