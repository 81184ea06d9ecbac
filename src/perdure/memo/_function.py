"""A function whose results are kept, and how one of them is found or made."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, Generic, Literal, NamedTuple, ParamSpec, Self, TypeVar, overload

from perdure.clock import Clock
from perdure.codecs import Codec
from perdure.errors import CodecError
from perdure.homes import MAIN, home_of
from perdure.memo._arguments import Arguments
from perdure.memo._arrays import is_mappable
from perdure.memo._code import code_digest
from perdure.memo._entry import Entry, Kind
from perdure.memo._front import Front, Kept, is_immutable
from perdure.memo._keys import SCALARS, key_of, key_of_scalars
from perdure.memo._store import Stamp, Store
from perdure.memo._turns import Turns
from perdure.memo._warnings import warn
from perdure.missing import MISSING, Missing

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

OnCodeChange = Literal["warn", "recompute", "ignore"]
_are_scalars = SCALARS.issuperset
_monotonic_s = time.monotonic


class MemoInfo(NamedTuple):
    """``hits`` and ``misses``: of this process. ``entries`` and ``size_bytes``: on disk, whoever wrote them."""

    hits: int
    misses: int
    entries: int
    size_bytes: int
    directory: str


class Settings(NamedTuple):
    """What ``memo`` was told; see there."""

    key: Callable[..., Any] | Literal["instance"] | None
    version: object
    on_code_change: OnCodeChange
    expire_s: float | None
    exceptions: tuple[type[Exception], ...]
    codec: Codec
    map_bytes_min: int | None
    clock: Clock


Found = tuple[Any, bool]
"""A stored outcome: a result, or the exception that was raised instead; and whether it is that."""


class Memo(Generic[P, R]):
    """A function whose results are kept; what ``@memo`` makes. Called like the function itself. Any thread may call."""

    def __init__(self, function: Callable[P, R], settings: Settings, store: Store) -> None:
        functools.update_wrapper(self, function)
        self.__wrapped__ = function
        self._function = function
        self._settings = settings
        self._store = store
        self._front = Front()
        self._known = self._front.get_plain
        self._arguments = Arguments(function)
        self._name = function_name(function)
        self._prefix = self._name.encode() + b"\0" + repr(settings.version).encode("utf-8", "surrogatepass") + b"\0"
        self._is_method = is_method(function, self._arguments.first)
        # With so many arguments, all scalars, the key is that of the arguments as they are.
        self._count_plain = -1 if self._is_method or settings.key is not None else self._arguments.count_plain
        self._turns = Turns(f"the result of {function.__qualname__}")
        self._code: bytes | None = None
        self._has_warned_of_code = False
        self._hits = 0
        self._misses = 0

    # ---- asking

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result for these arguments: from memory, from the directory, or computed now and stored.

        What was computed now is returned as every later hit will return it.
        """
        if not kwargs and _are_scalars(types := tuple(map(type, args))):
            kept = self._known((types, args))
            if kept is not None and kept.until_s > _monotonic_s():
                self._hits += 1
                result: R = kept.value
            else:
                result = self._ask(args, kwargs, (types, args))
        else:
            result = self._ask(args, kwargs, None)
        return result

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The 40 hex digits under which the result for these arguments is stored.

        Raises:
            CodecError: the arguments cannot be a key.
            TypeError: the function cannot be called like this.
        """
        return self._key(args, kwargs).hex()

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """The stored result, or ``MISSING``. Computes nothing; raises a stored exception."""
        found = self._recall(self._key(args, kwargs))
        return MISSING if found is None else deliver(found)

    def forget(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete the stored result for these arguments. Returns whether there was one.

        Other processes may go on using what they have in memory for a second. ``OSError``: it could not be deleted.
        """
        key = self._key(args, kwargs)
        self._front.forget(key)
        return self._store.remove(key)

    def clear(self) -> None:
        """Delete all results of this function, whatever their version. As for ``forget``."""
        self._front.clear()
        self._store.clear()

    def info(self) -> MemoInfo:
        """Counts and sizes. Reads the directory."""
        return MemoInfo(self._hits, self._misses, *self._store.count_and_size_bytes(), self._store.directory)

    # ---- methods

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self: Memo[Concatenate[S, Q], R], instance: S, owner: type | None = None) -> BoundMemo[Q, R]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else BoundMemo(self, instance)

    def __reduce__(self) -> str:
        # By name, like the function itself: handed to another process it is that process's own.
        return self._function.__qualname__

    def __repr__(self) -> str:
        return f"<memo of {self._name} in {self._store.directory}>"

    # ---- how it is found

    def _ask(self, args: tuple[Any, ...], kwargs: dict[str, Any], plain: Any) -> Any:
        if plain is not None and len(args) == self._count_plain:
            key = key_of_scalars(self._prefix, args)
        else:
            key = self._key(args, kwargs)
        found = self._recall(key, plain)
        if found is None:
            # Threads of this process take turns here, processes below. After each wait it may be there.
            with self._turns.of(key):
                found = self._recall(key, plain)
                if found is None:
                    with self._leased(key):
                        found = self._recall(key, plain)
                        if found is None:
                            self._misses += 1
                            return self._compute(key, args, kwargs)
        self._hits += 1
        return deliver(found)

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        chosen = self._settings.key
        if callable(chosen):
            return key_of(self._prefix, (chosen(*args, **kwargs),))
        values = self._arguments.values(args, kwargs)
        if self._is_method and chosen != "instance":
            # Of the instance only the class counts.
            instance = values[0]
            kind = instance if isinstance(instance, type) else type(instance)
            values = (f"{home_of(kind.__module__)}.{kind.__qualname__}", *values[1:])
        return key_of(self._prefix, values)

    def _recall(self, key: bytes, plain: Any = None) -> Found | None:
        """What is stored and may be used, from memory or the directory. Never raises for what is wrong with it."""
        kept = self._front.get(key)
        if kept is not None and kept.until_s <= _monotonic_s() and not self._is_still_so(key, kept):
            kept = None
        if kept is None:
            return self._load(key, plain)
        if plain is not None:
            self._front.keep_plain(plain, kept)
        if kept.value is MISSING:
            return self._settings.codec.decode(kept.payload), kept.raised
        return kept.value, kept.raised

    def _is_still_so(self, key: bytes, kept: Kept) -> bool:
        """Whether what is in memory is what is in the directory, and not too old."""
        if self._is_expired(kept.made_at_ns) or self._store.stamp(key) != kept.stamp:
            return False
        kept.believe(self._expires_in_s(kept.made_at_ns))
        return True

    def _load(self, key: bytes, plain: Any) -> Found | None:
        store = self._store
        store.prepare_to_read()
        read = store.read(key)
        if read is None or not self._may_use(read[0]):
            return None
        entry, stamp = read
        if entry.kind == "array":
            return self._map(entry)
        try:
            value = self._settings.codec.decode(entry.payload)
        except CodecError as error:
            warn(f"a stored result of {self._name} cannot be loaded and is computed again: {error}")
            return None
        raised = entry.kind == "raised"
        if raised and not isinstance(value, Exception):
            return None
        self._keep(entry, value, stamp, plain)
        return value, raised

    def _map(self, entry: Entry) -> Found | None:
        try:
            array = self._store.map_array(entry)
        except FileNotFoundError:
            return None  # Evicted a moment ago, or by a process that died on the way to the entry.
        if array is MISSING:
            warn(f"a stored array of {self._name} is damaged and is computed again")
            return None
        return array, False

    def _keep(self, entry: Entry, value: Any, stamp: Stamp, plain: Any) -> None:
        unchanging: Any | Missing = value if is_immutable(value) else MISSING
        kept = Kept(unchanging, entry.payload, entry.kind == "raised", stamp, entry.made_at_ns)
        kept.believe(self._expires_in_s(entry.made_at_ns))
        self._front.keep(entry.key, kept)
        if plain is not None:
            self._front.keep_plain(plain, kept)

    def _may_use(self, entry: Entry) -> bool:
        settings = self._settings
        if entry.codec != settings.codec.name:
            return False
        if entry.kind == "raised" and not settings.exceptions:
            return False
        if settings.expire_s is not None and self._is_expired(entry.made_at_ns):
            return False
        policy = settings.on_code_change
        if policy == "ignore" or entry.code == (self._code or self._code_digest()):
            return True
        if policy == "recompute":
            return False
        if not self._has_warned_of_code:
            self._has_warned_of_code = True
            warn(
                f"the code of {self._name}, or of what it calls, has changed since its stored results were computed; "
                'they are used all the same; version= or on_code_change="recompute" passes them by'
            )
        return True

    def _is_expired(self, made_at_ns: int) -> bool:
        return self._expires_in_s(made_at_ns) == 0.0

    def _expires_in_s(self, made_at_ns: int) -> float | None:
        """Seconds; 0 if it has; ``None``: never. An entry from the future has: nobody knows how old it is."""
        expire_s = self._settings.expire_s
        if expire_s is None:
            return None
        age_s = (self._settings.clock.time_ns() - made_at_ns) / 1e9
        return max(expire_s - age_s, 0.0) if age_s >= 0 else 0.0

    def _code_digest(self) -> bytes:
        if self._code is None:
            # At the first need, not at decoration: what it calls may be defined further below.
            self._code = b"" if self._settings.on_code_change == "ignore" else code_digest(self._function)
        return self._code

    # ---- how it is made

    @contextlib.contextmanager
    def _leased(self, key: bytes) -> Iterator[None]:
        lease = self._store.lease(key)
        # Without a lease two processes may compute the same, no harm; where nothing can be stored, saving will say so.
        try:
            with contextlib.suppress(OSError):
                self._store.prepare()
                lease.take()
            yield
        finally:
            lease.give_back()

    def _compute(self, key: bytes, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            value = self._function(*args, **kwargs)
        except self._settings.exceptions as error:
            self._save(key, error, raised=True)
            raise
        return self._save(key, value)

    def _save(self, key: bytes, value: Any, *, raised: bool = False) -> Any:
        """Store an outcome and return it as a hit would. What cannot be stored is returned as it is, with a warning."""
        settings = self._settings
        try:
            kind: Kind = "raised" if raised else "value"
            if is_mappable(value, settings.map_bytes_min):
                kind, payload = "array", self._store.write_array(key, value)
            else:
                payload = settings.codec.encode(value)
            made_at_ns = settings.clock.time_ns()
            entry = Entry(self._name, key, self._code_digest(), made_at_ns, kind, settings.codec.name, payload)
            self._store.write(entry, array_bytes=value.nbytes if kind == "array" else 0)
        except (CodecError, OSError) as error:
            warn(f"a result of {self._name} cannot be stored: {error}")
            return value
        self._front.forget(key)
        if kind == "array":
            mapped = self._map(entry)
            return value if mapped is None else mapped[0]
        # Not ``value`` itself: a codec may make another type of it, and nobody shall see that at the second call only.
        return settings.codec.decode(payload)


class BoundMemo(Generic[P, R]):
    """A memoised method of one instance."""

    __slots__ = ("_instance", "_memo")

    def __init__(self, memo: Memo[Any, R], instance: object) -> None:
        self._memo = memo
        self._instance = instance

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """As for ``Memo``."""
        return self._memo(self._instance, *args, **kwargs)

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """As for ``Memo``."""
        return self._memo.key(self._instance, *args, **kwargs)

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """As for ``Memo``."""
        return self._memo.peek(self._instance, *args, **kwargs)

    def forget(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """As for ``Memo``."""
        return self._memo.forget(self._instance, *args, **kwargs)

    def clear(self) -> None:
        """Of all instances. As for ``Memo``."""
        self._memo.clear()

    def info(self) -> MemoInfo:
        """Of all instances. As for ``Memo``."""
        return self._memo.info()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memo, name)

    def __repr__(self) -> str:
        return f"<bound {self._memo!r} of {type(self._instance).__qualname__}>"


def deliver(found: Found) -> Any:
    """Return a stored result, or raise a stored exception."""
    value, raised = found
    if raised:
        raise value
    return value


def function_name(function: Callable[..., Any]) -> str:
    """``module:qualname``; for a script its path stands in place of ``__main__``, which all scripts have in common."""
    module = function.__module__ or "__main__"
    if home_of(module) == MAIN:
        path = getattr(sys.modules.get(module), "__file__", None)
        module = f"__main__ {os.path.abspath(path)}" if path else "__main__"
    return f"{module}:{function.__qualname__}"


def is_method(function: Callable[..., Any], first_parameter: str | None) -> bool:
    """Whether ``function`` stands in a class and takes the instance or the class first."""
    scope = function.__qualname__.rpartition(".")[0]
    return bool(scope) and not scope.endswith("<locals>") and first_parameter in ("self", "cls")
