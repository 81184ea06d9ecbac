"""An inventory that can be asked what it was like.

``python examples/inventory.py DIR`` plays a week in a warehouse. ``perdure log DIR`` and
``perdure diff DIR 2 5 inventory:Inventory`` (in the examples' folder) look into it afterwards.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import perdure
from perdure import abort_exception, readonly


@dataclass
class Item:
    """How many there are, and where."""

    count: int
    shelf: str


class Inventory:
    """Items by their names."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}

    @abort_exception
    def receive(self, name: str, count: int, shelf: str = "A1") -> None:
        if count <= 0:
            raise ValueError("nothing was received")
        item = self.items.setdefault(name, Item(0, shelf))
        item.count += count

    @abort_exception
    def ship(self, name: str, count: int) -> None:
        if self.items[name].count < count:
            raise ValueError(f"there are {self.items[name].count} of {name}")
        self.items[name].count -= count

    def move(self, name: str, shelf: str) -> None:
        self.items[name].shelf = shelf

    @readonly
    def count(self, name: str) -> int:
        return self.items[name].count if name in self.items else 0


def main(directory: str) -> None:
    # Nothing is pruned, so that every state there ever was can be looked at.
    with perdure.open(Inventory, directory, keep_history=True) as inventory:
        inventory.receive("lamp", 10)
        inventory.receive("chair", 4, "B7")
        inventory.ship("lamp", 3)
        inventory.move("chair", "C2")
        inventory.ship("chair", 1)
        control = perdure.control(inventory)
        for command in control.history():
            state = control.at(command.seq)
            counts = {name: item.count for name, item in state.items.items()}
            print(f"{command.seq} {command.method}{command.args}: {counts}")


if __name__ == "__main__":
    main(sys.argv[1])
