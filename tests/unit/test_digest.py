"""The digest of a state: the same for a copy, another one for another state, and never long in coming."""

from __future__ import annotations

import enum
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perdure.digest import digest


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Key:
    name: str
    part: Any = None


class Node:
    def __init__(self, name: str = "") -> None:
        self.name = name
        self.near: set[Node] = set()
        self.parent: Node | None = None


def chain(count: int, name: Callable[[int], str]) -> Node:
    """Each knows the next one by a set, and the one before."""
    first = last = Node(name(0))
    for number in range(1, count):
        following = Node(name(number))
        last.near.add(following)
        following.parent, last = last, following
    return first


def clique(count: int, name: Callable[[int], str]) -> list[Node]:
    nodes = [Node(name(number)) for number in range(count)]
    for node in nodes:
        node.near = set(nodes) - {node}
    return nodes


STATES = {
    "text": {"a", "b", "c"},
    "enums": set(Colour),
    "keys": {Key("a", 1), Key("a", 2), Key("b")},
    "keys in keys": {Key("a", Key("b", Key("c", number))) for number in range(3)},
    "sets in sets": frozenset({frozenset({Colour.RED, frozenset({Colour.BLUE, Key("a")})}), frozenset({"x"})}),
    "pairs": {("a", Colour.RED), ("a", Colour.BLUE)},
    "who look alike": {Node(), Node(), Node()},
    "a chain": chain(40, str),
    "a chain of who look alike": chain(40, lambda _: ""),
    "all know all": clique(30, str),
    "all know all, and look alike": clique(30, lambda _: ""),
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_a_copy_has_the_same_digest(state: Any) -> None:
    """Its sets are in another order: that goes by addresses where the members are objects."""
    copies = [pickle.loads(pickle.dumps(state)) for _ in range(5)]  # Of our own making.
    assert {digest(each) for each in copies} == {digest(state)}


def test_what_is_different_has_another_digest() -> None:
    one, other = Node("x"), Node("x")
    pair = {one, other}
    seen = {digest(each) for each in STATES.values()}
    assert len(seen) == len(STATES)
    before = digest(pair)
    other.parent = Node("far")
    after = digest(pair)
    other.parent.name = "away"
    assert len({before, after, digest(pair), digest({one})}) == 4
    assert digest({Key("a", Key("b", 1))}) != digest({Key("a", Key("b", 2))})


_SCRIPT = """
import abc
import enum
import multiprocessing
import sys

import perdure

class Colour(enum.Enum):
    RED = 1

class Page(abc.ABC):
    def __init__(self, name):
        self.name = name

class Wiki:
    def __init__(self):
        self.kinds = [Page, Colour.RED]
        self.pages = {Page("a"), Page("b")}

    def add(self, name):
        self.pages.add(Page(name))

def look():
    with perdure.open(Wiki, "wiki", mode="r") as wiki:
        print(perdure.control(wiki).digest(), flush=True)

if __name__ == "__main__":
    with perdure.open(Wiki, "wiki") as wiki:
        wiki.add("c")
    look()
    child = multiprocessing.get_context(sys.argv[1]).Process(target=look)
    child.start()
    child.join()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_script_and_its_children_see_one_digest(tmp_path: Path, method: str) -> None:
    (tmp_path / "script.py").write_text(_SCRIPT)
    ran = subprocess.run(
        [sys.executable, "script.py", method], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    in_script, in_child = ran.stdout.split()
    assert in_script == in_child
