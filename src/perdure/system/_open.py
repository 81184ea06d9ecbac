"""Opening a system."""

from __future__ import annotations

import contextlib
import inspect
import os
import reprlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType, NoneType
from typing import Any, Literal, TypeVar, Unpack, get_origin, overload

from perdure.clock import Clock, SystemClock, check_clock
from perdure.codecs import Codec, get_codec
from perdure.errors import UsageError
from perdure.fs import Fs
from perdure.journal import Durability
from perdure.machine import Machine, Place, RecoveryReport, open_machine
from perdure.system import _builtins
from perdure.system._cluster import EngineOptions, check_engine_options, open_on_engine
from perdure.system._companions import Checker, Shadow
from perdure.system._determinism import check_class
from perdure.system._follower import Follower
from perdure.system._progress import RestoreProgress
from perdure.system._proxy import make_proxy
from perdure.system._reading import methods_of
from perdure.system._runtime import System
from perdure.system._sharing import share
from perdure.system._state import ObjectState
from perdure.system._warnings import ChangedCodeWarning, warn

T = TypeVar("T")

Secret = bytes | Sequence[bytes] | Callable[[], bytes | Sequence[bytes]]


class Memory:
    """The type of ``perdure.MEMORY``: nowhere at all. For tests: same rules, no files."""

    def __repr__(self) -> str:
        return "perdure.MEMORY"


MEMORY = Memory()
Where = str | os.PathLike[str] | Memory | None

_CHOICES: dict[str, tuple[object, ...]] = {
    "durability": ("always", "everysec", "never"),
    "rollback": ("restore", "shadow"),
    "validate": ("error", "warn", "off"),
    "mode": ("rw", "r"),
}


class OpenOptions(EngineOptions, total=False):
    """The keyword arguments of ``open``, for those who pass them on; ``open`` itself says what they mean."""

    durability: Durability
    codec: str | Codec
    allow: Iterable[str | type]
    snapshot: Literal["auto", "manual"] | float
    keep_history: bool
    rollback: Literal["restore", "shadow"]
    check: bool
    validate: Literal["error", "warn", "off"]
    mode: Literal["rw", "r"]
    shared: bool
    secret: Secret | None
    renames: Mapping[str, str] | None
    clock: Clock | None
    fs: Fs | None


