"""A wiki, as plain as one writes it: nothing here knows that it will outlive the process."""

from __future__ import annotations

import datetime

import perdure


class Page:
    """One page and when it was last changed."""

    def __init__(self, name: str, text: str, changed_at: datetime.datetime) -> None:
        self.name = name
        self.text = text
        self.changed_at = changed_at
        self.version = 1


class Wiki:
    """Pages by name."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}

    def add_page(self, name: str, text: str) -> None:
        """Raises ``ValueError`` where there is a page of that name."""
        if name in self.pages:
            raise ValueError(f"there is a page {name} already")
        self.pages[name] = Page(name, text, perdure.clock.now())

    def edit_page(self, name: str, text: str) -> int:
        """Returns the number of the new version."""
        page = self.pages[name]
        page.text = text
        page.changed_at = perdure.clock.now()
        page.version += 1
        return page.version

    @perdure.readonly
    def page_count(self) -> int:
        """How many pages there are."""
        return len(self.pages)

    @perdure.readonly
    def pages_about(self, word: str) -> list[str]:
        """The names of the pages that contain a word."""
        return [page.name for page in self.pages.values() if word in page.text]
