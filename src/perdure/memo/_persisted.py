"""The decorator: a method that computes its result once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from perdure.codecs import Codec
from perdure.errors import PersistableError
from perdure.fs import Fs
from perdure.memo._turns import Turn
from perdure.memo._work import PersistedWork
from perdure.missing import MISSING

_making = Turn("the making of a PersistedWork")

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class persisted:  # noqa: N801 - a decorator
    """Compute the result of a method once, and keep it::

        class Corpus:
            @property
            @persisted("_words", path=Path("words.dat"))
            def words(self) -> dict[str, int]:
                ...

    ``name``: the attribute in which the instance keeps its ``PersistedWork``; made at the first call unless the
    instance has it already. ``path``: also keep it in this file. ``allocation_track=False``: not reported as
    undeallocated. The rest is as for ``PersistedWork``, where the levels, the guarantees and the errors are described.

    The method should take no arguments: those of the first call decide the result. Any thread may call; while one
    computes, the others wait.

    Raises:
        PersistableError: at once, when ``name`` is no text or would hide the method, and for generators and ``async``
            methods.
    """

    def __init__(
        self,
        name: str,
        path: str | Path | None = None,
        cache_global: bool = False,
        transient: bool = False,
        allocation_track: bool = True,
        mkdir: bool = False,
        deallocate_recursive: bool = False,
        recover_empty: bool = False,
        codec: str | Codec | None = None,
        allow: Sequence[str | type] = (),
        fs: Fs | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise PersistableError("@persisted needs the name of an attribute", hint='@persisted("_words")')
        self._name = name
        self._path = None if path is None else Path(path)
        self._allocation_track = allocation_track
        self._codec = codec
        self._allow = allow
        self._fs = fs
        self._settings = {
            "cache_global": cache_global,
            "transient": transient,
            "mkdir": mkdir,
            "deallocate_recursive": deallocate_recursive,
            "recover_empty": recover_empty,
        }

    def __call__(self, fn: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        """Decorate ``fn``, which keeps its name, doc and types."""
        self._check(fn)
        name = self._name

        def wrapper(instance: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            try:
                work = instance.__dict__[name]
                if work._owner_id == id(instance):  # A copied instance has its model's work until it is asked.
                    value = work._value
                    if value is not MISSING:
                        result: R = value
                        return result
            except (KeyError, AttributeError):
                pass
            made: R = self._work_of(instance, fn)(*args, **kwargs)
            return made

        functools.update_wrapper(wrapper, fn)
        wrapper.__persisted__ = name  # type: ignore[attr-defined]
        return wrapper

    def _check(self, fn: Callable[..., Any]) -> None:
        label = getattr(fn, "__qualname__", repr(fn))
        if not inspect.isfunction(fn):
            raise PersistableError(
                f"@persisted stands before {label}, which is no function",
                hint="put it right above the def: @property first, then @persisted",
            )
        if self._name == fn.__name__:
            raise PersistableError(
                f"@persisted({self._name!r}) would hide {label} behind its own result",
                hint=f'@persisted("_{fn.__name__}")',
            )
        if inspect.isgeneratorfunction(fn) or inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
            raise PersistableError(
                f"{label} returns something that can be used only once",
                hint="return a list instead of yielding; for async functions use perdure.memo",
            )

    def _work_of(self, instance: Any, fn: Callable[..., Any]) -> PersistedWork:
        with _making:
            try:
                # Past any __getattr__, which might lead to the result of another object.
                work = object.__getattribute__(instance, self._name)
            except AttributeError:
                work = self._keep(instance, self._new_work(instance))
            if not isinstance(work, PersistedWork):
                found = type(work).__qualname__
                raise PersistableError(
                    f"{type(instance).__qualname__}.{self._name} holds a {found}, not a PersistedWork",
                    hint="give @persisted a name that the class does not use",
                )
            if work.owner is not instance:
                work = self._keep(instance, work._for(instance))
            work._declare(fn, self._codec, self._allow)
        return work

    def _new_work(self, instance: object) -> PersistedWork:
        path = self._name if self._path is None else self._path
        codec = "pickle" if self._codec is None else self._codec
        work = PersistedWork(path, instance, **self._settings, codec=codec, allow=self._allow, fs=self._fs)
        if not self._allocation_track:
            work._mark_deallocated()
        return work

    def _keep(self, instance: object, work: PersistedWork) -> PersistedWork:
        try:
            # Past any __setattr__ of the class: a frozen dataclass may have results, too.
            object.__setattr__(instance, self._name, work)
        except AttributeError as error:
            raise PersistableError(
                f"{type(instance).__qualname__} has no room for the attribute {self._name!r}",
                hint="add it to __slots__",
            ) from error
        return work