# What comes back is typed as the object: of a class, what it makes; of a factory, what it returns; of an instance,
# that.
@overload
def open(target: type[T], where: Where = None, **options: Unpack[OpenOptions]) -> T: ...
@overload
def open(target: Callable[[], T], where: Where = None, **options: Unpack[OpenOptions]) -> T: ...
@overload
def open(target: T, where: Where = None, **options: Unpack[OpenOptions]) -> T: ...
def open(
    target: Any,
    where: Where = None,
    *,
    durability: Durability = "always",
    codec: str | Codec = "pickle",
    allow: Iterable[str | type] = (),
    snapshot: Literal["auto", "manual"] | float = "auto",
    keep_history: bool = False,
    rollback: Literal["restore", "shadow"] = "restore",
    check: bool = False,
    validate: Literal["error", "warn", "off"] = "error",
    mode: Literal["rw", "r"] = "rw",
    shared: bool = False,
    secret: Secret | None = None,
    renames: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    fs: Fs | None = None,
    **engine: Unpack[EngineOptions],
) -> Any:
    """An object that outlives the process.

    ``target``: a class, an instance (the initial state), a callable that makes one, or ``dict``, ``list``, ``set``,
    ``collections.deque``, ``collections.Counter``. ``where``: a directory, made if missing (default: the class's name
    in lower case), an engine's URL, or ``perdure.MEMORY``. What is there already wins over the initial state.

    What comes back looks like the object. Each call of a method is a command: journaled, made durable as ``durability``
    says, run, and replayed at the next opening; methods marked ``@readonly`` are queries. Any thread may call.

    ``durability``: "always", synced before the call returns; "everysec", handed to the operating system at once and
    synced each second; "never", handed over at once. ``codec``: "pickle" (restricted), "json", "msgpack" or a
    ``Codec``. ``allow``: further packages or classes that stored data may contain. ``snapshot``: "auto", seconds
    between two, or "manual". ``keep_history``: prune nothing, so that any past moment can be opened. ``rollback``:
    where an ``@abort_exception`` command gets the old state from, "restore" or "shadow" (a second copy). ``check``:
    run every command twice and compare, for tests. ``validate``: what to do with methods that would not replay.
    ``mode``: "r" reads beside a writer and follows it. ``shared``: many processes at once, one of which has it open.
    ``secret``: key or keys, newest first, for a code per record. ``renames``: classes and methods that have moved.
    ``clock``, ``fs``: for tests. ``engine``: see ``EngineOptions``.

    Raises:
        NotDeterministicError: a method would not replay to the same state; the message says where.
        LockedError: it is open for writing, here or elsewhere.
        CorruptError, MissingError, FormatVersionError, StorageError: the directory cannot be used; nothing was changed.
        CodecError, ReplayError: it cannot be loaded with today's code; nothing was changed.
        UsageError: the arguments do not make sense.
    """
    chosen = {"durability": durability, "rollback": rollback, "validate": validate, "mode": mode}
    check_choices(chosen, snapshot, clock)
    refused = {"durability": durability != "always", "secret": secret is not None, "fs": fs is not None}
    on_engine = check_engine_options(where, engine, refused)
    cls, initial = _target(target)
    if cls not in _builtins.TYPES:
        check_class(cls, validate=validate, stacklevel=3)
    if shared:
        return share(
            target, cls, None if on_engine else _directory(where, cls), chosen, codec=codec, snapshot=snapshot,
            allow=(*allow, package_of(cls)), keep_history=keep_history, check=check, secret=secret, renames=renames,
            clock=clock, fs=fs or Fs(),
        )  # fmt: skip
    codec = get_codec(codec, package=package_of(cls), allow=(*allow, SystemClock, cls), renames=renames)
    state, initial = ObjectState(cls, codec, renames=renames), _with_clock(cls, initial)
    if on_engine:
        return open_on_engine(
            str(where), state, initial, engine, snapshot=snapshot, keep_history=keep_history, read_only=mode == "r",
            rollback=rollback, check=check, clock=clock,
        )  # fmt: skip
    place = Place(_directory(where, cls), durability, snapshot, keep_history, secrets_of(secret), clock, fs or Fs())
    if mode == "r":
        return _open_reader(state, place)
    return _open_writer(state, initial, place, rollback=rollback, check=check)


def _open_writer(state: ObjectState, initial: Callable[[], Any], place: Place, *, rollback: str, check: bool) -> Any:
    machine, report = open_machine(state, initial, place, progress=RestoreProgress())
    try:
        _warn_of_changed_code(report, place.directory)
        return _proxy_for(machine, state, report, rollback=rollback, check=check)
    except BaseException:
        machine.close(snapshot=False)
        raise


def _warn_of_changed_code(report: RecoveryReport, directory: str | None) -> None:
    if report.changed_methods:
        warn(
            f"{', '.join(report.changed_methods)}: the code has changed since commands were journaled that were "
            f"replayed just now ({directory}); perdure verify tells whether the outcome is the same",
            ChangedCodeWarning,
            stacklevel=4,
        )


def _proxy_for(machine: Machine, state: ObjectState, report: RecoveryReport, *, rollback: str, check: bool) -> Any:
    checker = Checker(state) if check else None
    if checker is not None:
        machine.companion = checker
    elif rollback == "shadow":
        machine.companion = Shadow(state)
    return make_proxy(System(machine, state, path=machine.path, report=report, checker=checker))


def _open_reader(state: ObjectState, place: Place) -> Any:
    if place.directory is None:
        raise UsageError('mode="r" reads beside a writer: it needs a directory')
    follower = Follower(state, place)
    return make_proxy(System(follower, state, path=follower.path, report=follower.report))


