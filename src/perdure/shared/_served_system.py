"""A system as its owner serves it to other processes."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, ValuesView
from itertools import islice
from typing import Any

from perdure.codecs import Codec
from perdure.errors import CodecError, UsageError
from perdure.limits import SHARED_CHUNK_COUNT
from perdure.shared._frames import CALL, CODED, ITSELF, QUERY, SERIES, VALUE, Answer
from perdure.system import Control, control, decode_command, marks, replaced_methods, system_of

_PLAIN = frozenset({type(None), bool, float, str, bytes})
_INT_BITS = 63
_SERIES = (Iterator, KeysView, ValuesView, ItemsView)
_RESULT_HINT = "what a shared system hands to other processes must be data: a value, not an open file or a function"


class ServedSystem:
    """See ``Served``. ``proxy``: what ``perdure.open`` gave; it is closed together with this."""

    def __init__(self, proxy: Any, description: dict[str, Any]) -> None:
        system = system_of(proxy)
        assert system.machine is not None
        self._system = system
        self._machine = system.machine
        self._control: Control = control(proxy)
        self._description = description
        self._replaced = replaced_methods(system.state.cls)
        self.codec: Codec = system.state.answers
        self.lock: Any = None

    def check(self, description: dict[str, Any]) -> None:
        """See ``Served.check``."""
        for name, value in description.items():
            known = self._description.get(name, value)
            if known != value:
                raise UsageError(
                    f"the process that has it open has it with {name}={known!r}, not {value!r}",
                    path=self._system.path,
                    hint="give the same class and options in every process",
                )

    # ---- calls

    def call(self, kind: int, client: bytes, counter: int, body: bytes) -> Answer:
        """See ``Served.call``."""
        state, machine = self._system.state, self._machine
        if kind == CALL:
            call = function, args, kwargs = state.decode(body)
            if machine.is_inside():
                # Part of the command that this thread is in.
                return self._answer(function(state.root, *args, **kwargs))
            exclusive = not marks(function).unlocked
            result = machine.handle(body, call, client=client, counter=counter, exclusive=exclusive)
            with machine.lock:
                return self._answer(result)
        name, args, kwargs = decode_command(self.codec, body)
        if kind == QUERY:
            # Under the lock until it is in bytes: nobody changes meanwhile what is handed out.
            with machine.lock:
                return self._answer(self._system.query(name, self._function(name), args, kwargs))
        return self._answer(self._controlled(name, *args))

    def _function(self, name: str) -> Callable[..., Any]:
        if name.startswith("."):
            return lambda root: getattr(root, name[1:])
        if name in ("__repr__", "__dir__"):
            return repr if name == "__repr__" else dir
        return self._replaced.get(name) or self._system.state.function(name)

    def _answer(self, value: Any) -> Answer:
        kind = type(value)
        if kind in _PLAIN or (kind is int and value.bit_length() <= _INT_BITS):
            return VALUE, value
        if value is self._system.state.root:
            return ITSELF, None
        status = CODED
        if isinstance(value, _SERIES):
            status, value = SERIES, list(value)
        return status, self._encoded(value)

    def _encoded(self, value: Any) -> bytes:
        try:
            return self.codec.encode(value)
        except CodecError as error:
            raise CodecError(f"the result cannot be handed over: {error.message}", hint=_RESULT_HINT) from error

    def _controlled(self, name: str, *args: Any) -> Any:
        asked = self._control
        if name in ("seq", "durable_seq"):
            return getattr(asked, name)
        if name in ("take_snapshot", "sync", "digest"):
            return getattr(asked, name)()
        if name == "report":
            return [getattr(asked.report, field) for field in asked.report.__dataclass_fields__]
        if name == "history":
            commands = islice(asked.history(*args), SHARED_CHUNK_COUNT)
            return [(c.seq, c.at, c.method, c.args, dict(c.kwargs), c.outcome, c.error) for c in commands]
        if name == "at":
            return self._encoded(system_of(asked.at(*args)).state.root)
        if name == "root":
            with self._machine.lock:
                return self._encoded(self._system.state.root)
        if name == "set_snapshot_interval":
            return self._machine.set_snapshot_interval(*args)
        raise UsageError(f"nothing of that name can be asked for: {name!r}")

    # ---- transactions are of dicts

    def begin(self) -> Any:
        """See ``Served.begin``."""
        raise UsageError("a system has no transactions: a command is one", path=self._system.path)

    def commit(self, transaction: Any, client: bytes, counter: int) -> None:
        """See ``Served.commit``."""
        self.begin()

    def roll_back(self, transaction: Any) -> None:
        """See ``Served.roll_back``."""
        self.begin()

    def has_run(self, client: bytes, counter: int) -> bool:
        """See ``Served.has_run``."""
        return self._machine.receipts.has_run(client, counter)

    def close(self, *, snapshot: bool | None = None) -> None:
        """See ``Served.close``."""
        self._machine.close(snapshot=snapshot)
