"""``PersistentDict``: a dict that is there again after a restart."""

from __future__ import annotations

import builtins
import contextlib
import os
import weakref
from collections.abc import (
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    ValuesView,
)
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from perdure.clock import Clock
from perdure.codecs import Codec
from perdure.fs import Fs
from perdure.journal import Durability
from perdure.machine import RecoveryReport
from perdure.mapping._closed import ClosedDict, ClosedOpened
from perdure.mapping._keys import Key
from perdure.mapping._opened import Opened
from perdure.mapping._opening import Mode, join, open_dict, release, release_forgotten
from perdure.mapping._operations import Operation, apply
from perdure.mapping._recorder import Recorder

if TYPE_CHECKING:
    from perdure.mapping._tracker import Tracker

_MISSING = object()


class PersistentDict(MutableMapping[Key, Any]):
    """A dict in memory, in insertion order, of which every change stands in a journal on disk.

    Keys are str, int, and nested tuples of them. With ``codec="json"`` values are plain data; the lists and dicts in
    them come back as ``TrackedList`` and ``TrackedDict``, so that ``pod["a"]["b"].append(4)`` is journaled at once, as
    that one operation. What is put in is copied: a container stored in two places is two containers. With
    ``codec="pickle"`` (restricted), or any other codec, a value is an object of its own; one that was changed in place
    is found and journaled by ``sync()``, by ``close()``, at exit, and after every ``sync_at`` values that were read.

    All handles on one path in one process share one dict, which is open as long as there is one: keep it in a variable
    while you change what came out of it. Any thread may use them. Reading takes no lock and sees each change wholly or
    not at all, but those of a transaction one by one.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        init: Mapping[Key, Any] | Iterable[tuple[Key, Any]] | None = None,
        *,
        mode: Mode = "w",
        codec: str | Codec = "json",
        durability: Durability = "everysec",
        sync_at: int = 1000,
        gzipped: bool = False,
        file_size: int = 1000,
        clone: bool = True,
        clock: Clock | None = None,
        fs: Fs | None = None,
    ) -> None:
        """Opens the dict that lives in the directory ``path``, or makes one with the content ``init``.

        ``mode``: "r" reads beside the process that writes, and follows it. ``durability``: what a change survives when
        the call returns: "everysec", the end of the process, and a second later a power cut; "always", a power cut;
        "never", the end of the process. ``gzipped``: compress snapshots. ``file_size``: begin a new journal file at
        about this many times 64 KiB. ``sync_at``, ``clone``: for other codecs than JSON; ``clone=False`` keeps the
        very object that is stored, not a copy. ``clock``, ``fs``: for tests.

        Raises:
            LockedError: another process has it open for writing.
            CorruptError: a file is damaged, or a line was edited and cannot be read any more; file and line are named.
            UsageError: the path is a file, or holds something else, or is open here with other options.
            CodecError: ``init`` holds what cannot be stored.
        """
        self._join(
            open_dict(
                path,
                init,
                mode=mode,
                codec=codec,
                durability=durability,
                sync_at=sync_at,
                gzipped=gzipped,
                file_size=file_size,
                clone=clone,
                clock=clock,
                fs=fs,
            )
        )

    def _join(self, opened: Opened) -> None:
        self._opened = opened
        self._data: dict[Any, Any] = opened.state.data
        # Also at interpreter exit, be it because of an uncaught exception.
        self._finalizer = weakref.finalize(self, release_forgotten, opened)

    @classmethod
    def _on(cls, opened: Opened, **attributes: Any) -> Self:
        """One more handle on an opened dict."""
        handle = cls.__new__(cls)
        for name, value in attributes.items():
            setattr(handle, name, value)
        join(opened)
        handle._join(opened)
        return handle

    # ---- reading

    def __getitem__(self, key: Key) -> Any:
        return self._data[key]

    def get(self, key: Key, default: Any = None) -> Any:
        return self._data.get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._data

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._data)

    def __reversed__(self) -> Iterator[Key]:
        return reversed(self._data.keys())

    def keys(self) -> KeysView[Key]:
        return self._data.keys()

    def values(self) -> ValuesView[Any]:
        return self._data.values()

    def items(self) -> ItemsView[Key, Any]:
        return self._data.items()

    def copy(self) -> dict[Key, Any]:
        """An ordinary dict with the same keys, and with the same containers as values."""
        return dict(self._data.items())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PersistentDict):
            return self._data == other._data
        return self._data == other if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: Mapping[Key, Any]) -> dict[Key, Any]:
        return {**self.copy(), **other} if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Mapping[Key, Any]) -> dict[Key, Any]:
        return {**other, **self.copy()} if isinstance(other, Mapping) else NotImplemented

    def chunk(self, after: int, count: int) -> list[tuple[Key, Any]]:
        """At most ``count`` pairs from position ``after`` on: for going through a dict without holding it up."""
        keys = list(self._data)[after : after + count]
        return [(key, self._data[key]) for key in keys if key in self._data]

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({self.path!r}, closed)" if self.closed else f"{name}({self.path!r}, {self._data!r})"

    # ---- changing

    def __setitem__(self, key: Key, value: Any) -> None:
        """Raises ``CodecError`` for a key or value that cannot be stored, ``WriteError`` where the disk refuses:
        nothing has changed then.
        """
        self._opened.set(key, value)

    def __delitem__(self, key: Key) -> None:
        self._opened.delete(key)

    def pop(self, key: Key, default: Any = _MISSING) -> Any:
        """Takes a value out; it is an ordinary list, dict or object from then on."""
        with self._opened.lock:
            if default is not _MISSING and key not in self._data:
                return default
            return self._opened.delete(key)

    def popitem(self) -> tuple[Key, Any]:
        """Takes the newest key out. Raises ``KeyError`` where there is none."""
        with self._opened.lock:
            if not self._data:
                raise KeyError("popitem(): dictionary is empty")
            key = next(reversed(self._data))
            return key, self._opened.delete(key)

    def setdefault(self, key: Key, default: Any = None) -> Any:
        with self._opened.lock:
            if key not in self._data:
                self._opened.set(key, default)
            return self._data[key]

    def update(self, *values: Any, **named: Any) -> None:
        """Takes a mapping, pairs, or keywords; all of them are one entry in the journal.

        With a single key that is no mapping, ``pod.update("key")``: saves the value of that key once more.
        """
        if len(values) == 1 and not named and isinstance(values[0], str):
            self._opened.resave(values[0])
        else:
            pairs = (dict(values[0].items()),) if values and isinstance(values[0], PersistentDict) else values
            self._opened.update(dict(*pairs, **named).items())

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]
        self.update(other)
        return self

    def clear(self) -> None:
        self._opened.clear()

    @property
    def set(self) -> Recorder:
        """``pod.set["a"]["b"].append(4)``: operations at any depth."""
        return Recorder(self)

    def apply(self, operation: Operation) -> Any:
        """Makes an operation that is plain data: see ``perdure.mapping.apply``."""
        return apply(self, operation)

    # ---- synchronization

    def sync(self) -> None:
        """Journals what is held, marked or changed in place, and returns when all of it survives a power cut."""
        self._opened.sync()

    def sync_key(self, key: Key) -> None:
        """The same for one key; what is held of others stays held."""
        self._opened.sync_key(key)

    def mark_dirty(self, key: Key) -> None:
        """Has the next ``sync()`` save the whole value of a key. Raises ``KeyError``."""
        self._opened.mark_dirty(key)

    def dirty(self) -> builtins.set[Key]:
        """The keys of which something is not in the journal: held, marked, or an object changed in place."""
        return self._opened.dirty()

    def hold(self) -> None:
        """From here on changes are made in memory only, until ``sync()`` or ``unhold()`` journals them as one entry."""
        self._opened.hold()

    def unhold(self) -> None:
        """Journals what is held, and goes on journaling each change."""
        self._opened.unhold()

    def revert(self) -> None:
        """Takes back everything since ``hold()`` or the last ``sync()`` after it."""
        self._opened.revert()

    def transaction(self) -> AbstractContextManager[Self]:
        """``with pod.transaction():`` all changes in the block become one entry; where it raises, none is made.

        Other threads' changes wait meanwhile; what they read may show the block half done. A transaction within
        another one is part of it, and is taken back by itself where it raises.
        """
        return self._transaction()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Self]:
        with self._opened.transaction():
            yield self

    @contextlib.contextmanager
    def locked(self) -> Iterator[Self]:
        """No other thread changes anything while the block runs."""
        with self._opened.lock:
            yield self

    # ---- about it

    @property
    def path(self) -> str:
        """The directory, absolute."""
        return self._opened.path

    @property
    def closed(self) -> bool:
        return type(self._data) is ClosedDict

    @property
    def report(self) -> RecoveryReport:
        """What opening found."""
        return self._opened.report

    def is_writeable(self) -> bool:
        """Whether it was opened for writing."""
        return self._opened.writeable

    def convert_to_tracker(self, **options: Any) -> Tracker:
        """Makes every value a job: dicts get the fields of one, anything else becomes its ``value``.

        Returns a ``Tracker`` on the same dict; ``options`` are its ``max_tries`` and ``lease_s``.
        """
        from perdure.mapping._tracker import converted

        return converted(self._opened, **options)

    def close(self) -> None:
        """Journals what is held and lets go; the last handle on a path closes its files. Idempotent.

        Afterwards every call raises ``ClosedError``, and containers taken from the dict raise it when they are changed.
        """
        if self._finalizer.detach() is not None:
            opened = self._opened
            self._data = ClosedDict(opened.refusal())
            self._opened = ClosedOpened(opened)  # type: ignore[assignment]
            release(opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
