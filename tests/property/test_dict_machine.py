"""A persistent dict beside a plain one: whatever is done to both, they stay equal, through crashes and restarts."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from perdure.mapping import PersistentDict, TrackedDict, TrackedList
from perdure.mapping._place import path_of, resolve

keys = st.sampled_from(["a", "b", "c", 0, 1, ("a", 1), ("a", ("b", 2))])
names = st.sampled_from(["x", "y", "z"])
scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.integers() | st.text(max_size=3) | st.floats(-2, 2)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
places = st.integers(-5, 5)
slices = st.builds(slice, st.none() | places, st.none() | places, st.none() | st.sampled_from([1, 2, -1, -2]))


class UndoError(Exception):
    """Ends a transaction."""


def containers(value: Any) -> Iterator[Any]:
    """All lists and dicts in a value, each before those inside it."""
    if isinstance(value, (list, dict)):
        yield value
        for inner in value if isinstance(value, list) else value.values():
            yield from containers(inner)


def plain(value: Any) -> str:
    """Equal for values that are equal in content and order; says 1, 1.0 and True apart."""
    if isinstance(value, (dict, PersistentDict)):
        return json.dumps([[repr(key), plain(inner)] for key, inner in value.items()])
    return json.dumps(value)


def sort(seq: list[Any]) -> None:
    """Where the order cannot be told, a tracked list stays as it is; a plain one may be left half sorted."""
    before = list(seq)
    try:
        seq.sort()
    except TypeError:
        if type(seq) is list:
            seq[:] = before
        raise


class DictMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.number = 0
        self.model: dict[Any, Any] = {}
        self.saved: dict[Any, Any] | None = None  # What revert() goes back to; None: nothing is held.

    @initialize(gzipped=st.booleans())
    def begin(self, gzipped: bool) -> None:
        self.gzipped = gzipped
        self.pod = self.open()

    def open(self) -> PersistentDict:
        return PersistentDict(self.folder / str(self.number), durability="never", gzipped=self.gzipped)

    def teardown(self) -> None:
        self.pod.close()
        shutil.rmtree(self.folder)

    def both(self, change: Callable[[Any], Any], ours: Any = None, theirs: Any = None) -> None:
        """Makes one change to both; results and errors must be the same, too."""
        outcomes = []
        for target in (self.pod if ours is None else ours, self.model if theirs is None else theirs):
            try:
                outcome = change(target)
                outcomes.append(None if outcome is target else copy.deepcopy(outcome))
            except (LookupError, TypeError, ValueError) as error:
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1]
        if theirs is not None:
            assert plain(ours) == plain(theirs)

    # ---- the dict itself

    @rule(key=keys, value=values)
    def set(self, key: Any, value: Any) -> None:
        mine = copy.deepcopy(value)
        self.pod[key] = mine
        self.model[key] = value
        for container in containers(mine):
            container.clear()  # What was put in is a copy.

    @rule(key=keys)
    def delete(self, key: Any) -> None:
        self.both(lambda target: target.__delitem__(key))

    @rule(key=keys, default=scalars)
    def pop(self, key: Any, default: Any) -> None:
        self.both(lambda target: target.pop(key, default))

    @rule(key=keys, value=values)
    def setdefault(self, key: Any, value: Any) -> None:
        self.both(lambda target: target.setdefault(key, copy.deepcopy(value)))

    @rule(pairs=st.lists(st.tuples(keys, values), max_size=3))
    def update(self, pairs: list[Any]) -> None:
        self.both(lambda target: target.update(copy.deepcopy(pairs)))

    @rule()
    def popitem(self) -> None:
        self.both(lambda target: target.popitem())

    @rule()
    def clear(self) -> None:
        self.both(lambda target: target.clear())

    # ---- containers, at any depth

    def pair(self, data: st.DataObject, kind: type) -> tuple[Any, Any] | None:
        ours = [inner for value in self.pod.values() for inner in containers(value)]
        theirs = [inner for value in self.model.values() for inner in containers(value)]
        positions = [position for position, inner in enumerate(ours) if isinstance(inner, kind)]
        if not positions:
            return None
        position = data.draw(st.sampled_from(positions))
        return ours[position], theirs[position]

    @rule(data=st.data(), value=values, more=st.lists(values, max_size=3), place=places, part=slices)
    def change_list(self, data: st.DataObject, value: Any, more: list[Any], place: int, part: slice) -> None:
        pair = self.pair(data, list)
        if pair is None:
            return
        changes: list[Callable[[Any], Any]] = [
            lambda seq: seq.append(copy.deepcopy(value)),
            lambda seq: seq.extend(copy.deepcopy(more)),
            lambda seq: seq.insert(place, copy.deepcopy(value)),
            lambda seq: seq.pop(place),
            lambda seq: seq.pop(),
            lambda seq: seq.remove(value),
            lambda seq: seq.__setitem__(place, copy.deepcopy(value)),
            lambda seq: seq.__setitem__(part, copy.deepcopy(more)),
            lambda seq: seq.__delitem__(place),
            lambda seq: seq.__delitem__(part),
            sort,
            lambda seq: seq.sort(key=repr, reverse=True),
            lambda seq: seq.reverse(),
            lambda seq: seq.clear(),
            lambda seq: seq.__iadd__(copy.deepcopy(more)),
        ]
        self.both(data.draw(st.sampled_from(changes)), *pair)

    @rule(data=st.data(), times=st.integers(-1, 2))
    def repeat_list(self, data: st.DataObject, times: int) -> None:
        pair = self.pair(data, list)
        if pair is not None and len(pair[1]) * times < 20:
            ours, theirs = pair
            ours *= times
            # Copies, where a plain list would hold one container twice.
            theirs[:] = [copy.deepcopy(value) for _ in range(times) for value in theirs]
            assert plain(ours) == plain(theirs)

    @rule(key=keys, more=st.lists(values, max_size=2))
    def add_in_place(self, key: Any, more: list[Any]) -> None:
        if isinstance(self.model.get(key), list):
            self.pod[key] += copy.deepcopy(more)
            self.model[key] += more

    @rule(data=st.data(), name=names, value=values, more=st.dictionaries(names, values, max_size=2))
    def change_dict(self, data: st.DataObject, name: str, value: Any, more: dict[str, Any]) -> None:
        pair = self.pair(data, dict)
        if pair is None:
            return
        changes: list[Callable[[Any], Any]] = [
            lambda d: d.__setitem__(name, copy.deepcopy(value)),
            lambda d: d.__delitem__(name),
            lambda d: d.pop(name),
            lambda d: d.pop(name, 1),
            lambda d: d.popitem(),
            lambda d: d.setdefault(name, copy.deepcopy(value)),
            lambda d: d.update(copy.deepcopy(more)),
            lambda d: d.__ior__(copy.deepcopy(more)),
            lambda d: d.clear(),
        ]
        self.both(data.draw(st.sampled_from(changes)), *pair)

    @rule(data=st.data(), more=st.dictionaries(names, values, max_size=2), dropped=st.sets(names))
    def edit_dict(self, data: st.DataObject, more: dict[str, Any], dropped: set[str]) -> None:
        pair = self.pair(data, dict)
        if pair is not None:
            pair[0].edit(more, sorted(dropped))
            pair[1].update(copy.deepcopy(more))
            for name in dropped - set(more):
                pair[1].pop(name, None)

    @rule(data=st.data(), key=keys)
    def popped_containers_are_ordinary(self, data: st.DataObject, key: Any) -> None:
        if isinstance(self.model.get(key), (list, dict)):
            out = self.pod.pop(key)
            self.model.pop(key)
            seq = self.pod._opened.machine.seq
            for container in list(containers(out)):
                container.clear()
            assert self.pod._opened.machine.seq == seq

    # ---- several changes at once

    def some_changes(self, data: st.DataObject) -> None:
        for _ in range(data.draw(st.integers(0, 4))):
            what = data.draw(st.sampled_from(["set", "delete", "list", "dict", "edit", "update", "popped", "clear"]))
            if what == "set":
                self.set(data.draw(keys), data.draw(values))
            elif what == "delete":
                self.delete(data.draw(keys))
            elif what == "update":
                self.update(data.draw(st.lists(st.tuples(keys, values), max_size=3)))
            elif what == "list":
                more = data.draw(st.lists(values, max_size=3))
                self.change_list(data, data.draw(values), more, data.draw(places), data.draw(slices))
            elif what == "dict":
                more = data.draw(st.dictionaries(names, values, max_size=2))
                self.change_dict(data, data.draw(names), data.draw(values), more)
            elif what == "edit":
                more = data.draw(st.dictionaries(names, values, max_size=2))
                self.edit_dict(data, more, data.draw(st.sets(names)))
            elif what == "popped":
                self.popped_containers_are_ordinary(data, data.draw(keys))
            else:
                self.clear()

    @rule(data=st.data())
    def transaction(self, data: st.DataObject) -> None:
        with self.pod.transaction():
            self.some_changes(data)

    @rule(data=st.data(), inner=st.booleans())
    def failing_transaction(self, data: st.DataObject, inner: bool) -> None:
        before = copy.deepcopy(self.model)
        held_by_us = [path for value in self.pod.values() for path in map(id, containers(value))]
        seq = self.pod._opened.machine.seq
        try:
            with self.pod.transaction():
                self.some_changes(data)
                if inner:
                    middle = copy.deepcopy(self.model)
                    try:
                        with self.pod.transaction():
                            self.some_changes(data)
                            raise UndoError
                    except UndoError:
                        self.model = middle
                        assert plain(self.pod) == plain(self.model)
                raise UndoError
        except UndoError:
            self.model = before
        assert [path for value in self.pod.values() for path in map(id, containers(value))] == held_by_us
        assert self.pod._opened.machine.seq == seq

    @precondition(lambda self: self.saved is None)
    @rule()
    def hold(self) -> None:
        self.pod.hold()
        self.saved = copy.deepcopy(self.model)

    @precondition(lambda self: self.saved is not None)
    @rule()
    def unhold(self) -> None:
        self.pod.unhold()
        self.saved = None

    @precondition(lambda self: self.saved is not None)
    @rule()
    def revert(self) -> None:
        self.pod.revert()
        assert self.saved is not None
        self.model = copy.deepcopy(self.saved)

    @precondition(lambda self: self.saved is not None)
    @rule(key=keys)
    def sync_key(self, key: Any) -> None:
        self.pod.sync_key(key)
        # The order of keys follows the journal: what was synced comes before what is still held.
        assert dict(self.pod.items()) == self.model
        self.model = {key: self.model[key] for key in self.pod}
        held = self.pod._opened._held
        with held.undone():
            self.saved = copy.deepcopy(dict(self.pod.items()))
        assert not self.pod.dirty() or key not in self.pod.dirty()

    @rule()
    def sync(self) -> None:
        self.pod.sync()
        if self.saved is not None:
            self.saved = copy.deepcopy(self.model)
        assert not self.pod.dirty()

    @rule(data=st.data())
    def resave(self, data: st.DataObject) -> None:
        texts = [key for key in self.model if isinstance(key, str)]
        if texts and self.saved is None:
            self.pod.update(data.draw(st.sampled_from(texts)))

    # ---- snapshots, restarts, crashes

    @rule()
    def snapshot(self) -> None:
        self.pod._opened.machine.snapshot()

    @rule()
    def reopen(self) -> None:
        self.pod.close()
        self.saved = None
        self.pod = self.open()

    @rule()
    def crash(self) -> None:
        """Another process finds the files as they are at this moment."""
        old = self.folder / str(self.number)
        self.number += 1
        shutil.copytree(old, self.folder / str(self.number))
        pod, self.pod = self.pod, self.open()
        pod.close()
        if self.saved is not None:
            self.model, self.saved = self.saved, None

    @invariant()
    def equal(self) -> None:
        assert plain(self.pod) == plain(self.model)

    @invariant()
    def every_container_knows_its_place(self) -> None:
        state = self.pod._opened.state
        for value in self.pod.values():
            for container in containers(value):
                assert isinstance(container, (TrackedList, TrackedDict))
                path = path_of(container)
                assert path is not None
                assert resolve(state, path) is container


TestDictMachine = DictMachine.TestCase
