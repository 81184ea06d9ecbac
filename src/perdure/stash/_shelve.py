"""Items in a shelf of the standard library."""

from __future__ import annotations

import dbm
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from perdure.errors import LockedError, StorageError
from perdure.fs import Fs, closing_on_error
from perdure.missing import MISSING
from perdure.stash._base import check_name
from perdure.stash._closeable import CloseableStash
from perdure.stash._coded import CodedStash, package_of_caller
from perdure.stash._disk import writing
from perdure.stash._names import as_bytes, read

LOCK_WAIT_S = 10.0
"""How long one process waits for another to close the shelf."""
_MARK = b"\x00perdure-filled"


@dataclass(eq=False)
class ShelveStash(CodedStash, CloseableStash):
    """Items in a DBM database, as ``shelve`` keeps them: with the default codec ``shelve.open`` reads the same file.

    A shelf is not made for crashes: a power cut in the middle of a write can cost the file. Use ``LogStash`` or
    ``DirectoryStash`` for what must not be lost.

    ``path``: without the suffix that some DBM libraries add. ``writeback``: keep the objects that were loaded, and
    write them all when closing, so that changes made in place are not lost; with ``auto_close=False`` or a ``with``
    block. ``auto_close``: open the file for each call and close it behind it, so that nothing is left open and other
    processes get their turn.
    """

    path: Path
    writeback: bool = False
    auto_close: bool = True

    _transient: ClassVar[frozenset[str]] = CodedStash._transient | {"_db", "_lock", "_lock_fd", "_kept", "_blocks"}

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        super().__post_init__()

    def _reset(self) -> None:
        super()._reset()
        self._db: Any = None
        self._kept: dict[str, Any] = {}
        self._lock = threading.RLock()
        self._blocks = 0
        self._lock_fd = -1

    # ---- opening and closing -----------------------------------------------------------------------------------------

    @contextmanager
    def _shelf(self) -> Iterator[Any]:
        """The open database, for one call."""
        with self._lock:
            self._open()
            try:
                with self._dbm_errors():
                    yield self._db
            finally:
                if self.auto_close and not self._blocks:
                    self.close()
                elif type(self._db).__module__ == "dbm.sqlite3":
                    # Bound to the thread that opened it; the turn is kept.
                    self._close_database()

    def _open(self) -> None:
        if self._lock_fd < 0:
            self._lock_fd = self._take_turn()
        if self._db is None:
            try:
                self._db = dbm.open(str(self.path), "c", 0o600)  # noqa: SIM115
            except dbm.error as error:
                self._end_turn()
                raise StorageError(f"the shelf cannot be opened: {error}", path=self.path) from error

    def _close_database(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with self._dbm_errors():
                db.close()

    def _take_turn(self) -> int:
        fs = Fs()
        with writing(self.path):
            fs.make_directory(str(self.path.parent))
            # Some DBM libraries do not lock their files. Never deleted: another process may be waiting for it.
            fd = fs.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
        with closing_on_error(fs, fd):
            self._wait_for_turn(fs, fd)
        return fd

    def _end_turn(self) -> None:
        fd, self._lock_fd = self._lock_fd, -1
        if fd >= 0:
            Fs().close(fd)

    def _wait_for_turn(self, fs: Fs, fd: int) -> None:
        deadline_s = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fs.lock(fd)
                return
            except BlockingIOError as error:
                if time.monotonic() > deadline_s:
                    raise LockedError(
                        "another process has the shelf open", path=self.path, hint="close it there, or wait"
                    ) from error
                time.sleep(0.005)

    @contextmanager
    def _dbm_errors(self) -> Iterator[None]:
        try:
            yield
        except (*dbm.error, OSError) as error:
            raise StorageError(f"the shelf refused: {error}", path=self.path) from error

    def __enter__(self) -> ShelveStash:
        with self._lock:
            self._blocks += 1
            try:
                with self._shelf():
                    return self
            except BaseException:
                self._blocks -= 1
                raise

    def __exit__(self, *details: object) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                self.close()

    def close(self) -> None:
        """Write what was kept for ``writeback``, and close the file. The next call opens it again."""
        with self._lock:
            try:
                if self._kept:
                    self._open()
                    with self._dbm_errors():
                        for name, value in self._kept.items():
                            self._db[as_bytes(name)] = self._encode(name, value)
            finally:
                self._kept.clear()
                try:
                    self._close_database()
                finally:
                    self._end_turn()

    # ---- items -------------------------------------------------------------------------------------------------------

    def load(self, name: str) -> Any:
        """The value; ``None`` where there is none."""
        return ShelveStash.get(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or ``default``."""
        with self._shelf() as db:
            if name in self._kept:
                return self._kept[name]
            try:
                data = db[as_bytes(check_name(name))]
            except KeyError:
                return default
            value = self._decode(name, data, str(self.path))
            if self.writeback:
                self._kept[name] = value
            return value

    def exists(self, name: str) -> bool:
        """Whether the shelf has it."""
        with self._shelf() as db:
            return as_bytes(check_name(name)) in db

    def dump(self, name: str, value: Any) -> None:
        """Store it. Durable as far as the DBM library goes."""
        data = self._encode(check_name(name), value)
        with self._shelf() as db:
            db[as_bytes(name)] = data
            self._kept.pop(name, None)
            if self.writeback:
                self._kept[name] = value

    def delete(self, name: str | None = None) -> None:
        """Forget it, or all."""
        if name is None:
            self.clear()
            return
        with self._shelf() as db:
            self._kept.pop(check_name(name), None)
            with suppress(KeyError):
                del db[as_bytes(name)]

    def clear(self) -> None:
        """Forget all. The file stays."""
        with self._shelf() as db:
            self._kept.clear()
            for key in [_MARK, *db.keys()]:
                with suppress(KeyError):
                    del db[key]

    def keys(self) -> Iterator[str]:
        """The names as they are now, in no particular order."""
        with self._shelf() as db:
            keys = db.keys()
            return iter([read(key, str(self.path)) for key in keys if key != _MARK])

    def fill_mark(self) -> str | None:
        """See ``Stash.fill_mark``; kept in the shelf."""
        with self._shelf() as db:
            mark = db.get(_MARK, MISSING)
            return None if mark is MISSING or mark is None else bytes(mark).decode("utf-8", "replace")

    def set_fill_mark(self, text: str | None) -> None:
        """See ``Stash.set_fill_mark``; kept in the shelf."""
        with self._shelf() as db:
            if text is not None:
                db[_MARK] = text.encode()
            else:
                with suppress(KeyError):
                    del db[_MARK]


@contextmanager
def shelve(path: Path | str, writeback: bool = False, **fields: Any) -> Iterator[ShelveStash]:
    """A ``ShelveStash`` that is open for a ``with`` block and closed, whatever happens, behind it.

    ``fields``: further fields of ``ShelveStash``, such as ``codec`` and ``allow``.
    """
    fields.setdefault("package", package_of_caller())
    stash = ShelveStash(Path(path), writeback, auto_close=False, **fields)
    try:
        with stash:
            yield stash
    finally:
        stash.close()
