"""The classes whose instances lie in the golden directories. They never change: the files name them and their code."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
from typing import Any

import perdure


class Mood(enum.Enum):
    CALM = "calm"
    LOUD = "loud"


@dataclasses.dataclass
class Note:
    text: str
    written: datetime.datetime
    mood: Mood = Mood.CALM
    tags: tuple[str, ...] = ()


class Notes:
    """A system with one of everything that a journal can hold."""

    def __init__(self) -> None:
        self.notes: dict[str, Note] = {}
        self.drawn: list[Any] = []
        self.total = decimal.Decimal(0)
        self.members: set[str] = set()

    def write(self, name: str, text: str) -> None:
        self.notes[name] = Note(text, perdure.clock.now())

    def put(self, name: str, note: Note, *, again: bool = False) -> None:
        self.notes[name] = note
        if again:
            self.notes[name + "-again"] = note

    def draw(self) -> None:
        self.drawn.append(perdure.rng.getrandbits(64))
        self.drawn.append(str(perdure.uuid4()))
        self.drawn.append(perdure.clock.time())

    def add(self, amount: decimal.Decimal, members: set[str]) -> None:
        self.total += amount
        self.members |= members

    def half(self) -> None:
        self.drawn.append("half")
        raise ValueError("the other half is missing")

    @perdure.abort_exception
    def nothing(self) -> None:
        self.drawn.append("nothing")
        raise KeyError("left nothing")

    @perdure.readonly
    def view(self) -> dict[str, Any]:
        """The state as plain data, for ``expected.json``."""
        return {
            "notes": {
                name: [note.text, note.written.isoformat(), note.mood.value, list(note.tags)]
                for name, note in self.notes.items()
            },
            "drawn": list(self.drawn),
            "total": str(self.total),
            "members": sorted(self.members),
            "shared": self.notes.get("Put") is not None and self.notes.get("Put") is self.notes.get("Put-again"),
        }


class Plain:
    """A system of plain data, for the plain codecs."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def add(self, row: Any) -> None:
        self.rows.append(row)

    @perdure.readonly
    def view(self) -> dict[str, Any]:
        return {"rows": self.rows}
