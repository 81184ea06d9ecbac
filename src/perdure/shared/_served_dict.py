"""A dict, or a list of jobs, as its owner serves it to other processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from perdure.codecs import Codec
from perdure.errors import ReplayError, UsageError
from perdure.limits import SHARED_CHUNK_BYTES, SHARED_CHUNK_COUNT
from perdure.mapping import (
    OPERATIONS_IN_PLACE,
    OPERATIONS_OF_DICTS,
    OPERATIONS_OF_LISTS,
    Key,
    PersistentDict,
    Request,
    Tracker,
    apply,
    decode_json,
    encode_json,
    path_of,
    resolve,
    steps_of,
)
from perdure.mapping import TrackedDict as _Dict
from perdure.mapping import TrackedList as _List
from perdure.shared._frames import CODED, TREE, VALUE, Answer
from perdure.shared._session import DONE
from perdure.system import decode_command

_PLAIN = frozenset({type(None), bool, float, str, bytes})
_INT_BITS = 63

# What a call of the dict itself may ask for. By what it leaves in the journal: nothing; one entry, and no answer; one
# entry with the answer in it.
_READING = frozenset(
    "__contains__ __len__ done tries aborted should_do counts failures dirty sync sync_key mark_dirty".split()
)
_CHANGING = frozenset(
    "__setitem__ __delitem__ clear update add add_many mark_done mark_not_done increment_tries decrement_tries "
    "reset_tries abort unabort release fail".split()
)
_ANSWERING = frozenset(
    "pop popitem add_if_absent add_many_if_absent should_do_add should_try_add claim heartbeat retry_failed".split()
)
_JOB_SELECTIONS = frozenset("todo_keys aborted_keys".split())
_SILENT = frozenset(
    "append extend insert remove sort reverse clear update __setitem__ __delitem__".split()
) | frozenset(OPERATIONS_IN_PLACE)
"""Of a container: one entry, and no answer that matters."""


class ServedDict:
    """See ``Served``. The codec of what goes over is pickle, restricted to what the dict itself may hold."""

    def __init__(self, handle: PersistentDict, max_tries: int | None, lease_s: float) -> None:
        self._handle = handle
        self._opened = handle._opened
        self._state = handle._opened.state
        self._tracker: Tracker | None = None
        self._lease_s = lease_s
        self.codec: Codec = self._state.answers
        self.lock: Any = _LockOf(handle)
        self._special: dict[str, Callable[..., Answer]] = {
            "__getitem__": self._get,
            "get": self._get_or,
            "setdefault": self._set_default,
            "keys": self._keys,
            "chunk": self._chunk,
            "tree": self._tree,
            "apply": self._apply,
            "convert": self._convert,
            "try": self._try,
        }
        if max_tries is not None:
            self._become_tracker(max_tries)

    def check(self, description: dict[str, Any]) -> None:
        """See ``Served.check``."""
        own = {"kind": "dict", **self._opened.options}
        for name, value in description.items():
            if name == "max_tries":
                self._become_tracker(value)
            elif own.get(name, value) != value:
                raise UsageError(
                    f"the process that has it open has it with {name}={own[name]!r}, not {value!r}",
                    path=self._opened.path,
                    hint="give the same options in every process",
                )

    def _become_tracker(self, max_tries: int) -> None:
        with self._opened.lock:
            if self._tracker is None:
                self._tracker = Tracker.on(self._handle, max_tries=max_tries, lease_s=self._lease_s)
            elif self._tracker.max_tries != max_tries:
                raise UsageError(
                    f"the process that has it open has it with max_tries={self._tracker.max_tries}",
                    path=self._opened.path,
                )

    @property
    def _target(self) -> PersistentDict:
        return self._handle if self._tracker is None else self._tracker

    @property
    def _receipts(self) -> Any:
        return self._opened.machine.receipts  # type: ignore[union-attr]

    # ---- calls

    def call(self, kind: int, client: bytes, counter: int, body: bytes) -> Answer:
        """See ``Served.call``."""
        do, args, kwargs = decode_command(self.codec, body)
        target = self._target
        if do in _CHANGING:
            # As in `_requested`, written out: the usual call.
            opened = self._opened
            with opened.lock:
                if self._receipts.has_run(client, counter):
                    self._first_answer(client, counter)
                    return DONE
                opened.request = Request(client, counter)
                try:
                    getattr(target, do)(*args, **kwargs)
                finally:
                    opened.request = None
            return DONE
        if do in _READING:
            return self._value(getattr(target, do)(*args, **kwargs))
        special = self._special.get(do)
        if special is not None:
            return special(client, counter, *args)
        if do in ("pop", "should_try") or (do == "claim" and (args == (1,) or not args)):
            return self._told(client, counter, lambda: getattr(target, do)(*args, **kwargs))
        if do in _ANSWERING:
            return self._answered(client, counter, lambda: getattr(target, do)(*args, **kwargs))
        if do in _JOB_SELECTIONS:
            with self._opened.lock:
                return self._value(list(getattr(target, do)(**kwargs)))
        if do.startswith("."):
            return self._at(client, counter, do[1:], args, kwargs)
        raise UsageError(f"no operation {do!r}", path=self._opened.path)

    @contextmanager
    def _requested(self, client: bytes, counter: int) -> Iterator[Request | None]:
        """The change within the block is this request's; ``None``: it has been made before."""
        opened = self._opened
        with opened.lock:
            if self._receipts.has_run(client, counter):
                self._first_answer(client, counter)
                yield None
                return
            opened.request = Request(client, counter)
            try:
                yield opened.request
            finally:
                opened.request = None

    def has_run(self, client: bytes, counter: int) -> bool:
        """See ``Served.has_run``."""
        with self._opened.lock:
            return bool(self._receipts.has_run(client, counter))

    def _first_answer(self, client: bytes, counter: int) -> Any:
        result, error = self._receipts.answer(client, counter, self.codec)
        if error is not None:
            raise error
        return result

    def _told(self, client: bytes, counter: int, operation: Callable[[], Any]) -> Answer:
        """An operation of one change that tells its answer before."""
        with self._requested(client, counter) as request:
            if request is None:
                return self._value(self._first_answer(client, counter))
            request.wants_answer = True
            return self._value(operation())

    def _answered(self, client: bytes, counter: int, operation: Callable[[], Any], made: bool = False) -> Answer:
        """An operation whose answer must be in the journal together with its change. ``made``: also where that is a
        container of the dict's own.
        """
        opened = self._opened
        with self._requested(client, counter) as request:
            if request is None:
                return self._value(self._first_answer(client, counter))
            # Within a transaction of the caller's own the answer need not be kept: that ends with this owner.
            with opened.transaction():
                result = operation()
                answer = self._value(result)
                if answer[0] != TREE:
                    request.answer = result
                elif made or answer[1][2] is None:
                    request.answer = decode_json(answer[1][0])
        return answer

    def _at(self, client: bytes, counter: int, do: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer:
        """An operation of a container, by the steps that lead to it."""
        path, *rest = args
        if do in _SILENT:
            with self._requested(client, counter) as request:
                if request is not None:
                    getattr(self._container(path, do), do)(*rest, **kwargs)
            return DONE
        made = do == "setdefault"
        return self._answered(client, counter, lambda: getattr(self._container(path, do), do)(*rest, **kwargs), made)

    def _container(self, path: Any, do: str) -> Any:
        try:
            found = resolve(self._state, list(path))
        except (ReplayError, AttributeError) as error:
            raise KeyError(f"nothing is at {list(path)!r} any more") from error
        allowed = OPERATIONS_OF_LISTS if isinstance(found, _List) else OPERATIONS_OF_DICTS
        if do not in allowed:
            raise UsageError(f"no operation {do!r} on a {type(found).__name__}", path=self._opened.path)
        return found

    # ---- reading

    def _value(self, value: Any) -> Answer:
        kind = type(value)
        if kind in _PLAIN or (kind is int and value.bit_length() <= _INT_BITS):
            return VALUE, value
        if isinstance(value, (_List, _Dict)):
            path = path_of(value)
            coded_path = None if path is None else self.codec.encode(path)
            return TREE, [encode_json(value), steps_of(value), coded_path]
        return CODED, self.codec.encode(value)

    def _get(self, client: bytes, counter: int, key: Key) -> Answer:
        with self._opened.lock:
            return self._value(dict.__getitem__(self._state.data, key))

    def _get_or(self, client: bytes, counter: int, key: Key, default: Any = None) -> Answer:
        with self._opened.lock:
            return self._value(dict.get(self._state.data, key, default))

    def _set_default(self, client: bytes, counter: int, key: Key, default: Any = None) -> Answer:
        target = self._target
        with self._requested(client, counter) as request:
            if request is not None:
                target.setdefault(key, default)
            return self._value(dict.__getitem__(self._state.data, key))

    def _keys(self, client: bytes, counter: int) -> Answer:
        with self._opened.lock:
            return CODED, self.codec.encode(list(self._state.data))

    def _tree(self, client: bytes, counter: int, path: Any) -> Answer:
        """A container anew, by the steps that lead to it."""
        with self._opened.lock:
            return self._value(self._container(path, "copy"))

    def _chunk(self, client: bytes, counter: int, keys: list[Key]) -> Answer:
        """The values of keys, in order, ``None`` for one that is gone: as many as go into one message."""
        values: list[Answer | None] = []
        size = 0
        with self._opened.lock:
            for key in keys[:SHARED_CHUNK_COUNT]:
                value = dict.get(self._state.data, key, _GONE)
                if value is _GONE:
                    values.append(None)
                    continue
                answer = self._value(value)
                values.append(answer)
                size += len(answer[1][0]) if answer[0] == TREE else len(answer[1]) if answer[0] == CODED else 16
                if size > SHARED_CHUNK_BYTES:
                    break
        return VALUE, values

    def _apply(self, client: bytes, counter: int, operation: Any) -> Answer:
        if operation.get("do") in _SILENT:
            with self._requested(client, counter) as request:
                if request is not None:
                    apply(self._target, operation)
            return DONE
        return self._answered(client, counter, lambda: apply(self._target, operation))

    def _convert(self, client: bytes, counter: int, max_tries: int) -> Answer:
        with self._requested(client, counter) as request:
            if request is not None:
                self._handle.convert_to_tracker(max_tries=max_tries).close()
        return DONE

    def _try(self, client: bytes, counter: int, key: Key, allow_aborted: bool) -> Answer:
        """Counts a try, and tells the job; ``None`` where it should not be done. Only a try that counts is kept."""
        tracker = self._tracker
        with self._requested(client, counter) as request:
            if request is not None and (tracker is None or tracker._try(key, allow_aborted) is None):
                return VALUE, None
            return self._value(dict.get(self._state.data, key))

    # ---- transactions

    def begin(self) -> Any:
        """See ``Served.begin``."""
        transaction = self._opened.transaction()
        transaction.__enter__()
        return transaction

    def commit(self, transaction: Any, client: bytes, counter: int) -> None:
        """See ``Served.commit``."""
        self._opened.request = Request(client, counter)
        try:
            transaction.__exit__(None, None, None)
        finally:
            self._opened.request = None

    def roll_back(self, transaction: Any) -> None:
        """See ``Served.roll_back``."""
        error = _RolledBackError()
        transaction.__exit__(_RolledBackError, error, None)

    def close(self, *, snapshot: bool | None = None) -> None:
        """See ``Served.close``."""
        if self._tracker is not None:
            self._tracker.close()
        self._handle.close()


_GONE = object()


class _RolledBackError(Exception):
    """Leads a transaction out of its block, and goes no further."""


class _LockOf:
    """The lock of an opened dict, which a fork replaces."""

    def __init__(self, handle: PersistentDict) -> None:
        self._opened = handle._opened

    def acquire(self) -> None:
        self._opened.lock.acquire()

    def release(self) -> None:
        self._opened.lock.release()
