"""A user's module, for the tests of codecs: classes, a function, and names that come from elsewhere."""

from __future__ import annotations

import enum
from collections import namedtuple
from dataclasses import dataclass, field
from os import system
from subprocess import Popen

__all__ = ["Popen", "system"]

constant = {"a": 1}


def delete_everything(*_args: object) -> None:
    raise AssertionError("a function of the user's module was called")


def __getattr__(name: str) -> object:
    raise AssertionError(f"the module's __getattr__ was called for {name}")


class Page:
    kind = "page"

    def __init__(self, title: str, links: list[Page] | None = None) -> None:
        self.title = title
        self.links = links or []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Page) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    class Nested:
        pass


@dataclass(slots=True)
class Slotted:
    title: str
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    title: str


class OldSlots:
    __slots__ = ("title",)

    def __init__(self, title: str) -> None:
        self.title = title


class Color(enum.Enum):
    RED = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


Point = namedtuple("Point", "x y")


class TrackedDict(dict):
    pass


class TrackedList(list):
    pass


class NeedsTwoError(Exception):
    """Pickles, and cannot be made again from its ``args``."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)
