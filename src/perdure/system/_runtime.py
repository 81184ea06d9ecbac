"""What stands behind a proxy: one opened system."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from types import GeneratorType
from typing import Any, Protocol

from perdure.clock import Moment, running
from perdure.cluster import Node
from perdure.codecs import Codec
from perdure.errors import ReadOnlyError
from perdure.machine import Machine, RecoveryReport
from perdure.system._command import Arguments, Keywords, encode_command
from perdure.system._companions import Checker
from perdure.system._lag import Replica
from perdure.system._state import ObjectState


class Engine(Protocol):
    """What a proxy needs of what keeps its state: a ``Machine``, or something that only reads."""

    lock: Any
    moment: Moment
    snapshots: Any

    @property
    def journal(self) -> Any: ...

    @property
    def seq(self) -> int: ...
    @property
    def durable_seq(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None: ...


class System:
    """One opened system: its engine, its state, and the two ways to call a method of it.

    A proxy holds the only lasting reference to it, so that a proxy that is dropped lets go of its files at once.
    """

    def __init__(
        self,
        engine: Engine,
        state: ObjectState,
        *,
        path: str | None,
        report: RecoveryReport,
        checker: Checker | None = None,
        replica: Replica | None = None,
    ) -> None:
        self.engine = engine
        self.replica = replica
        self.before_closing: list[Callable[[], None]] = []
        """What serves or follows for it, to be ended first."""
        self.machine: Machine | None = engine if isinstance(engine, Machine) else None
        self.writer: Machine | Node | None = self.machine
        """What takes commands; ``None``: this was opened for reading."""
        if isinstance(engine, Node) and engine.writes:
            self.writer = engine
        self.state = state
        self.root: Any = state.root
        self.path = path
        self.report = report
        self.checker = checker
        self.codec: Codec = state.codec

    def command(
        self, method: str, function: Callable[..., Any], args: Arguments, kwargs: Keywords, exclusive: bool = True
    ) -> Any:
        """Journals and runs one call. From inside a command it is simply made: it is part of that one.

        Raises:
            CodecError: an argument cannot be stored. Nothing happened.
            ReadOnlyError: this was opened for reading. Nothing happened.
            and what ``Machine.handle`` and the method raise.
        """
        engine = self.engine
        if running.moment is engine.moment:
            return function(self.state.root, *args, **kwargs)
        writer = self.writer
        if writer is None:
            if engine.closed:
                engine.lock.__enter__()
            raise ReadOnlyError(
                f"{method}() is a command, and this was opened for reading",
                path=self.path,
                hint='open it with mode="rw", or mark the method @readonly if it changes nothing',
            )
        payload, args, kwargs = encode_command(self.codec, method, args, kwargs)
        return writer.handle(payload, (function, args, kwargs), exclusive=exclusive)

    def query(self, name: str, function: Callable[..., Any], args: Arguments, kwargs: Keywords) -> Any:
        """Calls something that changes nothing, while no command runs."""
        checker = self.checker
        with self.engine.lock:
            if checker is None or running.moment is self.engine.moment:
                result = function(self.state.root, *args, **kwargs)
            else:
                before = checker.digest()
                result = function(self.state.root, *args, **kwargs)
                checker.query(name, before)
        if type(result) is GeneratorType:
            return self.stepwise(result)
        return result

    def stepwise(self, generator: Generator[Any, None, Any]) -> Iterator[Any]:
        """A query that is a generator: no command runs during a step, but some may between two."""
        engine = self.engine
        while True:
            with engine.lock:
                try:
                    value = next(generator)
                except StopIteration:
                    return
            yield value

    def close(self) -> None:
        while self.before_closing:
            self.before_closing.pop()()
        if self.replica is not None:
            self.replica.stop()
        self.engine.close()
