"""Items in a journal: values on disk, where they are in memory."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from perdure.errors import ClosedError
from perdure.fs import Fs, check_private
from perdure.journal import Durability
from perdure.limits import MIB
from perdure.missing import MISSING
from perdure.stash._base import check_name
from perdure.stash._closeable import CloseableStash
from perdure.stash._coded import CodedStash
from perdure.stash._disk import writing
from perdure.stash._log_file import CLEAR, DELETE, MARK, PUT, Change, LogFile, Place
from perdure.stash._log_group import Batch


@dataclass(eq=False)
class LogStash(CodedStash, CloseableStash):
    """Items at the end of one growing file instead of a file each: for many small items, written often.

    Names and places are held in memory, about 200 bytes an item; values stay on disk. One process at a time has it open
    (``LockedError`` for any other); its threads share it, and those that dump at the same moment share one sync.
    When more than half of the files is outdated, what counts is copied and the rest deleted (``compact``).

    ``path``: the directory. ``durability``: "always": synced before ``dump`` returns; "everysec": handed to the
    operating system at once, synced each second; "never": handed to the operating system at once. ``codec``: see
    ``CodedStash``. It is opened at the first use and has to be closed: use ``with``.
    """

    path: Path
    durability: Durability = field(default="always", kw_only=True)
    segment_bytes_max: int = field(default=16 * MIB, kw_only=True, repr=False)
    compact_bytes_min: int = field(default=16 * MIB, kw_only=True, repr=False)
    fs: Fs | None = field(default=None, kw_only=True, repr=False)

    _transient: ClassVar[frozenset[str]] = CodedStash._transient | {
        "_file", "_index", "_pending", "_live_bytes", "_lock", "_mark", "_closed", "_pid",
    }  # fmt: skip

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        super().__post_init__()

    def _reset(self) -> None:
        super()._reset()
        self._lock = threading.RLock()
        self._file: LogFile | None = None
        self._index: dict[str, Place] = {}
        self._pending: deque[tuple[Change, Place]] = deque()
        self._live_bytes = 0
        self._mark: str | None = None
        self._closed = False
        self._pid = os.getpid()

    # ---- opening and closing -----------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the files now rather than at the first use.

        Raises:
            LockedError: somebody has it open.
            CorruptError, MissingError, FormatVersionError: see ``FileJournal``. Nothing was changed.
        """
        self._opened()

    def _opened(self) -> LogFile:
        file = self._file
        if file is not None and self._pid == os.getpid():
            return file
        with self._lock:
            if self._pid != os.getpid():
                raise ClosedError("this process was forked from the one that has the log open", path=self.path)
            if self._closed:
                raise ClosedError("the stash is closed", path=self.path, hint="make a new LogStash")
            if self._file is None:
                self._file = self._open_file()
            return self._file

    def _open_file(self) -> LogFile:
        fs = self.fs or Fs()
        with writing(self.path):
            fs.make_directory(str(self.path))
            check_private(fs, str(self.path))
        file = LogFile(
            fs, str(self.path), lock=self._lock, durability=self.durability, segment_bytes_max=self.segment_bytes_max
        )
        try:
            for change, place in file.changes():
                self._apply(change, place)
        except BaseException:
            self._index.clear()
            file.close()
            raise
        return file

    def _apply(self, change: Change, place: Place) -> None:
        if change.kind == PUT:
            old = self._index.get(change.name)
            self._index[change.name] = place
            self._live_bytes += place.size - (old.size if old is not None else 0)
        elif change.kind == DELETE:
            old = self._index.pop(change.name, None)
            self._live_bytes -= old.size if old is not None else 0
        elif change.kind == CLEAR:
            self._index.clear()
            self._live_bytes = 0
            self._mark = None
        else:
            self._mark = change.name or None

    def close(self) -> None:
        """Make everything durable and let go. Idempotent; afterwards calls raise ``ClosedError``."""
        with self._lock:
            file, self._file = self._file, None
            self._closed = True
            self._index = {}
        if file is not None:
            file.close()

    # ---- reading -----------------------------------------------------------------------------------------------------

    def load(self, name: str) -> Any:
        """The value; ``None`` where there is none."""
        return LogStash.get(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or ``default``.

        Raises:
            CorruptError: its bytes are damaged.
        """
        file = self._opened()
        with self._lock:
            # Under the lock, so that no compaction deletes the file in between.
            place = self._index.get(check_name(name))
            if place is None:
                return default
            data = file.read(place, name)
        return self._decode(name, data, str(self.path))

    def exists(self, name: str) -> bool:
        """Whether there is an item of that name."""
        self._opened()
        return check_name(name) in self._index

    def keys(self) -> Iterator[str]:
        """The names as they are now, in the order in which they came."""
        self._opened()
        with self._lock:
            return iter(tuple(self._index))

    def __len__(self) -> int:
        self._opened()
        return len(self._index)

    def _stamp(self, name: str) -> object:
        self._opened()
        place = self._index.get(name)
        return MISSING if place is None else place.seq

    # ---- writing -----------------------------------------------------------------------------------------------------

    def dump(self, name: str, value: Any) -> None:
        """Store it; see ``Stash.dump``. After a sync that failed the stash refuses further changes: open a new one."""
        self._change([Change(PUT, check_name(name), self._encode(name, value))])

    def set_many(self, items: Mapping[str, Any]) -> None:
        """Store all of them with one sync. After a crash a beginning of them may be there."""
        changes = [Change(PUT, check_name(name), self._encode(name, value)) for name, value in items.items()]
        if changes:
            self._change(changes)

    def put_if_absent(self, name: str, value: Any) -> bool:
        """Store it unless there is an item of that name; whether it was stored. Of many threads one wins."""
        data = self._encode(check_name(name), value)
        file = self._opened()
        with self._lock:
            if self._pending:
                # Another thread's item may be on its way to the disk.
                self._apply_durable(file.sync())
            if name in self._index:
                return False
            change = self._append([Change(PUT, name, data)])
        self._settle(change)
        return True

    def delete(self, name: str | None = None) -> None:
        """Forget it, or all."""
        if name is None:
            self.clear()
        elif self.exists(name):
            self._change([Change(DELETE, name)])

    def clear(self) -> None:
        """Forget all, and delete what held it."""
        self._change([Change(CLEAR)])
        self.compact()

    def fill_mark(self) -> str | None:
        """See ``Stash.fill_mark``; kept in the log."""
        self._opened()
        return self._mark

    def set_fill_mark(self, text: str | None) -> None:
        """See ``Stash.set_fill_mark``; kept in the log, durable when this returns."""
        if text != self.fill_mark():
            self._change([Change(MARK, text or "")])
            self._opened().sync()

    def _change(self, changes: list[Change]) -> None:
        self._opened()
        with self._lock:
            appended = self._append(changes)
        # Outside the lock: those who append meanwhile share the next sync.
        self._settle(appended)

    def _append(self, changes: list[Change]) -> tuple[LogFile, int, Batch, bool]:
        file = self._opened()
        places = file.append(changes)
        self._pending.extend(zip(changes, places, strict=True))
        return file, places[-1].seq, *file.join()

    def _settle(self, appended: tuple[LogFile, int, Batch, bool]) -> None:
        file, seq, batch, leads = appended
        durable_seq = file.wait(batch, leads, seq) if self.durability == "always" else seq
        with self._lock:
            self._apply_durable(durable_seq)
            if file.size_bytes > max(self.compact_bytes_min, 2 * self._live_bytes):
                self.compact()

    def _apply_durable(self, durable_seq: int) -> None:
        """Show what is durable in the mode promised, in the order of the log, whoever's it is."""
        while self._pending and self._pending[0][1].seq <= durable_seq:
            self._apply(*self._pending.popleft())

    def compact(self) -> None:
        """Copy what counts to the end and delete what lies before. Other calls wait meanwhile."""
        file = self._opened()
        with self._lock:
            self._apply_durable(file.sync())
            self._index = file.compact(self._index, self._mark)
