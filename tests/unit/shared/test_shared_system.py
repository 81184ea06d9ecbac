"""Systems that many processes share: ``perdure.open(…, shared=True)``."""

from __future__ import annotations

import copy
import datetime
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.errors import ClosedError, CodecError, NotDeterministicError, UsageError
from tests.unit.shared._processes import DEADLINE_S
from tests.unit.shared._wiki import OddError, Wiki

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def own_and_wait(path: str, ready: Any, end: Any) -> None:
    wiki = perdure.open(Wiki, path, shared=True)
    ready.set()
    end.wait()
    wiki.close()  # type: ignore[attr-defined]


@pytest.fixture(params=["owner", "client"])
def wiki(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Wiki]:
    """The same handle twice: in the process that owns the directory, and in another one."""
    child = None
    context = multiprocessing.get_context("fork")
    ready, end = context.Event(), context.Event()
    if request.param == "client":
        child = context.Process(target=own_and_wait, args=(str(tmp_path / "w"), ready, end))
        child.start()
        ready.wait(DEADLINE_S)
    opened = perdure.open(Wiki, tmp_path / "w", shared=True)
    assert perdure.control(opened).is_owner == (child is None)  # type: ignore[attr-defined]
    yield opened
    perdure.control(opened).close()
    if child is not None:
        end.set()
        child.join(DEADLINE_S)
        assert child.exitcode == 0
        child.close()


def test_it_looks_like_the_object(wiki: Wiki) -> None:
    assert isinstance(wiki, Wiki)
    assert wiki.create("a", "text") == 1
    assert wiki.get("a") == "text"
    assert wiki.pages == {"a": "text"}
    assert wiki.count == 1
    assert list(wiki.names()) == ["a"]
    assert Wiki.double(3) == wiki.double(3) == 6
    assert wiki.kind() == "Wiki"
    assert wiki.itself() is wiki
    wiki["b"] = "other"
    assert wiki["b"] == "other"
    assert "b" in wiki
    assert len(wiki) == 2
    assert sorted(wiki) == ["a", "b"]
    wiki.title = "mine"
    assert wiki.title == "mine"
    del wiki.title
    with pytest.raises(AttributeError, match="title"):
        wiki.title
    assert type(copy.copy(wiki)) is Wiki
    assert copy.deepcopy(wiki).pages == {"a": "text", "b": "other"}
    assert "pages" in dir(wiki)


def test_what_comes_out_is_a_copy(wiki: Wiki) -> None:
    wiki.create("a", "text")
    wiki.pages["a"] = "changed"
    assert wiki.pages == {"a": "text"}


def test_errors_come_back_as_themselves(wiki: Wiki) -> None:
    with pytest.raises(ValueError, match=r"^no$"):
        wiki.fail()
    with pytest.raises(OddError) as raised:
        wiki.odd()
    assert raised.value.args == ("odd", 7)
    with pytest.raises(KeyError):
        wiki.get("missing")
    with pytest.raises(CodecError, match="argument 1"):
        wiki.create(lambda: 0, "x")  # type: ignore[arg-type]
    with pytest.raises(CodecError, match="cannot be handed over"):
        wiki.function()
    assert wiki.count == 0


def test_control_goes_as_far_as_it_makes_sense(wiki: Wiki) -> None:
    control = perdure.control(wiki)
    for number in range(3):
        wiki.create(f"p{number}", "x")
    assert control.seq == 3
    assert control.durable_seq == 3
    assert control.path.endswith("/w")
    assert [command.args for command in control.history(after=1)] == [("p1", "x"), ("p2", "x")]
    assert list(control.at(1).pages) == ["p0"]
    assert list(control.at(datetime.datetime.now(datetime.UTC)).pages) == ["p0", "p1", "p2"]
    assert control.take_snapshot() == 3
    assert control.sync() == 3
    assert len(control.digest()) == 64
    assert control.report.snapshot_seq == 0
    with pytest.raises(UsageError, match="nobody"):
        control.subscribe(print)
    assert not control.closed
    control.close()
    assert control.closed
    with pytest.raises(ClosedError):
        wiki.get("p1")


def create_in_a_child(wiki: Wiki, name: str) -> None:
    wiki.create(name, "from a child")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_handle_goes_to_a_child(wiki: Wiki, method: str) -> None:
    child = multiprocessing.get_context(method).Process(target=create_in_a_child, args=(wiki, "a"))
    child.start()
    child.join(DEADLINE_S)
    assert child.exitcode == 0
    child.close()
    assert wiki.get("a") == "from a child"


def count_up(path: str, number: int) -> None:
    wiki = perdure.open(Wiki, path, shared=True, durability="everysec")
    for position in range(40):
        wiki.create(f"{number}-{position}", "x")
        if position == 20 and number % 2:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGKILL)


def test_nothing_acknowledged_is_lost_when_processes_are_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=count_up, args=(str(tmp_path / "w"), number)) for number in range(6)]
    for child in children:
        child.start()
    for child in children:
        child.join(DEADLINE_S)
        child.close()
    with perdure.open(Wiki, tmp_path / "w") as wiki:  # type: ignore[attr-defined]
        expected = {f"{n}-{i}" for n in range(6) for i in range(21 if n % 2 else 40)}
        assert set(wiki.pages) == expected


@pytest.mark.parametrize("kind", [dict, list, set])
def test_built_in_types(kind: type, tmp_path: Path) -> None:
    with perdure.open(kind, tmp_path / "x", shared=True) as shared:
        if kind is dict:
            shared["a"] = [1]
            assert shared == {"a": [1]}
            assert list(shared.items()) == [("a", [1])]
        elif kind is list:
            shared.append(1)
            shared += [2]
            assert shared == [1, 2]
        else:
            shared.add(1)
            assert shared == {1}
        assert len(shared) in (1, 2)
        assert 1 in shared or kind is dict
    with perdure.open(kind, tmp_path / "x") as alone:
        assert len(alone) in (1, 2)


def test_what_makes_no_sense_is_refused(wiki: Wiki, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="durability"):
        perdure.open(Wiki, tmp_path / "w", shared=True, durability="never")
    with pytest.raises(UsageError, match="class"):
        perdure.open(dict, tmp_path / "w", shared=True)
    with pytest.raises(UsageError, match="needs a directory"):
        perdure.open(Wiki, perdure.MEMORY, shared=True)
    with pytest.raises(UsageError, match="needs a directory"):
        perdure.open(Wiki, tmp_path / "w", shared=True, mode="r")
    with pytest.raises(NotDeterministicError):
        perdure.open(Undetermined, tmp_path / "u", shared=True)
    assert wiki.count == 0


class Undetermined:
    """Asks the clock."""

    def now(self) -> None:
        self.at = datetime.datetime.now()