def check_choices(chosen: Mapping[str, object], snapshot: object, clock: object) -> None:
    check_clock(clock)
    for name, value in chosen.items():
        if value not in _CHOICES[name]:
            raise UsageError(f"{name}={value!r}", hint=f"one of {', '.join(map(repr, _CHOICES[name]))}")
    if snapshot not in ("auto", "manual") and (
        not isinstance(snapshot, (int, float)) or isinstance(snapshot, bool) or not snapshot > 0
    ):
        raise UsageError(f"snapshot={snapshot!r}", hint='"auto", "manual", or seconds between two snapshots')


def _target(target: Any) -> tuple[type, Callable[[], Any]]:
    """The class of the root, and what makes the initial one."""
    target = get_origin(target) or target  # `dict[str, int]` is a dict.
    if isinstance(target, type):
        return _changeable(target), lambda: _make(target)
    if isinstance(target, _NO_TARGETS):
        raise UsageError(
            f"a {type(target).__name__} cannot be a system: {reprlib.repr(target)}",
            hint='a class or an object comes first, then the directory: perdure.open(Wiki, "wiki/")',
        )
    if callable(target) and _is_factory(target):
        made = target()
        return _changeable(type(made)), lambda: made
    return type(target), lambda: target


_UNCHANGING = (str, bytes, bool, int, float, complex, tuple, frozenset, NoneType)
_NO_TARGETS = (*_UNCHANGING, os.PathLike, ModuleType)


def _changeable(cls: type) -> type:
    if cls in _UNCHANGING:
        raise UsageError(
            f"a system of type {cls.__name__} could never change",
            hint="put the value into an object of a class, or into a list or dict",
        )
    return cls


def _make(cls: type) -> Any:
    with contextlib.suppress(ValueError):  # Some built-in types do not tell their signature.
        try:
            inspect.signature(cls).bind()
        except TypeError as error:
            raise UsageError(
                f"{cls.__name__}() needs arguments, and perdure knows none: {error}",
                hint=f"pass an object, or a function that makes one: perdure.open(lambda: {cls.__name__}(…), where)",
            ) from error
    return cls()


def _is_factory(target: Any) -> bool:
    # An instance of a class of the user's own may be callable, too, and is meant as the initial state.
    return type(target).__module__ in ("builtins", "functools")


def _directory(where: Where, cls: type) -> str | None:
    if isinstance(where, Memory):
        return None
    if where is None:
        return os.path.abspath(cls.__name__.lower())
    path = os.fsdecode(where) if isinstance(where, (str, bytes, os.PathLike)) else ""
    if not path or "\0" in path:
        raise UsageError(f"{where!r} names no directory", hint="a path, an engine's URL, or perdure.MEMORY")
    return os.path.abspath(path)


def package_of(cls: type) -> str:
    """The top-level package whose classes stored data may contain: that of the class, or of whoever opens a
    built-in."""
    module = cls.__module__
    if cls in _builtins.TYPES:
        frame = sys._getframe(1)
        while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "perdure":
            frame = frame.f_back  # type: ignore[assignment]
        module = str(frame.f_globals.get("__name__", "__main__")) if frame is not None else "__main__"
    return module.partition(".")[0]


def secrets_of(secret: Secret | None) -> tuple[bytes, ...]:
    if secret is None:
        return ()
    given = secret() if callable(secret) else secret
    keys = (given,) if isinstance(given, (bytes, bytearray)) else tuple(given)
    if not keys or not all(isinstance(key, (bytes, bytearray)) and key for key in keys):
        raise UsageError(
            "secret= takes bytes, several of them, or a function that returns them",
            hint="none of them empty; 32 random bytes are a good one",
        )
    return tuple(bytes(key) for key in keys)


def _with_clock(cls: type, initial: Callable[[], Any]) -> Callable[[], Any]:
    """Gives the root its ``_clock``, if the class asks for one and has none of its own."""
    if not _mentions_clock(cls):
        return initial

    def make() -> Any:
        root = initial()
        if not hasattr(root, "_clock"):
            root._clock = SystemClock()
        return root

    return make


def _mentions_clock(cls: type) -> bool:
    if cls in _builtins.TYPES or hasattr(cls, "_clock"):
        return False
    return any("_clock" in source.function.__code__.co_names for source in methods_of(cls).values())
