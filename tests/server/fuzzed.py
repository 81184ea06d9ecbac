"""A class whose hints say all there is to say, for requests made by chance."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import uuid
from typing import Annotated

import msgspec

from perdure import readonly


class Size(enum.Enum):
    """As text on the wire."""

    SMALL = "small"
    LARGE = "large"


@dataclasses.dataclass
class Item:
    """With a value of many kinds."""

    name: str
    size: Size
    price: float
    labels: list[str] = dataclasses.field(default_factory=list)
    since: datetime.date | None = None


class Shop:
    """Items and orders."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.orders: list[tuple[str, int]] = []

    def add(self, item: Item, replace: bool = False) -> int:
        """Add an item."""
        if replace or item.name not in self.items:
            self.items[item.name] = item
        return len(self.items)

    def order(self, name: str, /, count: Annotated[int, msgspec.Meta(ge=1, le=1000)], *notes: str) -> int:
        """Order something."""
        self.orders.append((name, count))
        return len(self.orders)

    def tag(self, names: set[str], key: uuid.UUID, **labels: str) -> None:
        """Tag several."""
        for name in sorted(names):
            if name in self.items:
                self.items[name].labels.extend(sorted(labels))

    @readonly
    def total(self, prices: dict[str, float] | None = None) -> float:
        """What all orders cost."""
        found = prices or {}
        return sum(found.get(name, 0.0) * count for name, count in self.orders)

    @readonly
    def find(self, prefix: str = "", size: Size | None = None) -> list[Item]:
        """Items that begin so."""
        chosen = (item for item in self.items.values() if item.name.startswith(prefix))
        return [item for item in chosen if size is None or item.size is size][:10]
