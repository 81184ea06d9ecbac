"""``perdure.open(…, shared=True)``: an object that any number of processes use at once."""

from __future__ import annotations

import contextlib
import copy
import datetime
import inspect
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from perdure.clock import Moment
from perdure.codecs import Codec
from perdure.errors import UsageError
from perdure.homes import home_of
from perdure.machine import RecoveryReport
from perdure.shared._frames import CALL, CODED, CONTROL, ITSELF, QUERY, SERIES, VALUE
from perdure.shared._member import Member
from perdure.shared._registry import join, release, release_forgotten
from perdure.shared._served_system import ServedSystem
from perdure.system import (
    Command,
    Control,
    ObjectState,
    System,
    blank_state,
    encode_command,
    is_proxy,
    make_forwarding_proxy,
    system_of,
)
from perdure.system import open as open_here

Options = dict[str, Any]
Recipe = tuple[Any, type, str, Options]


def open_shared(target: Any, cls: type, directory: str, options: Options) -> Any:
    """A proxy that forwards to whichever process owns the directory, be it this one.

    ``target``, ``options``: for ``perdure.open``, in the process that comes to own it. ``cls``: of the root.
    """
    proxy = _handle(target, cls, directory, options)
    system = system_of(proxy)
    try:
        assert isinstance(system, SharedSystem)
        system.ask("seq")  # Joins, so that what is wrong is said here.
    except BaseException:
        system.close()
        raise
    return proxy


def _handle(target: Any, cls: type, directory: str, options: Options) -> Any:
    """A proxy, also in a process that it is handed to. It joins at its first call."""
    state = blank_state(cls, options)
    described = {
        "kind": "system",
        "class": _name_of(state.cls),
        "codec": state.codec.name,
        **{name: options[name] for name in ("durability", "rollback", "check", "keep_history", "snapshot")},
    }

    def opener(member: Member) -> ServedSystem:
        proxy = open_here(target, member.directory, **options)
        return ServedSystem(proxy, described)

    member = join(directory, opener, described, state.answers, options["fs"])
    system = SharedSystem(member, state, (target, cls, directory, options))
    return make_forwarding_proxy(system)


def _name_of(cls: type) -> str:
    # In a process started by spawn the main module has another name.
    return f"{home_of(cls.__module__)}.{cls.__qualname__}"


class StandIn:
    """Where a proxy has its root: that is in the owner's memory. Pickled it is a handle; copied, a plain object."""

    def __init__(self, system: SharedSystem, recipe: Recipe) -> None:
        self._system = weakref.ref(system)
        self._recipe = recipe

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _handle, self._recipe

    def _root(self) -> Any:
        system = self._system()
        assert system is not None
        return system.codec_of_answers.decode(system.ask("root"))

    def __copy__(self) -> Any:
        return self._root()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._root()


