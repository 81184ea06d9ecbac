"""A class of somebody's own, to be shared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Self

from perdure import readonly


class OddError(Exception):
    """An error of somebody's own."""


class Wiki:
    """Pages by name."""

    title: str

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}

    def create(self, name: str, text: str) -> int:
        self.pages[name] = text
        return len(self.pages)

    @readonly
    def get(self, name: str) -> str:
        return self.pages[name]

    @readonly
    def names(self) -> Iterator[str]:
        yield from self.pages

    @property
    def count(self) -> int:
        return len(self.pages)

    @staticmethod
    def double(number: int) -> int:
        return number * 2

    @classmethod
    def kind(cls) -> str:
        return cls.__name__

    @readonly
    def function(self) -> Callable[[], int]:
        return lambda: 0

    def itself(self) -> Self:
        return self

    def fail(self) -> None:
        raise ValueError("no")

    def odd(self) -> None:
        raise OddError("odd", 7)

    def __setitem__(self, name: str, text: str) -> None:
        self.pages[name] = text

    def __getitem__(self, name: str) -> str:
        return self.pages[name]

    def __contains__(self, name: str) -> bool:
        return name in self.pages

    def __iter__(self) -> Iterator[str]:
        return iter(self.pages)

    def __len__(self) -> int:
        return len(self.pages)
