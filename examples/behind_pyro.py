"""A system behind somebody else's server: Pyro5.

``python examples/behind_pyro.py DIR`` serves a stock of things on the loopback interface and prints its URI. Pyro5
serves what a class exposes; ``Exposed`` names the methods that others may call, and hands them to the proxy that
``perdure.open`` gives. Pyro5 knows no passwords of its own: beyond this machine use ``perdure serve``, or Pyro5 over
mutual TLS.
"""

from __future__ import annotations

import sys

import Pyro5.api

import perdure
from perdure import abort_exception, readonly


class Stock:
    """How much there is of what."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, thing: str, count: int) -> int:
        self.counts[thing] = self.counts.get(thing, 0) + count
        return self.counts[thing]

    @abort_exception
    def take(self, thing: str, count: int) -> int:
        if self.counts.get(thing, 0) < count:
            raise ValueError(f"there are not {count} of {thing}")
        self.counts[thing] -= count
        return self.counts[thing]

    @readonly
    def count(self, thing: str) -> int:
        return self.counts.get(thing, 0)


@Pyro5.api.expose
class Exposed:
    """What can be called from outside. Pyro5 calls from several threads; the system has one order for them all."""

    def __init__(self, stock: Stock) -> None:
        self._stock = stock

    def add(self, thing: str, count: int) -> int:
        return self._stock.add(thing, count)

    def take(self, thing: str, count: int) -> int:
        return self._stock.take(thing, count)

    def count(self, thing: str) -> int:
        return self._stock.count(thing)


def main(directory: str) -> None:
    with perdure.open(Stock, directory) as stock, Pyro5.api.Daemon(host="127.0.0.1") as daemon:
        print(daemon.register(Exposed(stock), "stock"), flush=True)
        daemon.requestLoop()


if __name__ == "__main__":
    main(sys.argv[1])
