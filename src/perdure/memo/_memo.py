"""The decorator: results of a function by its arguments, kept in a directory."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal, ParamSpec, TypeVar, cast

from perdure.clock import Clock, WallClock
from perdure.codecs import Codec, get_codec
from perdure.errors import PersistableError, UsageError
from perdure.fs import Fs
from perdure.memo._function import Memo, OnCodeChange, Settings, function_name
from perdure.memo._store import Store

P = ParamSpec("P")
R = TypeVar("R")


def memo(
    where: str | os.PathLike[str],
    *,
    key: Callable[..., Any] | Literal["instance"] | None = None,
    version: object = None,
    on_code_change: OnCodeChange = "warn",
    expire_s: float | None = None,
    size_bytes_max: int | None = None,
    exceptions: bool | type[Exception] | tuple[type[Exception], ...] = False,
    codec: str | Codec = "pickle",
    allow: Sequence[str | type] = (),
    map_bytes_min: int | None = 1 << 20,
    durable: bool = True,
    fs: Fs | None = None,
    clock: Clock | None = None,
) -> Callable[[Callable[P, R]], Memo[P, R]]:
    """Keep the results of a function, by its arguments, in a directory that any number of processes may share::

        @memo("cache", expire_s=3600)
        def distance(a: str, b: str) -> float:
            ...

    For functions and methods, sync and ``async``. One process computes a result, the others wait for it; when it dies,
    one of them takes over at once. ``None`` is a result. A damaged, foreign or hostile file in the directory is a miss
    and a ``MemoWarning``, never a wrong result and never an error; so is a full disk. A function that raises stores
    nothing.

    Args:
        where: the directory. The results of each function have their own below it, private to the user.
        key: what decides the result, in place of all arguments: called with them, returns a value. ``"instance"``: for
            methods, the state of the instance counts; by default only its class does.
        version: results of another version are not found. Any value with a ``repr``.
        on_code_change: when the function, or what it calls in its own package, is not what computed a stored result:
            ``"warn"`` once and use it, ``"recompute"`` it, or ``"ignore"`` that.
        expire_s: results older than this many seconds of wall time are computed again; so are those from the future.
        size_bytes_max: bound for the results of this function on disk; those that were not used for longest go first.
        exceptions: True, or a class or classes: such exceptions are results, stored and raised again.
        codec: ``"pickle"`` (restricted to values, arrays and the classes of the function's own top-level package),
            ``"json"``, ``"msgpack"``, or a ``Codec``.
        allow: further packages or classes that results may contain; ``"pandas"`` for frames, series and indexes.
        map_bytes_min: a result that is an array of at least so many bytes is mapped from its file, read-only, instead
            of being read. ``None``: never.
        durable: sync each result to the disk. Without it a power cut may lose the latest results (and nothing else).
        fs: where to. clock: the time for ``expire_s``.

    Raises:
        PersistableError: at once, for generators.
        UsageError: at once, for options that make no sense.
        CodecError: when called with arguments that cannot be a key; the function was not called.
        StorageError: when called, if others may write in the directory; the function was not called.
    """
    if on_code_change not in ("warn", "recompute", "ignore"):
        raise PersistableError(f'on_code_change={on_code_change!r}: "warn", "recompute" or "ignore"')
    directory, kinds = _directory(where), _kinds(exceptions)

    def decorate(function: Callable[P, R]) -> Memo[P, R]:
        _check(function)
        package = (function.__module__ or "__main__").partition(".")[0]
        chosen = get_codec(codec, package=package, allow=("numpy", *allow))
        settings = Settings(key, version, on_code_change, expire_s, kinds, chosen, map_bytes_min, clock or WallClock())
        name = function_name(function)
        own = os.path.join(directory, hashlib.blake2b(name.encode(), digest_size=20).hexdigest())
        store = Store(own, name, fs or Fs(), size_bytes_max=size_bytes_max, durable=durable)
        if inspect.iscoroutinefunction(function):
            from perdure.memo._async_memo import AsyncMemo

            return cast("Memo[P, R]", AsyncMemo(function, settings, store))
        return Memo(function, settings, store)

    return decorate


def _directory(where: str | os.PathLike[str]) -> str:
    if callable(where):
        raise UsageError("@memo was given a function where it needs a directory", hint='@memo("cache")')
    return os.path.abspath(where)


def _kinds(exceptions: bool | type[Exception] | tuple[type[Exception], ...]) -> tuple[type[Exception], ...]:
    if isinstance(exceptions, bool):
        return (Exception,) if exceptions else ()
    return exceptions if isinstance(exceptions, tuple) else (exceptions,)


def _check(function: object) -> None:
    if not inspect.isfunction(function):
        raise PersistableError(f"@memo stands before {function!r}, which is no function")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise PersistableError(
            f"{function.__qualname__} returns something that can be used only once",
            hint="return a list instead of yielding",
        )
