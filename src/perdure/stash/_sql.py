"""Items in a table of a SQL database."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

from perdure.errors import UsageError
from perdure.extras import needed_module, without_password
from perdure.fs import Fs
from perdure.stash._base import check_name
from perdure.stash._names import as_bytes, encode, read
from perdure.stash._remote import RemoteStash, remote_error

KEY_CHARACTERS_MAX = 200
BATCH = 500
BUSY_S = 30
_MARK = "%filled"  # No form of a name: a percent sign is followed by two hexadecimal digits or a tilde.
_TABLE_NAME = re.compile(r"[a-z_][a-z0-9_]{0,50}")
Result = TypeVar("Result")


@dataclass(eq=False)
class SqlStash(RemoteStash):
    """Items in a table, through SQLAlchemy: PostgreSQL, SQLite, MySQL and whatever else it speaks to.

    An item is durable when ``dump`` returns, as far as the database keeps its promise; SQLite is told to
    (``synchronous=EXTRA``). Any number of processes may share the table.

    ``url``: as SQLAlchemy writes it, ``postgresql+psycopg://user@host/database`` or ``sqlite:///file.db``. ``table``:
    made where it is missing. ``options``: for ``sqlalchemy.create_engine``.
    """

    url: str = field(repr=False)
    table: str = "perdure_stash"
    options: Mapping[str, Any] = field(default_factory=dict, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        if not _TABLE_NAME.fullmatch(self.table):
            raise UsageError(f"table={self.table!r}", hint="lower-case letters, digits and underscores, at most 51")
        super().__post_init__()

    # ---- the connection ----------------------------------------------------------------------------------------------

    def _connect(self) -> _Database:
        sqlalchemy = needed_module("sqlalchemy", "sql")
        database = _Database(sqlalchemy, self.url, self.table, dict(self.options))
        try:
            self._at_border(database, "opening the table", database.make_table)
        except BaseException:
            database.engine.dispose()
            raise
        return database

    def _disconnect(self, connection: _Database) -> None:
        connection.engine.dispose()

    @property
    def reaches_workers(self) -> bool:
        """Yes, but for SQLite in memory."""
        url = needed_module("sqlalchemy", "sql").engine.make_url(self.url)
        return not (url.get_backend_name() == "sqlite" and _is_in_memory(url.database))

    def _run(self, what: str, work: Callable[[_Database, Any], Result], *, writes: bool = False) -> Result:
        """``work`` in one transaction. A connection that broke since its last use is replaced by a new one, once."""
        database: _Database = self._connection

        def once() -> Result:
            with database.turn, database.engine.begin() as transaction:
                return work(database, transaction)

        return self._at_border(database, what, once, writes=writes)

    def _at_border(self, database: _Database, what: str, work: Callable[[], Result], *, writes: bool = False) -> Result:
        errors = database.sqlalchemy.exc
        where = without_password(self.url)
        for attempt in range(2):
            try:
                return work()
            except errors.DBAPIError as error:
                # Every transaction here may be repeated, put_if_absent aside, which then says "not stored".
                if error.connection_invalidated and attempt == 0:
                    continue
                raise remote_error(_kind_of(errors, error, writes), what, where, error.orig or error) from error
            except errors.SQLAlchemyError as error:
                raise remote_error("rejected", what, where, error) from error
        raise AssertionError("unreachable")

    # ---- items -------------------------------------------------------------------------------------------------------

    def load(self, name: str) -> Any:
        """The value; ``None`` where there is none."""
        return SqlStash.get(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or ``default``."""
        data = self._run(f"loading {name!r}", lambda db, on: db.value(on, _key(name)))
        return default if data is None else self._decode(name, data, without_password(self.url))

    def get_many(self, names: Iterable[str]) -> dict[str, Any]:
        """What there is of ``names``, some hundreds per request."""
        by_key = {_key(name): name for name in names}
        keys = list(by_key)
        found: dict[str, Any] = {}
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            rows = self._run("loading items", lambda db, on, batch=batch: db.values(on, batch))  # type: ignore[misc]
            for key, data in rows:
                name = by_key[key]
                found[name] = self._decode(name, data, without_password(self.url))
        return found

    def exists(self, name: str) -> bool:
        """Whether the table has it."""
        return self._run(f"looking for {name!r}", lambda db, on: db.has(on, _key(name)))

    def dump(self, name: str, value: Any) -> None:
        """Store it; see ``Stash.dump``.

        Raises:
            UnreachableError, RejectedError, UnauthorizedError: it was not stored.
            OutcomeUnknownError: nobody knows whether it was; storing it again is harmless.
        """
        row = self._row(name, value)
        self._run(f"storing {name!r}", lambda db, on: db.upsert(on, [row]), writes=True)

    def set_many(self, items: Mapping[str, Any]) -> None:
        """Store all of them, some hundreds per transaction."""
        rows = [self._row(name, value) for name, value in items.items()]
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            self._run("storing items", lambda db, on, batch=batch: db.upsert(on, batch), writes=True)  # type: ignore[misc]

    def put_if_absent(self, name: str, value: Any) -> bool:
        """Store it unless there is an item of that name; whether it was stored. Of many processes one wins."""
        row = self._row(name, value)
        return self._run(f"storing {name!r}", lambda db, on: db.insert_if_absent(on, row), writes=True)

    def _row(self, name: str, value: Any) -> dict[str, Any]:
        return {"key": _key(name), "name": as_bytes(name), "value": self._encode(name, value)}

    def delete(self, name: str | None = None) -> None:
        """Forget it, or all."""
        if name is None:
            self.clear()
        else:
            self._run(f"deleting {name!r}", lambda db, on: db.delete(on, _key(name)), writes=True)

    def clear(self) -> None:
        """Forget all. The table stays."""
        self._run("clearing", lambda db, on: db.delete(on, None), writes=True)

    def keys(self) -> Iterator[str]:
        """The names as they are now, in the order of their forms."""
        rows = self._run("listing the names", lambda db, on: db.names(on))
        return iter([read(bytes(name), without_password(self.url)) for name in rows])

    def __len__(self) -> int:
        return self._run("counting", lambda db, on: db.count(on))

    def fill_mark(self) -> str | None:
        """See ``Stash.fill_mark``; a row of its own."""
        data = self._run("asking for the mark", lambda db, on: db.value(on, _MARK))
        return None if data is None else bytes(data).decode("utf-8", "replace")

    def set_fill_mark(self, text: str | None) -> None:
        """See ``Stash.set_fill_mark``; a row of its own."""
        if text is None:
            self._run("deleting the mark", lambda db, on: db.delete(on, _MARK), writes=True)
        else:
            row = {"key": _MARK, "name": b"", "value": text.encode()}
            self._run("setting the mark", lambda db, on: db.upsert(on, [row]), writes=True)


