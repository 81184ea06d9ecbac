"""Classes that replicas of the tests follow."""

from __future__ import annotations

import itertools
from typing import Any

import perdure

calls = itertools.count()


class Wiki:
    """Pages by name."""

    def __init__(self) -> None:
        self.pages: dict[str, Any] = {}

    def put(self, name: str, content: Any) -> int:
        if content is None:
            raise ValueError(name)
        self.pages[name] = content
        return len(self.pages)

    @perdure.abort_exception
    def put_and_fail(self, name: str) -> None:
        self.pages[name] = "never"
        raise KeyError(name)

    @perdure.readonly
    def get(self, name: str) -> Any:
        return self.pages[name]


class Counted:
    """Numbers in the order in which they came, so that a missing or a repeated one is seen."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def add(self, number: int) -> None:
        self.numbers.append(number)


class Impure:
    """Keeps something that is another value each time it is asked for, in any copy."""

    def __init__(self) -> None:
        self.values: list[int] = []

    def add(self) -> None:
        self.values.append(next(calls))
