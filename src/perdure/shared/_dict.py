"""``SharedPersistentDict``: a dict that any number of processes use at once, and that outlives all of them."""

from __future__ import annotations

import builtins
import contextlib
import os
import threading
import weakref
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from types import TracebackType
from typing import Any, Self

from perdure.codecs import Codec, Pickle, get_codec
from perdure.errors import UsageError
from perdure.fs import Fs
from perdure.journal import Durability
from perdure.limits import SHARED_CHUNK_COUNT
from perdure.mapping import Key, Operation, PersistentDict, Recorder, decode_json
from perdure.shared._containers import fetched
from perdure.shared._frames import CALL, CODED, TREE, VALUE, Answer
from perdure.shared._member import Member
from perdure.shared._registry import join, release, release_forgotten
from perdure.shared._served_dict import ServedDict
from perdure.system import encode_command

_MISSING = object()


class SharedPersistentDict(MutableMapping[Key, Any]):
    """A ``PersistentDict`` for many processes at once, found by its directory alone; there is no server to start.

    The first process that opens it owns it and serves the others from a thread. When that one ends, however it does,
    the next call of any other takes the directory over: nothing that was acknowledged is lost, and a call that was
    under way is made once. Handles can be handed to child processes, started by fork, spawn or forkserver.

    Every value is a copy. Lists and dicts in it are ``SharedList`` and ``SharedDict``, whose changing methods change
    the original: ``shared["a"]["b"].append(4)``. ``shared.set["a"]["b"].append(4)`` does the same without fetching
    ``shared["a"]`` first. With another codec than JSON a value that was changed must be stored again.

    Any thread may use it.
    """

    _tracker_options: dict[str, Any]

    def __init__(
        self,
        path: str | os.PathLike[str],
        init: Mapping[Key, Any] | Iterable[tuple[Key, Any]] | None = None,
        *,
        codec: str | Codec = "json",
        durability: Durability = "everysec",
        gzipped: bool = False,
        file_size: int = 1000,
        fs: Fs | None = None,
    ) -> None:
        """The options are those of ``PersistentDict``, and the same in every process. ``init``: used by the process
        that makes the dict.

        Raises:
            LockedError: a process has it open that does not share it.
            UsageError: another process has it open with other options; or the path is a file.
            CorruptError, StorageError: the directory cannot be used; nothing was changed.
        """
        options = {"codec": codec, "durability": durability, "gzipped": gzipped, "file_size": file_size}
        self._begin(path, init, options, {}, fs)
        try:
            len(self)  # Joins, so that what is wrong is said here.
        except BaseException:
            self.close()
            raise

    def _begin(self, path: Any, init: Any, options: dict[str, Any], tracker: dict[str, Any], fs: Fs | None) -> None:
        self._options = options
        self._tracker_options = tracker
        codec = get_codec(options["codec"])
        described = {"kind": "dict", **options, "codec": codec.name}
        self._codec: Codec = codec if isinstance(codec, Pickle) else _PLAIN
        lease_s = tracker.get("lease_s", 0.0)

        def opener(member: Member) -> ServedDict:
            handle = PersistentDict(member.directory, init, fs=fs, **options)
            try:
                return ServedDict(handle, member.description.get("max_tries"), lease_s)
            except BaseException:
                handle.close()
                raise

        if "max_tries" in tracker:
            described["max_tries"] = tracker["max_tries"]
        self._member = join(os.path.abspath(os.fspath(path)), opener, described, self._codec, fs or Fs())
        self._finalizer = weakref.finalize(self, release_forgotten, self._member)

    def __reduce__(self) -> Any:
        return _rejoin, (type(self), self._member.directory, self._options, self._tracker_options)

    # ---- calls

    def _do(self, do: str, *args: Any, **kwargs: Any) -> Any:
        return self._result(self._member.call(CALL, encode_command(self._codec, do, args, kwargs)[0]))

    def _result(self, answer: Answer) -> Any:
        status, found = answer
        if status == VALUE:
            return found
        if status == TREE:
            json, steps, path = found
            return fetched(self, json, steps, self._codec.decode(path)) if path is not None else decode_json(json)
        if status == CODED:
            return self._codec.decode(found)
        raise UsageError(f"an answer of another kind: {status}")

    def change_at(self, path: list[Any], do: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """For the containers: an operation on what a way of steps leads to."""
        return self._do("." + do, path, *args, **kwargs)

    def fetch_at(self, path: list[Any]) -> list[Any]:
        """For the containers: the original, as it is now."""
        body = encode_command(self._codec, "tree", (path,), {})[0]
        return self._member.call(CALL, body)[1]  # type: ignore[no-any-return]

    # ---- reading

    def __getitem__(self, key: Key) -> Any:
        return self._do("__getitem__", key)

    def get(self, key: Key, default: Any = None) -> Any:
        found = self._do("chunk", [key])[0]
        return default if found is None else self._result(found)

    def __contains__(self, key: object) -> bool:
        return bool(self._do("__contains__", key))

    def __len__(self) -> int:
        return int(self._do("__len__"))

    def __iter__(self) -> Iterator[Key]:
        return iter(self._do("keys"))

    def __reversed__(self) -> Iterator[Key]:
        keys: list[Key] = self._do("keys")
        return reversed(keys)

    def _pairs(self) -> Iterator[tuple[Key, Any]]:
        """Fetched a chunk at a time: others go on meanwhile, and a key that they take out is passed over."""
        yield from self._values_of(self._do("keys"))

    def _values_of(self, keys: list[Key]) -> Iterator[tuple[Key, Any]]:
        position = 0
        while position < len(keys):
            asked = keys[position : position + SHARED_CHUNK_COUNT]
            answers = self._do("chunk", asked)
            for key, answer in zip(asked, answers, strict=False):
                if answer is not None:
                    yield key, self._result(answer)
            position += len(answers)

    def keys(self) -> KeysView[Key]:
        return _Keys(self)

    def values(self) -> ValuesView[Any]:
        return _Values(self)

    def items(self) -> ItemsView[Key, Any]:
        return _Items(self)

    def copy(self) -> dict[Key, Any]:
        """An ordinary dict with the same keys."""
        return dict(self._pairs())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SharedPersistentDict) and other._member is self._member:
            return True
        return self.copy() == dict(other.items()) if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: Mapping[Key, Any]) -> dict[Key, Any]:
        return {**self.copy(), **other} if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Mapping[Key, Any]) -> dict[Key, Any]:
        return {**other, **self.copy()} if isinstance(other, Mapping) else NotImplemented

    def __repr__(self) -> str:
        closed = ", closed" if self.closed else ""
        return f"{type(self).__name__}({self.path!r}{closed})"

    # ---- changing

    def __setitem__(self, key: Key, value: Any) -> None:
        """Raises ``CodecError`` for what cannot be stored, ``WriteError`` where the disk refuses: nothing has changed
        then.
        """
        if isinstance(value, Recorder):
            return  # The end of `shared.set[key] += …`.
        self._do("__setitem__", key, value)

    def __delitem__(self, key: Key) -> None:
        self._do("__delitem__", key)

    def pop(self, key: Key, default: Any = _MISSING) -> Any:
        """Takes a value out, for this process alone. Raises ``KeyError`` where there is none."""
        return self._do("pop", key) if default is _MISSING else self._do("pop", key, default)

    def popitem(self) -> tuple[Key, Any]:
        """Takes the newest key out. Raises ``KeyError`` where there is none."""
        key, value = self._do("popitem")
        return key, value

    def setdefault(self, key: Key, default: Any = None) -> Any:
        return self._do("setdefault", key, default)

    def update(self, *values: Any, **named: Any) -> None:
        """Takes a mapping, pairs, or keywords; all of them are one entry in the journal.

        With a single key that is no mapping, ``shared.update("key")``: nothing, as every change is saved.
        """
        if len(values) == 1 and not named and isinstance(values[0], str):
            self._do("sync_key", values[0])
        else:
            self._do("update", dict(*values, **named))

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]
        self.update(other)
        return self

    def clear(self) -> None:
        self._do("clear")

    @property
    def set(self) -> Recorder:
        """``shared.set["a"]["b"].append(4)``: an operation at any depth, in one call, with nothing fetched before.

        ``shared.set["count"] += 1`` counts right, whoever counts meanwhile. ``shared["count"] += 1`` does not.
        """
        return Recorder(self)

    def apply(self, operation: Operation) -> Any:
        """Makes an operation that is plain data: see ``perdure.mapping.apply``."""
        return self._do("apply", dict(operation))

    # ---- several calls as one

    def lock(self) -> None:
        """Keeps everybody else out until ``unlock()``: other processes, and other threads of this one. Reentrant.

        It ends with its holder, however that ends, and outlives the owner. Others wait for the time of a lease (ten
        minutes) at most. Raises ``LockedError`` where somebody else has it for longer.
        """
        self._member.lock()

    def unlock(self) -> None:
        """Raises ``UsageError`` where this thread has not locked it."""
        self._member.unlock()

    @contextlib.contextmanager
    def locked(self) -> Iterator[Self]:
        """``with shared.locked():`` nobody else reads or changes anything while the block runs."""
        self.lock()
        try:
            yield self
        finally:
            self.unlock()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Self]:
        """``with shared.transaction():`` all changes in the block become one entry; where it raises, none is made.

        Everybody else waits meanwhile. Raises ``WriteError`` where the owner ends in the middle: none was made then.
        """
        self._member.begin()
        try:
            yield self
        except BaseException:
            self._member.roll_back()
            raise
        else:
            self._member.commit()

    def hold(self) -> None:
        """From here on this thread's changes are one transaction, until ``unhold()``, ``sync()`` or ``revert()``.

        Everybody else waits meanwhile.
        """
        if not self._is_holding:
            self._member.begin()
            _holding.handles = {*getattr(_holding, "handles", ()), id(self._member)}

    @property
    def _is_holding(self) -> bool:
        return id(self._member) in getattr(_holding, "handles", ())

    def _end_hold(self) -> bool:
        held = self._is_holding
        if held:
            _holding.handles = _holding.handles - {id(self._member)}
        return held

    def unhold(self) -> None:
        """Makes what was held, as one entry."""
        if self._end_hold():
            self._member.commit()
        self._do("sync")

    def revert(self) -> None:
        """Takes back everything since ``hold()`` or the last ``sync()`` after it, and goes on holding."""
        if self._end_hold():
            self._member.roll_back()
            self.hold()

    # ---- synchronization

    def sync(self) -> None:
        """Returns when every change that was acknowledged, or is held, survives a power cut."""
        held = self._end_hold()
        if held:
            self._member.commit()
        self._do("sync")
        if held:
            self.hold()

    def sync_key(self, key: Key) -> None:
        """The same: every change is in the journal as soon as it is acknowledged."""
        self._do("sync_key", key)

    def mark_dirty(self, key: Key) -> None:
        """Has the next ``sync()`` save the whole value of a key. Raises ``KeyError``."""
        self._do("mark_dirty", key)

    def dirty(self) -> builtins.set[Key]:
        """The keys of which something is not in the journal: held, or marked."""
        return builtins.set(self._do("dirty"))

    # ---- about it

    @property
    def path(self) -> str:
        """The directory, absolute."""
        return self._member.directory

    @property
    def closed(self) -> bool:
        return not self._finalizer.alive

    @property
    def is_owner(self) -> bool:
        """Whether this process serves the others at the moment."""
        return self._member.is_owner

    def is_writeable(self) -> bool:
        """It is."""
        return True

    def convert_to_tracker(self, max_tries: int = 0, **options: Any) -> Any:
        """Makes every value a job, and returns a ``SharedTracker``. See ``PersistentDict.convert_to_tracker``."""
        from perdure.shared._tracker import SharedTracker

        tracker = SharedTracker(self.path, max_tries, **self._options, **options)
        self._do("convert", max_tries)
        return tracker

    def close(self) -> None:
        """Lets go. The last handle of a process on a path leaves: should it be the owner, another one takes over.
        Idempotent. Afterwards every call raises ``ClosedError``.
        """
        if self._finalizer.detach() is not None:
            member = self._member
            self._member = _Closed(member)  # type: ignore[assignment]
            release(member)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Closed:
    """In the place of the member of a handle that was closed."""

    is_owner = False

    def __init__(self, member: Member) -> None:
        self.directory = member.directory
        self._error = member.refusal()

    def _refuse(self, *_: Any) -> Any:
        raise type(self._error)(self._error.message, path=self.directory, hint=self._error.hint)

    call = lock = unlock = begin = commit = roll_back = _refuse


class _Keys(KeysView[Key]):
    """Fetched at once, when they are gone through."""


class _Values(ValuesView[Any]):
    """Fetched a chunk at a time."""

    _mapping: SharedPersistentDict

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping._pairs())


class _Items(ItemsView[Key, Any]):
    """Fetched a chunk at a time."""

    _mapping: SharedPersistentDict

    def __iter__(self) -> Iterator[tuple[Key, Any]]:
        return self._mapping._pairs()


_PLAIN = Pickle()
_holding = threading.local()


def _rejoin(cls: type[Any], path: str, options: dict[str, Any], tracker: dict[str, Any]) -> Any:
    """A handle in the process that it was handed to. It joins at its first call."""
    handle = object.__new__(cls)
    handle._begin(path, None, options, tracker, None)
    return handle
