"""What stands behind every ``PersistentDict`` on one path: one opened dict."""

from __future__ import annotations

import builtins
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from perdure.clock import Clock, WallClock
from perdure.errors import ClosedError, CodecError, PerdureError, UsageError
from perdure.fs import close_in_forked_children
from perdure.machine import Machine, RecoveryReport
from perdure.mapping._changes import dict_clear, dict_delete, dict_set, dict_update, function_for
from perdure.mapping._handed import HandingDict
from perdure.mapping._held import Held, HeldChange, payload_of
from perdure.mapping._keys import Key, check_key
from perdure.mapping._place import Tracked, enter_dict, opened_of, path_of
from perdure.mapping._reader import Reader
from perdure.mapping._state import ALL, Content, DictState, call_of
from perdure.mapping._values import SCALARS, Values, encode_json, track


@dataclass(slots=True)
class Request:
    """A change that another process asks for, and may ask for again. ``answer``: what that one is told.

    The entry that is written next is the request's, and only that one. ``wants_answer``: whoever makes the change says
    before it what the answer is.
    """

    client: bytes
    counter: int
    wants_answer: bool = False
    answer: Any = None


class Opened:
    """The machine, its state, and the changes that are only held in memory. Any thread may call.

    ``lock`` is held from the look at where a change goes until it is made, so that the journal and memory see the
    same. Reading takes no lock at all: each change is one step for whoever reads.
    """

    def __init__(self, path: str, state: DictState, options: dict[str, Any], clock: Clock | None) -> None:
        self.path = path
        self.state = state
        self.options = options
        self.values: Values = state.values
        self._tracked = state.values.tracked
        self.track = track
        self.lock = threading.RLock()
        self.machine: Machine | Reader = None  # type: ignore[assignment]
        """Set by whoever opens; from then on there."""
        self.report = RecoveryReport()
        self.pid = os.getpid()
        self.handle_count = 0
        self.closed = False
        self.is_forgotten = False
        """Nobody closed it: the last handle on it is gone."""
        self.jobs: Any = None
        """The index of a ``Tracker`` on this path, once there is one."""
        self._clock: Clock = clock or WallClock()
        self._held: Held | None = None
        self._holding = False
        self._depth = 0
        self._marked: dict[Key, None] = {}
        self.request: Request | None = None
        """Whose change the next one is; set and read under ``lock``."""
        state.opened = self
        state.settled = self._settled
        if isinstance(state.data, HandingDict):
            state.data.find_changed = self.find_changed
        close_in_forked_children(self)

    @property
    def writeable(self) -> bool:
        return not isinstance(self.machine, Reader)

    def now_ns(self) -> int:
        """The time, by the machine's clock."""
        return self._clock.time_ns()

    def initial(self, values: Any) -> Content:
        """What the dict holds when it is made. Raises ``CodecError``."""
        data = {}
        for key, value in dict(values).items():
            check_key(key)
            data[key], _ = self.values.take(value)
            enter_dict(self.state, key, data[key])
        return Content(data, set())

    # ---- changes of the dict itself

    def set(self, key: Key, value: Any) -> None:
        """Raises ``CodecError``, and what ``Machine.handle`` raises: nothing has changed then."""
        if type(key) is not str:
            check_key(key)
        if type(value) in SCALARS and self._tracked:
            stored = value
            try:
                payload = b'{"do":"set","args":' + encode_json((key, value)) + b"}"
            except UnicodeEncodeError as error:
                raise CodecError(f"cannot be stored as JSON: {error}") from error
        elif isinstance(value, Tracked) and dict.get(self.state.data, key) is value:
            return  # The end of `pod[key] += …`, which has told of itself.
        else:
            stored, text = self.values.take(value)
            payload = b'{"do":"set","args":[%b,%b]}' % (_key_text(key), text)
        with self.lock:
            if self._held is None:
                self._handle(payload, (dict_set, self.state, (key, stored), key))
            else:
                self._hold(payload, dict_set, self.state, (key, stored), key)

    def delete(self, key: Key) -> Any:
        """Takes a key out, and returns what it had. Raises ``KeyError``: nothing is journaled then."""
        with self.lock:
            value = self.state.data[key]
            self.answer(value)
            payload = b'{"do":"delete","args":[%b]}' % _key_text(key)
            self._submit(payload, dict_delete, self.state, (key,), key)
            return value

    def update(self, pairs: Iterable[tuple[Key, Any]]) -> None:
        """All of them in one entry, or none."""
        stored = []
        texts = []
        for key, value in dict(pairs).items():
            check_key(key)
            kept, text = self.values.take(value)
            stored.append((key, kept))
            texts.append(b"[%b,%b]" % (_key_text(key), text))
        if stored:
            payload = b'{"do":"update","args":[[%b]]}' % b",".join(texts)
            with self.lock:
                self._submit(payload, dict_update, self.state, (stored,), ALL)

    def clear(self) -> None:
        with self.lock:
            self._submit(b'{"do":"clear"}', dict_clear, self.state, (), ALL)

    # ---- changes of a container

    def change(self, owner: Any, do: str, args: list[Any]) -> None:
        """A change that a tracked container asks for; it has checked that the change can be made."""
        with self.lock:
            if self.closed:
                raise self.refusal()
            path = path_of(owner)
            function = function_for(owner, do)
            if path is not None:
                payload = self.values.text({"do": do, "path": path, "args": args})
                self._submit(payload, function, owner, args, path[0])
            elif self._held is not None and opened_of(owner) is self:
                # Some change that is held has taken it out, and undoing that must bring back what it was then.
                self._hold(None, function, owner, args, ALL)
            else:
                # It has left the dict between the call and here.
                function(owner, args, None)

    @staticmethod
    def inner_key(key: Any) -> str:
        """Raises ``CodecError`` for what cannot be a key inside a value."""
        if type(key) is not str:
            raise CodecError(
                f"a key inside a value cannot be of type {type(key).__qualname__}: {key!r}",
                hint="JSON has keys of text only; the keys of the dict itself may be int and tuple, too",
            )
        return key

    def _submit(self, payload: bytes, function: Any, owner: Any, args: Any, key: Any) -> None:
        if self._held is None:
            self._handle(payload, (function, owner, args, key))
        else:
            self._hold(payload, function, owner, args, key)

    def _handle(self, payload: bytes, call: Any) -> None:
        request = self.request
        if request is None:
            self.machine.handle(payload, call)
        else:
            self.request = None
            answer = request.answer
            if answer is not None:
                payload, call = self.state.answering(payload, call, answer)
            self.machine.handle(payload, call, client=request.client, counter=request.counter)

    def answer(self, value: Any) -> None:
        """Whoever asked for the change that comes next is told this. The caller holds ``lock``."""
        if self.request is not None and self.request.wants_answer:
            self.request.answer = value

    def _hold(self, payload: bytes | None, function: Any, owner: Any, args: Any, key: Any) -> None:
        assert self._held is not None
        # Paused: a snapshot must not be begun between the change and the note of how to undo it.
        with self.machine.paused():
            self._held.make(payload, function, owner, args, key)

    # ---- holding and transactions

    @property
    def holding(self) -> bool:
        return self._holding

    def hold(self) -> None:
        with self.lock:
            self._refuse_in_transaction("hold()")
            self._check_writeable()
            self._holding = True
            if self._held is None:
                self._held = Held(self.state, self)

    def unhold(self) -> None:
        with self.lock:
            self._refuse_in_transaction("unhold()")
            self.sync()
            self._holding = False
            if self._held is not None:
                self._held.settle()
            self._held = None

    def revert(self) -> None:
        with self.lock:
            self._refuse_in_transaction("revert()")
            self.find_changed()
            self._marked.clear()
            held = self._held
            if held is None:
                return
            with self.machine.paused():
                undone = held.undo()
                held.settle()
            self._held = Held(self.state, self) if self._holding else None
            for change in undone:
                # A snapshot taken meanwhile may hold an object as it was changed in place.
                if not self.values.tracked and change.key is not ALL and change.key in self.state.data:
                    self._save(change.key)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See ``PersistentDict.transaction``."""
        with self.lock:
            self._check_writeable()
            held = self._held
            if held is None:
                held = self._held = Held(self.state, self)
            mark = held.mark()
            self._depth += 1
            try:
                try:
                    yield
                    self.find_changed()
                finally:
                    self._depth -= 1
                if not self._depth and not self._holding:
                    self._flush()
            except BaseException:
                with self.machine.paused():
                    held.undo(mark)
                raise
            finally:
                if not self._depth and not self._holding:
                    held.settle()
                    self._held = None

    def _refuse_in_transaction(self, what: str) -> None:
        if self._depth:
            raise UsageError(f"{what} was called within a transaction", path=self.path)

    def _check_writeable(self) -> None:
        if self.closed:
            raise self.refusal()
        if isinstance(self.machine, Reader):
            self.machine.handle(b"")

    def _flush(self) -> None:
        """Journals what is held, as one entry. Raises what ``Machine.handle`` raises: it is still held then."""
        held = self._held
        if held is None:
            return
        payload = held.payload()
        if payload is None:
            held.settle()
        else:
            # Settled by the command itself: from its place in the journal on a snapshot holds these changes.
            self._handle(payload, call_of(held.settle))
        if self._holding:
            self._held = Held(self.state, self)

    @contextmanager
    def _settled(self) -> Iterator[None]:
        held = self._held
        if held is None or not len(held):
            yield
        else:
            with held.undone():
                yield

    # ---- synchronization

    def sync(self) -> None:
        """Journals what is held, marked or changed in place, and returns when all of it is durable."""
        with self.lock:
            self._refuse_in_transaction("sync()")
            if not self.writeable:
                return
            self.find_changed()
            self._flush()
            for key in list(self._marked):
                self._save(key)
        self.machine.sync()

    def sync_key(self, key: Key) -> None:
        """The same for one key; what is held of others stays held."""
        with self.lock:
            self._refuse_in_transaction("sync_key()")
            self._check_writeable()
            self.find_changed(only=key)
            held = self._held
            if held is not None and held.concerns_several:
                self._flush()
            elif held is not None and key in held.changed_keys():
                self._flush_key(held, key)
            if key in self._marked:
                self._save(key)
        self.machine.sync()

    def _flush_key(self, held: Held, key: Key) -> None:
        """Journals the held changes of one key. They are moved before the others, as the journal will have them."""
        with self.machine.paused():
            changes = held.undo()
        # Changes to containers that were taken out have no key: they stay in their order on the side of the others.
        chosen = [change for change in changes if _concerns_only(change, key)]
        others = [change for change in changes if not _concerns_only(change, key)]
        first = Held(self.state, self)
        self._held = first
        try:
            with self.machine.paused():
                first.redo(chosen)
            payload = payload_of(chosen)
            if payload is not None:
                self.machine.handle(payload, call_of(first.settle))
        except BaseException:
            with self.machine.paused():
                first.undo()
                others = changes
            raise
        finally:
            self._held = held
            with self.machine.paused():
                held.redo(others)

    def mark_dirty(self, key: Key) -> None:
        with self.lock:
            self._check_writeable()
            if key not in self.state.data:
                raise KeyError(key)
            self._marked[key] = None

    def dirty(self) -> builtins.set[Key]:
        """Keys with something that is not in the journal."""
        with self.lock:
            found = set(self._marked)
            if self._held is not None:
                held = self._held.changed_keys()
                found |= set(self.state.data) if ALL in held else held
            data = self.state.data
            if isinstance(data, HandingDict):
                encode = self.values.codec.encode
                found |= {key for key, value, before in self._handed_out() if encode(value) != before}
            return found

    def resave(self, key: Key) -> None:
        """Journals the whole value of a key, and returns when it is durable. Raises ``KeyError``."""
        self.mark_dirty(key)
        self.sync_key(key)

    def _save(self, key: Key) -> None:
        if key in self.state.data:
            value = dict.__getitem__(self.state.data, key)
            text = self.values.text(value)
            payload = b'{"do":"set","args":[%b,%b]}' % (_key_text(key), text)
            self.machine.handle(payload, call_of(lambda: self.state.regularize(key)))
        self._marked.pop(key, None)

    def find_changed(self, only: Key = ALL) -> None:
        """Journals each object that was changed in place since it was handed out.

        Raises:
            CodecError: one of them cannot be stored any more; the others were journaled.
        """
        if not isinstance(self.state.data, HandingDict):
            return
        failed: CodecError | None = None
        with self.lock:
            for key, value, before in self._handed_out():
                if only is not ALL and key != only:
                    continue
                try:
                    now = self.values.codec.encode(value)
                    if now != before:
                        self._submit_changed(key, value, before)
                        self.state.data.out[key] = value, now
                except CodecError as error:
                    failed = failed or CodecError(f"the value of {key!r}: {error.message}", hint=error.hint)
        if failed is not None:
            raise failed

    def _handed_out(self) -> list[tuple[Key, Any, bytes]]:
        data = self.state.data
        assert isinstance(data, HandingDict)
        found = []
        for key, (value, before) in list(data.out.items()):
            if dict.get(data, key) is value:
                found.append((key, value, before))
            else:
                data.out.pop(key, None)
        return found

    def _submit_changed(self, key: Key, value: Any, before: bytes) -> None:
        payload = b'{"do":"set","args":[%b,%b]}' % (_key_text(key), self.values.text(value))
        if self._held is None:
            self.machine.handle(payload, call_of(lambda: None))
        else:
            undo = (dict_set, self.state, [key, self.values.codec.decode(before)])
            with self.machine.paused():
                self._held.note(HeldChange(key, payload, dict_set, self.state, (key, value), [undo]))

    # ---- the end

    def close(self, *, snapshot: bool | None = None) -> None:
        """Journals what is held, makes all durable and lets go. Idempotent. Everything is let go of also where it
        raises.
        """
        with self.lock:
            if self.closed:
                return
            self._refuse_in_transaction("close()")
            self.closed = True
            try:
                if self.writeable:
                    self.find_changed()
                    self._flush()
                    for key in list(self._marked):
                        self._save(key)
            finally:
                self._held = None
                self._holding = False
                self.machine.close(snapshot=snapshot)

    def after_fork_in_child(self) -> None:
        # A thread that held it does not exist here.
        self.lock = threading.RLock()

    def refusal(self) -> PerdureError:
        """What whoever uses a handle that was closed is told, or changes a container of a dict that nobody has."""
        if self.is_forgotten:
            return ClosedError(
                "no PersistentDict on it is left in this process",
                path=self.path,
                hint="keep the PersistentDict in a variable for as long as you change what came out of it",
            )
        return ClosedError("it was closed", path=self.path, hint="open it again")


def _key_text(key: Key) -> bytes:
    try:
        return encode_json(key)
    except UnicodeEncodeError as error:
        raise CodecError(f"a key that cannot be stored as JSON: {error}") from error


def _concerns_only(change: HeldChange, key: Key) -> bool:
    return change.key is not ALL and bool(change.key == key)
