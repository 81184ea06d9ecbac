"""What the server's tests serve."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Iterator

from perdure import abort_exception, readonly


class Page:
    """A class of the package: plain, known to no codec but the restricted one."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Page) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class OutOfPagesError(Exception):
    """An exception of the package."""


@dataclasses.dataclass
class Note:
    """Travels in every format."""

    text: str
    at: datetime.datetime
    tags: list[str] = dataclasses.field(default_factory=list)


class Wiki:
    """Pages, notes and counters.

    For tests.
    """

    kind = "wiki"

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.notes: list[Note] = []
        self.counts: dict[str, int] = {}

    def write(self, name: str, text: str = "") -> int:
        """Write a page. Returns how many there are."""
        self.pages[name] = Page(name, text)
        return len(self.pages)

    def put(self, page: Page) -> int:
        """Put a page that somebody else made."""
        self.pages[page.name] = page
        return len(self.pages)

    def add_note(self, note: Note, *tags: str, pinned: bool = False) -> int:
        """Add a note."""
        note.tags.extend(tags)
        self.notes.insert(0 if pinned else len(self.notes), note)
        return len(self.notes)

    def count(self, name: str) -> int:
        """One more of that name."""
        self.counts[name] = self.counts.get(name, 0) + 1
        return self.counts[name]

    def take(self, anything):  # type: ignore[no-untyped-def]
        """Keep whatever comes."""
        self.anything = anything
        return anything

    def fail(self, count: int) -> None:
        """Always raises."""
        raise OutOfPagesError(count)

    @abort_exception
    def change_and_fail(self) -> None:
        """Raises, and leaves nothing."""
        self.counts["changed"] = 1
        raise ValueError("no")

    def crawl(self, seconds: float) -> str:
        """A command that takes long."""
        time.sleep(seconds)
        return "done"

    def itself(self):  # type: ignore[no-untyped-def]
        """Returns the wiki."""
        return self

    def maker(self):  # type: ignore[no-untyped-def]
        """Returns what nobody can send."""
        self.counts["made"] = self.counts.get("made", 0) + 1
        return lambda: None

    @readonly
    def page(self, name: str) -> Page:
        """A page by its name."""
        return self.pages[name]

    @readonly
    def names(self, prefix: str = "") -> list[str]:
        """The names that begin so."""
        return sorted(name for name in self.pages if name.startswith(prefix))

    @readonly
    def counted(self, name: str) -> int:
        """How often it was counted."""
        return self.counts.get(name, 0)

    @readonly
    def each_name(self) -> Iterator[str]:
        """The names, one at a time."""
        yield from self.pages

    @readonly
    def days(self, first: datetime.date, last: datetime.date) -> int:
        """Between two dates."""
        return (last - first).days

    @readonly
    def wait(self, seconds: float) -> str:
        """A query that takes long."""
        time.sleep(seconds)
        return "waited"

    @readonly
    def read_anything(self):  # type: ignore[no-untyped-def]
        """What ``take`` kept."""
        return self.anything

    @readonly
    def unsendable(self):  # type: ignore[no-untyped-def]
        """Returns what nobody can send."""
        return lambda: None

    @property
    def size(self) -> int:
        """How many pages."""
        return len(self.pages)

    @staticmethod
    def static() -> int:
        """No method of an object."""
        return 1

    @classmethod
    def of_class(cls) -> int:
        """No method of an object."""
        return 1

    def _private(self) -> int:
        return 1

    def __len__(self) -> int:
        return len(self.pages)


class NewerWiki(Wiki):
    """What a client may have, and the server has not yet."""

    def brand_new(self) -> None:
        """Is not there."""
