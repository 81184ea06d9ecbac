"""Classes that the tests of systems open."""

from __future__ import annotations

import abc
import collections
import dataclasses
import datetime
import random
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

import perdure
from perdure import abort_exception, readonly, unlocked
from tests.unit.system.interrupting import strike


class Page:
    def __init__(self, name: str, text: str, made: datetime.datetime) -> None:
        self.name = name
        self.text = text
        self.made = made


class Wiki:
    """Pages by name, with what a class usually has."""

    kind = "wiki"

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.log: list[str] = []
        self._title = "untitled"

    def create(self, name: str, text: str = "") -> str:
        if name in self.pages:
            raise KeyError(name)
        self.pages[name] = Page(name, text, perdure.clock.now())
        return name

    def edit(self, name: str, text: str) -> None:
        self.pages[name].text = text

    def fail_half_way(self, name: str) -> None:
        self.log.append(name)
        raise ValueError(f"half way: {name}")

    @abort_exception
    def guarded(self, name: str) -> None:
        if name in self.pages:
            raise KeyError(name)
        self.log.append(name)

    @abort_exception
    def all_or_nothing(self, *names: str) -> int:
        for name in names:
            self.log.append(name)
            if not name:
                raise ValueError("a name is empty")
        return len(self.log)

    def take(self, items: list[Any]) -> list[Any]:
        """Consumes its argument."""
        taken = []
        while items:
            taken.append(items.pop())
        self.log.extend(map(str, taken))
        return taken

    def interrupted(self, kind: str) -> None:
        self.log.append(kind)
        strike(kind)

    def chain(self) -> Wiki:
        self.log.append("chain")
        return self

    def several(self, count: int) -> int:
        for number in range(count):
            self.note(f"{number}")
        return len(self.log)

    def note(self, text: str) -> None:
        self.log.append(text)

    def draw(self) -> tuple[float, str]:
        drawn = perdure.rng.random(), str(perdure.uuid4())
        self.log.append(repr(drawn))
        return drawn

    @readonly
    def text_of(self, name: str) -> str:
        return self.pages[name].text

    @readonly
    def count(self) -> int:
        return len(self.pages)

    @unlocked
    @readonly
    def unlocked_count(self) -> int:
        return len(self.pages)

    @readonly
    def walk(self) -> Iterator[str]:
        yield from list(self.pages)

    @property
    def title(self) -> str:
        return self._title

    @title.setter
    def title(self, value: str) -> None:
        self._title = value

    @title.deleter
    def title(self) -> None:
        self._title = "deleted"

    @staticmethod
    def twice(number: int) -> int:
        return 2 * number

    @classmethod
    def named(cls) -> str:
        return cls.__name__

    def __len__(self) -> int:
        return len(self.pages)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, name: str) -> bool:
        return name in self.pages

    def __getitem__(self, name: str) -> str:
        return self.pages[name].text

    def __setitem__(self, name: str, text: str) -> None:
        self.pages[name] = Page(name, text, perdure.clock.now())

    def __delitem__(self, name: str) -> None:
        del self.pages[name]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self.pages))

    def __iadd__(self, name: str) -> Wiki:
        self.log.append(name)
        return self

    def __call__(self, text: str) -> str:
        self.log.append(text)
        return text


class Counter:
    """The smallest state: a number, and the numbers added."""

    def __init__(self, start: int = 0) -> None:
        self.total = start
        self.added: list[int] = []

    def add(self, number: int = 1) -> int:
        self.total += number
        self.added.append(number)
        return self.total

    def refuse(self) -> None:
        raise ValueError("no")

    @readonly
    def get(self) -> int:
        return self.total


class Slotted:
    __slots__ = ("name", "values")

    def __init__(self) -> None:
        self.name = "slotted"
        self.values: list[int] = []

    def add(self, value: int) -> int:
        self.values.append(value)
        return len(self.values)

    @readonly
    def last(self) -> int:
        return self.values[-1]

    @property
    def size(self) -> int:
        return len(self.values)


@dataclasses.dataclass
class Point:
    x: int = 0
    y: int = 0
    trail: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    def move(self, dx: int, dy: int) -> None:
        self.trail.append((self.x, self.y))
        self.x += dx
        self.y += dy


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self) -> float: ...

    def __init__(self) -> None:
        self.scale = 1.0

    def grow(self, factor: float) -> None:
        self.scale *= factor


class Square(Shape):
    @readonly
    def area(self) -> float:
        return self.scale * self.scale


class Registered:
    """Knows its subclasses."""

    known: list[str] = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Registered.known.append(cls.__name__)

    def __init__(self) -> None:
        self.n = 0

    def add(self) -> None:
        self.n += 1


class Child(Registered):
    pass


class Session:
    """A context manager of its own."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __enter__(self) -> Session:
        self.events.append("enter")
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        self.events.append(f"exit {kind.__name__ if kind else None}")
        return kind is ValueError

    def add(self, text: str) -> None:
        self.events.append(text)


class Owner:
    """Has names of its own where a proxy would have perdure's."""

    def __init__(self) -> None:
        self.closed_by_owner = 0

    def close(self) -> str:
        self.closed_by_owner += 1
        return "mine"

    def take_snapshot(self) -> str:
        return "mine too"


class Plain:
    """Only what JSON and MessagePack store."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.items: list[Any] = []

    def put(self, key: str, value: Any) -> None:
        self.data[key] = value
        self.items.append(key)


class Loose:
    """Not deterministic in ways that reading its methods does not show; opened with ``validate="off"``."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.seen = 0

    def chance(self) -> None:
        self.values.append(random.random())

    def steady(self) -> int:
        self.values.append(1.0)
        return len(self.values)

    @readonly
    def lying(self) -> int:
        self.seen += 1
        return self.seen

    @readonly
    def honest(self) -> list[float]:
        return self.values


class Bag(collections.UserDict):  # type: ignore[type-arg]
    pass


T = TypeVar("T")


class Stack(Generic[T]):
    def __init__(self) -> None:
        self.items: list[T] = []

    @classmethod
    def empty(cls) -> Stack[T]:
        return cls()

    def push(self, item: T) -> None:
        self.items.append(item)


@dataclasses.dataclass(slots=True)
class Size:
    width: int = 1
    height: int = 1

    def grow(self) -> None:
        self.width += 1


class Keeping:
    """Its attributes live in a dict of its own."""

    def __init__(self) -> None:
        object.__setattr__(self, "kept", {})

    def __setattr__(self, name: str, value: object) -> None:
        self.kept[name] = value
