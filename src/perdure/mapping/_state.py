"""A dict as a machine's state."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import msgspec

from perdure import digest as _digest
from perdure.codecs import Codec, Pickle
from perdure.errors import CodecError, CorruptError, ReplayError, UsageError
from perdure.machine import Verdict
from perdure.mapping._changes import (
    REGULAR,
    Function,
    Step,
    dict_clear,
    dict_delete,
    dict_set,
    dict_update,
    function_for,
    renumber,
)
from perdure.mapping._keys import key_from_json
from perdure.mapping._line import sealed
from perdure.mapping._place import Limbo, Root, Tracked, enter_dict, leave, resolve
from perdure.mapping._reconcile import reconcile
from perdure.mapping._steps import apply_steps, steps_of
from perdure.mapping._values import SCALARS, Values, encode_json
from perdure.snapshots import Source, Writer

_ANSWERS = Pickle()

ALL = None
"""Stands for every key, where a change concerns more than one."""


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """One change, as a line of the journal holds it. ``path``: from the root; empty for the dict itself.

    ``answer``: what whoever asked for it was told, as JSON; ``packed``: the same as base64 of the bytes of
    ``DictState.answers``, where JSON would make something else of it.
    """

    do: str
    path: list[Any] = []
    args: list[Any] = []
    answer: Any = None
    packed: str | None = None


class _KeyLine(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    key: Any
    value: Any = msgspec.UNSET
    steps: list[Any] | None = None
    check: str | None = None


class Content(NamedTuple):
    """A whole state that was read and is not yet taken over. ``irregular``: see ``DictState.irregular``."""

    data: dict[Any, Any]
    irregular: set[Any]


_decode_change = msgspec.json.Decoder(Change).decode
_decode_key_lines = msgspec.json.Decoder(_KeyLine).decode_lines
_WRITE_COUNT = 1000

Call = tuple[Function | None, Any, Sequence[Any], Any]
"""What is made, to what, with what, and under which key of the dict (or ``ALL``); see also ``call_of``."""


def call_of(function: Callable[[], Any]) -> Call:
    """A call of something that sees to everything itself, and whose result is the command's."""
    return None, None, (function,), ALL


