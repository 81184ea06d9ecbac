"""A system against a plain object: commands, errors, snapshots, reopening and power losses, drawn by Hypothesis."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import perdure
from perdure.testing import assert_replayable
from tests.unit.system.interrupting import strike_once
from tests.unit.system.models import Wiki

names = st.sampled_from(["a", "b", "c", ""])


class SystemMachine(RuleBasedStateMachine):
    """``plain`` is what the system must look like. A power loss keeps what is on the disk now, plus torn bytes."""

    def __init__(self) -> None:
        super().__init__()
        parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.place = tempfile.mkdtemp(prefix="perdure-", dir=parent)
        self.number = 0
        self.wiki: Any = None
        self.plain = Wiki()
        self.options: dict[str, Any] = {}

    @property
    def directory(self) -> str:
        return os.path.join(self.place, str(self.number))

    @initialize(
        durability=st.sampled_from(["always", "everysec", "never"]),
        rollback=st.sampled_from(["restore", "shadow"]),
        keep_history=st.booleans(),
        secret=st.sampled_from([None, b"key"]),
    )
    def open_it(self, **options: Any) -> None:
        self.options = options
        self.wiki = perdure.open(Wiki, self.directory, **options)

    def both(self, method: str, *args: Any, undone: bool = False) -> None:
        """Calls a method of both, and compares what comes of it."""
        before = list(self.plain.log)
        outcomes = []
        for target in (self.plain, self.wiki):
            try:
                outcomes.append(getattr(target, method)(*args))
            except (KeyError, ValueError) as error:
                outcomes.append((type(error), error.args))
                if target is self.plain and undone:
                    self.plain.log = before
        assert outcomes[0] == outcomes[1]

    @rule(name=names, text=st.text(max_size=3))
    def create(self, name: str, text: str) -> None:
        self.both("create", name, text)

    @rule(name=names)
    def edit(self, name: str) -> None:
        if name in self.plain.pages:
            self.both("edit", name, "edited")

    @rule(name=names)
    def raise_half_way(self, name: str) -> None:
        self.both("fail_half_way", name)

    @rule(given=st.lists(names, max_size=3))
    def all_or_nothing(self, given: list[str]) -> None:
        self.both("all_or_nothing", *given, undone=True)

    @rule(name=names)
    def guarded(self, name: str) -> None:
        self.both("guarded", name, undone=True)

    @rule(items=st.lists(st.integers(), max_size=3))
    def take(self, items: list[int]) -> None:
        self.plain.take(list(items))
        self.wiki.take(items)

    @rule()
    def interrupted(self) -> None:
        strike_once("drawn", KeyboardInterrupt())
        try:
            self.wiki.interrupted("drawn")
        except KeyboardInterrupt:
            return
        raise AssertionError("not interrupted")

    @rule(value=st.integers())
    def set_an_attribute(self, value: int) -> None:
        self.plain.title = self.wiki.title = str(value)

    @rule()
    def refuse_an_argument(self) -> None:
        try:
            self.wiki.note(os)
        except perdure.CodecError:
            return
        raise AssertionError("a module was stored")

    @rule()
    def take_a_snapshot(self) -> None:
        perdure.control(self.wiki).take_snapshot()

    @rule(snapshot=st.booleans())
    def reopen(self, snapshot: bool) -> None:
        perdure.control(self.wiki)._system.machine.close(snapshot=snapshot)  # type: ignore[union-attr]
        self.wiki = perdure.open(Wiki, self.directory, **self.options)

    @rule(torn=st.binary(max_size=30))
    @precondition(lambda self: self.wiki is not None)
    def lose_power(self, torn: bytes) -> None:
        """Of what was answered and synced nothing may be missing; what the tail may hold besides is torn."""
        # So that the last segment has no seal: nothing follows that.
        self.both("note", "before")
        perdure.control(self.wiki).sync()
        old = self.directory
        self.number += 1
        shutil.copytree(old, self.directory)
        segments = sorted(name for name in os.listdir(self.directory) if name.startswith("journal-"))
        if segments and torn:
            with open(os.path.join(self.directory, segments[-1]), "ab") as file:
                file.write(b"\xd7PJ1" + torn)
        perdure.control(self.wiki)._system.machine.close(snapshot=False)  # type: ignore[union-attr]
        shutil.rmtree(old)
        self.wiki = perdure.open(Wiki, self.directory, **self.options)

    @rule()
    def replay(self) -> None:
        assert_replayable(self.wiki)

    @invariant()
    def it_looks_like_the_plain_object(self) -> None:
        if self.wiki is not None:
            assert self.wiki.log == self.plain.log
            assert self.wiki.title == self.plain.title
            assert {name: page.text for name, page in self.wiki.pages.items()} == {
                name: page.text for name, page in self.plain.pages.items()
            }

    def teardown(self) -> None:
        if self.wiki is not None:
            perdure.control(self.wiki).close()
        shutil.rmtree(self.place)


SystemMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25)
TestSystem = SystemMachine.TestCase