def _key(name: str) -> str:
    # The form of a file's name: short, ASCII and lower-case, so that no database's collation folds two names into one.
    return encode(check_name(name), KEY_CHARACTERS_MAX)


def _kind_of(errors: Any, error: Any, writes: bool) -> str:
    said = str(error.orig)
    if "password" in said or "authentication" in said:
        return "unauthorized"
    if not isinstance(error, errors.OperationalError | errors.InterfaceError):
        return "rejected"
    if "readonly" in said or "read-only" in said or "full" in said:
        return "rejected"
    begun = error.connection_invalidated or "locked" in said
    return "unknown" if writes and begun and "locked" not in said else "unreachable"


class _Database:
    """The engine, the table, and the statements."""

    def __init__(self, sqlalchemy: Any, url: str, table: str, options: dict[str, Any]) -> None:
        self.sqlalchemy = sqlalchemy
        parsed = sqlalchemy.engine.make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.turn: AbstractContextManager[Any] = nullcontext()
        # Asks whether a pooled connection is alive before using it: the server may have been restarted.
        options.setdefault("pool_pre_ping", True)
        if self.is_sqlite:
            options.setdefault("connect_args", {"timeout": BUSY_S})
            if _is_in_memory(parsed.database):
                # One connection is the whole database, so the threads take turns.
                self.turn = threading.RLock()
                options.setdefault("poolclass", sqlalchemy.pool.StaticPool)
                options["connect_args"] = {**options["connect_args"], "check_same_thread": False}
            else:
                _make_private(parsed.database)
        self.engine = sqlalchemy.create_engine(url, **options)
        if self.is_sqlite:
            sqlalchemy.event.listen(self.engine, "connect", _make_durable)
        self.table = sqlalchemy.Table(
            table,
            sqlalchemy.MetaData(),
            sqlalchemy.Column("key", sqlalchemy.String(KEY_CHARACTERS_MAX), primary_key=True),
            sqlalchemy.Column("name", sqlalchemy.LargeBinary, nullable=False),
            sqlalchemy.Column("value", sqlalchemy.LargeBinary, nullable=False),
        )

    def make_table(self) -> None:
        try:
            self.table.create(self.engine, checkfirst=True)
        except self.sqlalchemy.exc.DBAPIError:
            # Another process made it between the question and the answer.
            self.table.create(self.engine, checkfirst=True)

    def _insert(self) -> Any:
        if self.engine.dialect.name in ("postgresql", "sqlite"):
            dialect: Any = needed_module(f"sqlalchemy.dialects.{self.engine.dialect.name}", "sql")
            return dialect.insert(self.table)
        return None

    def value(self, on: Any, key: str) -> bytes | None:
        columns = self.table.c
        row = on.execute(self.sqlalchemy.select(columns.value).where(columns.key == key)).first()
        return None if row is None else bytes(row[0])

    def values(self, on: Any, keys: Sequence[str]) -> list[tuple[str, bytes]]:
        columns = self.table.c
        rows = on.execute(self.sqlalchemy.select(columns.key, columns.value).where(columns.key.in_(keys)))
        return [(key, bytes(value)) for key, value in rows]

    def has(self, on: Any, key: str) -> bool:
        columns = self.table.c
        return on.execute(self.sqlalchemy.select(columns.key).where(columns.key == key)).first() is not None

    def names(self, on: Any) -> list[bytes]:
        columns = self.table.c
        rows = on.execute(self.sqlalchemy.select(columns.name).where(columns.key != _MARK).order_by(columns.key))
        return [row[0] for row in rows]

    def count(self, on: Any) -> int:
        columns, func = self.table.c, self.sqlalchemy.func
        return int(on.execute(self.sqlalchemy.select(func.count()).where(columns.key != _MARK)).scalar())

    def upsert(self, on: Any, rows: list[dict[str, Any]]) -> None:
        insert = self._insert()
        if insert is not None:
            new = insert.excluded
            on.execute(
                insert.on_conflict_do_update(index_elements=["key"], set_={"name": new.name, "value": new.value}), rows
            )
            return
        for row in rows:
            on.execute(self.table.delete().where(self.table.c.key == row["key"]))
            on.execute(self.table.insert(), row)

    def insert_if_absent(self, on: Any, row: dict[str, Any]) -> bool:
        insert = self._insert()
        if insert is not None:
            # Without RETURNING there is no telling: the count of rows is -1 with some drivers.
            statement = insert.on_conflict_do_nothing(index_elements=["key"]).returning(self.table.c.key)
            return on.execute(statement, row).first() is not None
        if self.has(on, row["key"]):
            return False
        try:
            with on.begin_nested():
                on.execute(self.table.insert(), row)
        except self.sqlalchemy.exc.IntegrityError:
            return False
        return True

    def delete(self, on: Any, key: str | None) -> None:
        statement = self.table.delete()
        on.execute(statement if key is None else statement.where(self.table.c.key == key))


def _is_in_memory(database: str | None) -> bool:
    return database in (None, "", ":memory:")


def _make_private(path: str) -> None:
    """An empty file is an empty SQLite database; made here it is nobody else's to read."""
    fs = Fs()
    absolute = os.path.abspath(path)
    fs.make_directory(os.path.dirname(absolute))
    try:
        fs.close(fs.create(absolute))
    except FileExistsError:
        return


def _make_durable(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # FULL, the default, does not sync the directory after deleting the rollback journal, and a power cut can then
    # take the last transaction back; EXTRA does.
    cursor.execute("PRAGMA synchronous=EXTRA")
    cursor.close()