class SharedSystem(System):
    """Stands behind the proxy; commands and queries go to the owner."""

    def __init__(self, member: Member, state: ObjectState, recipe: Recipe) -> None:
        state.root = StandIn(self, recipe)
        super().__init__(_FarEngine(self), state, path=member.directory, report=RecoveryReport())
        self.writer = _FarMachine(self)  # type: ignore[assignment]
        self._member = member
        self.codec_of_answers: Codec = state.answers
        self._finalizer = weakref.finalize(self, release_forgotten, member)

    @property
    def closed(self) -> bool:
        """Whether this handle was closed."""
        return not self._finalizer.alive

    def command(
        self,
        method: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        exclusive: bool = True,
    ) -> Any:
        """See ``System.command``: journaled and run by the owner, once."""
        payload = encode_command(self.codec, method, self._given(args), kwargs)[0]
        return self._call(CALL, payload)

    def query(self, name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """See ``System.query``: run by the owner, while no command runs."""
        if function is getattr:
            found = inspect.getattr_static(self.state.cls, name, None)
            if isinstance(found, (staticmethod, classmethod, type)):
                return getattr(self.state.cls, name)
            name, args = "." + name, ()
        body = encode_command(self.codec_of_answers, name, self._given(args), kwargs)[0]
        return self._call(QUERY, body)

    def _given(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Arguments with a plain copy in the place of a proxy."""
        return tuple(copy.copy(value) if is_proxy(value) or type(value) is StandIn else value for value in args)

    def ask(self, name: str, *args: Any) -> Any:
        """Something that is perdure's rather than the object's own."""
        return self._call(CONTROL, encode_command(self.codec_of_answers, name, args, {})[0])

    def _call(self, kind: int, body: bytes) -> Any:
        if self.closed:
            raise self._member.refusal()
        status, found = self._member.call(kind, body)
        if status == VALUE:
            return found
        if status == CODED:
            return self.codec_of_answers.decode(found)
        if status == SERIES:
            return iter(self.codec_of_answers.decode(found))
        if status == ITSELF:
            return self.state.root
        raise UsageError(f"an answer of another kind: {status}")

    @property
    def is_owner(self) -> bool:
        """Whether this process serves the others at the moment."""
        return self._member.is_owner

    def close(self) -> None:
        """Lets go: the last handle of a process on a path leaves. Idempotent."""
        if self._finalizer.detach() is not None:
            release(self._member)

    def make_control(self) -> SharedControl:
        """What ``perdure.control`` gives for it."""
        return SharedControl(self)


class _FarEngine:
    """What proxies and their extras ask of an engine."""

    def __init__(self, system: SharedSystem) -> None:
        self._system = weakref.proxy(system)
        self.lock: Any = contextlib.nullcontext()
        self.moment = Moment(bytes(16))
        self.snapshots: Any = None
        self.journal: Any = None

    @property
    def seq(self) -> int:
        return int(self._system.ask("seq"))

    @property
    def durable_seq(self) -> int:
        return int(self._system.ask("durable_seq"))

    @property
    def closed(self) -> bool:
        return bool(self._system.closed)

    def close(self) -> None:
        self._system.close()


class _FarMachine:
    """What the extras of proxies ask of a machine."""

    def __init__(self, system: SharedSystem) -> None:
        self._system = weakref.proxy(system)

    def snapshot(self) -> _FarSnapshot:
        return _FarSnapshot(int(self._system.ask("take_snapshot")))

    def set_snapshot_interval(self, seconds: float) -> None:
        self._system.ask("set_snapshot_interval", seconds)


class _FarSnapshot(NamedTuple):
    seq: int


class SharedControl(Control):
    """``Control`` of a shared system: each question goes to the owner."""

    _system: SharedSystem

    @property
    def report(self) -> RecoveryReport:
        """What the owner found when it opened the directory."""
        return RecoveryReport(*self._system.ask("report"))

    @property
    def is_owner(self) -> bool:
        """Whether this process serves the others at the moment."""
        return self._system.is_owner

    def take_snapshot(self) -> int:
        """See ``Control.take_snapshot``."""
        return int(self._system.ask("take_snapshot"))

    def sync(self) -> int:
        """See ``Control.sync``."""
        return int(self._system.ask("sync"))

    def history(self, after: int = 0, before: int | None = None) -> Iterator[Command]:
        """See ``Control.history``. Fetched a chunk at a time."""
        while True:
            found = self._system.ask("history", after, before)
            for fields in found:
                yield Command(*fields)
            if not found:
                return
            after = found[-1][0]

    def at(self, when: int | datetime.datetime) -> Any:
        """A plain object: the system as it was after a seq, or at a time. See ``Control.at``."""
        return self._system.codec_of_answers.decode(self._system.ask("at", when))

    def subscribe(self, subscriber: Callable[[Command], None]) -> Callable[[], None]:
        """Refused: the commands run in another process, or may do so from one moment to the next."""
        raise UsageError("a shared system tells nobody of its commands", hint='mode="r" follows it, beside its writer')

    def digest(self) -> str:
        """See ``Control.digest``."""
        return str(self._system.ask("digest"))