class DictState(Root):
    """The dict, in insertion order, and the changes to it. ``data`` stays the same object for good."""

    __slots__ = ("answers", "codec", "description", "irregular", "observer", "settled", "values")

    def __init__(self, values: Values, data: dict[Any, Any] | None = None) -> None:
        super().__init__()
        if data is not None:
            self.data = data
        self.values: Values = values
        self.codec: Codec = values.codec
        self.answers: Codec = values.codec if isinstance(values.codec, Pickle) else _ANSWERS
        self.description: Mapping[str, Any] = {"kind": "dict", "codec": self.codec.name}
        self.irregular: set[Any] = set()
        """Keys whose values hold a list in which steps may differ from positions: a snapshot must say them."""
        self.observer: Callable[[Any], None] | None = None
        """Told the key after each change; ``ALL`` where it may be any."""
        self.settled: Callable[[], AbstractContextManager[None]] = nullcontext
        """A context manager in which changes that are only held in memory are undone: what a snapshot must show."""

    def check(self, description: Mapping[str, Any], path: str | None) -> None:
        """See ``State.check``."""
        kind, codec = description.get("kind"), description.get("codec")
        if kind != "dict":
            raise UsageError(f"this holds a {kind}, not a dict", path=path, hint="give the dict a directory of its own")
        if codec != self.codec.name:
            raise UsageError(f"it was written with codec={codec!r}", path=path, hint=f"open it with codec={codec!r}")

    # ---- commands

    def perform(self, function: Function, owner: Any, args: Sequence[Any], key: Any, limbo: Limbo | None) -> None:
        """Makes one change."""
        if owner is self:
            if self.irregular:
                if key is ALL:
                    self.irregular.difference_update([pair[0] for pair in args[0]] if args else self.irregular.copy())
                else:
                    self.irregular.discard(key)
        elif isinstance(owner, list) and function not in REGULAR:
            self.irregular.add(key)
        function(owner, args, limbo)
        if self.observer is not None:
            self.observer(key)

    def undo(self, steps: list[Step], key: Any) -> None:
        """Takes back one change."""
        for function, owner, args in steps:
            # Too many keys here cost a look at them when a snapshot is written; one too few would cost the steps.
            self.irregular.update([pair[0] for pair in args[0]] if key is ALL and function is dict_update else [key])
            if key is ALL and function is dict_set:
                self.irregular.add(args[0])
            function(owner, args, None)
        if self.observer is not None:
            self.observer(key)

    def run(self, call: Call) -> Any:
        """See ``State.run``."""
        function, owner, args, key = call
        if function is dict_set and owner is self:
            # The usual call, in as few steps as it goes.
            value = args[1]
            data = self.data
            old = dict.get(data, key)
            if isinstance(old, Tracked):
                leave(self, old, None)
            if isinstance(value, Tracked):
                enter_dict(self, key, value)
            data[key] = value
            if self.irregular:
                self.irregular.discard(key)
            if self.observer is not None:
                self.observer(key)
        elif function is None:
            return args[0]()
        else:
            self.perform(function, owner, args, key, None)
        return None

    def decode(self, payload: bytes) -> Call:
        """See ``State.decode``."""
        try:
            change = _decode_change(payload)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise CodecError(f"the entry is not a change of a dict: {error}") from error
        return call_of(partial(self._replay, change))

    def execute(self, payload: bytes) -> Any:
        """See ``State.execute``."""
        return self.run(self.decode(payload))

    def answering(self, payload: bytes, call: Call, answer: Any) -> tuple[bytes, Call]:
        """The same change with what whoever asked for it is told. Raises ``CodecError``."""
        if _is_same_in_json(answer):
            payload = b'%b,"answer":%b}' % (payload[:-1], encode_json(answer))
        else:
            payload = b'%b,"packed":"%b"}' % (payload[:-1], base64.b64encode(self.answers.encode(answer)))

        def run() -> Any:
            self.run(call)
            return answer

        return payload, call_of(run)

    def _replay(self, change: Change) -> Any:
        """Makes a change as the journal holds it, and returns the answer that it had.

        Raises ``ReplayError`` or ``CodecError`` where it cannot be made.
        """
        try:
            self._replay_unchecked(change)
        except (LookupError, TypeError, ValueError) as error:
            raise ReplayError(f"{change.do!r} cannot be applied to the dict as it is: {error!r}") from error
        if change.packed is not None:
            return self.answers.decode(base64.b64decode(change.packed))
        return change.answer

    def _replay_unchecked(self, change: Change) -> None:
        if change.path:
            key = change.path[0] = key_from_json(change.path[0])
            container = resolve(self, change.path)
            function = function_for(container, change.do)
            self.perform(function, container, self._adopted(container, change.do, change.args), key, None)
        elif change.do == "all":
            for inner in msgspec.convert(change.args, list[Change]):
                self._replay(inner)
        elif change.do == "set":
            key = key_from_json(change.args[0])
            self.perform(dict_set, self, (key, self.values.adopt(change.args[1])), key, None)
        elif change.do == "delete":
            key = key_from_json(change.args[0])
            self.perform(dict_delete, self, (key,), key, None)
        elif change.do == "update":
            adopt = self.values.adopt
            pairs = [(key_from_json(key), adopt(value)) for key, value in change.args[0]]
            self.perform(dict_update, self, (pairs,), ALL, None)
        elif change.do == "clear":
            self.perform(dict_clear, self, (), ALL, None)
        else:
            raise ReplayError(f"an unknown change {change.do!r}")

    def _adopted(self, container: Any, do: str, args: list[Any]) -> list[Any]:
        """The arguments of a change to a container, with what they hold as tracked containers."""
        adopt = self.values.adopt
        if do in ("update", "edit"):
            return [[(key, adopt(value)) for key, value in args[0]], *args[1:]]
        if do in ("append", "set", "insert"):
            args[-1] = adopt(args[-1])
        elif do in ("extend", "splice", "slice"):
            args[-1] = [adopt(value) for value in args[-1]]
        return args

    def regularize(self, key: Any) -> None:
        """Gives the value of a key the steps that it has when it is stored anew."""
        renumber(self.data.get(key))
        self.irregular.discard(key)

    def verdict(self, call: Call, error: Exception) -> Verdict:
        """See ``State.verdict``."""
        return "restore"

    # ---- the whole

    @property
    def value(self) -> Any:
        return self.data

    def _lines(self, data: dict[Any, Any], irregular: set[Any]) -> Iterator[bytes]:
        """Each key and its value as the text of a JSON object without its closing brace."""
        text = self.values.text
        for key, value in dict.items(data):
            line = b'{"key":%b,"value":%b' % (encode_json(key), text(value))
            if irregular and key in irregular:
                steps = steps_of(value)
                if steps:
                    line += b',"steps":' + encode_json(steps)
            yield line

    def dump(self, file: Writer) -> None:
        """See ``State.dump``."""
        with self.settled():
            part: list[bytes] = []
            for line in self._lines(self.data, self.irregular):
                part.append(sealed(line))
                if len(part) >= _WRITE_COUNT:
                    file.write(b"".join(part))
                    part.clear()
            file.write(b"".join(part))

    def digest(self, value: Any = None) -> bytes:
        """See ``State.digest``."""
        if value is not None:
            return self._digest_of(value.data, value.irregular)
        with self.settled():
            return self._digest_of(self.data, self.irregular)

    def _digest_of(self, data: dict[Any, Any], irregular: set[Any]) -> bytes:
        if not self.values.tracked:
            # What a codec makes of equal objects may differ from one time to the next.
            return _digest.digest(list(dict.items(data)))
        content = hashlib.blake2b(digest_size=_digest.DIGEST_BYTES)
        for line in self._lines(data, irregular):
            content.update(line)
            content.update(b"\n")
        return content.digest()

    def read(self, file: Source) -> Content:
        """See ``State.read``. Its lines are numbered from 2: a file's first line is its header."""
        text = file.read(-1)
        try:
            lines = _decode_key_lines(text)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise _first_bad_line(text, error) from error
        adopt = self.values.adopt
        tracked = self.values.tracked
        data: dict[Any, Any] = {}
        irregular: set[Any] = set()
        for number, line in enumerate(lines, 2):
            key, value = line.key, line.value
            try:
                if type(key) is not str:
                    key = key_from_json(key)
                if not tracked or type(value) is dict or type(value) is list:
                    value = adopt(value)
                    enter_dict(self, key, value)
                elif value is msgspec.UNSET:
                    raise CodecError("it holds no value")
                if line.steps is not None:
                    apply_steps(value, line.steps)
                    irregular.add(key)
            except CodecError as error:
                if not tracked:
                    raise
                raise CorruptError(f"line {number}: {error.message}") from error
            data[key] = value
            if len(data) < number - 1:
                raise CorruptError(f"line {number}: the key {key!r} stands in the file twice")
        return Content(data, irregular)

    def take_over(self, value: Content) -> None:
        """See ``State.take_over``. Containers that somebody holds stay the ones in the dict."""
        data = self.data
        if data:
            reconcile(self, value.data)
        else:
            dict.update(data, value.data)
        self.irregular = set(value.irregular)
        if self.observer is not None:
            self.observer(ALL)


def _is_same_in_json(answer: Any) -> bool:
    """Whether JSON gives the very same value back; of lists, of texts and numbers only."""
    if type(answer) is list:
        return all(type(part) in SCALARS for part in answer)
    return type(answer) in SCALARS


def _first_bad_line(text: bytes, error: Exception) -> CorruptError:
    for number, line in enumerate(text.split(b"\n"), 2):
        try:
            if line:
                _decode_key_lines(line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as found:
            return CorruptError(f"line {number}: it is not a line of a dict: {found}")
    return CorruptError(f"the lines cannot be read: {error}")
