"""A bank whose money never gets lost, whatever is interrupted.

``python examples/bank.py DIR`` opens a bank in DIR, has some clerks move money about at the same time, and counts it.
Kill it at any moment and start it again: the sum is the same.
"""

from __future__ import annotations

import random
import sys
import threading

import perdure
from perdure import abort_exception, clock, readonly


class Refused(Exception):  # noqa: N818
    """The bank does not do that."""


class Bank:
    """Accounts with whole cents. A command that raises leaves everything as it was."""

    def __init__(self) -> None:
        self.balances: dict[str, int] = {}
        self.statements: dict[str, list[tuple[str, int]]] = {}

    @abort_exception
    def open_account(self, name: str, cents: int) -> None:
        if name in self.balances:
            raise Refused(f"{name} has an account")
        self.balances[name] = 0
        self.statements[name] = []
        self._book(name, cents)

    @abort_exception
    def transfer(self, giver: str, receiver: str, cents: int) -> None:
        # Guards stand at the top: an error that leaves from here costs no roll-back.
        if cents <= 0:
            raise Refused("only a positive sum can be transferred")
        if self.balances[giver] < cents:
            raise Refused(f"{giver} has {self.balances[giver]} and not {cents}")
        self._book(giver, -cents)
        self._book(receiver, cents)

    @abort_exception
    def pay_wages(self, payer: str, wages: dict[str, int]) -> None:
        """All of them or none: an error in the middle takes back what was booked before it."""
        for receiver, cents in wages.items():
            self.transfer(payer, receiver, cents)

    @readonly
    def total(self) -> int:
        return sum(self.balances.values())

    def _book(self, name: str, cents: int) -> None:
        self.balances[name] += cents
        self.statements[name].append((clock.now().isoformat(timespec="seconds"), cents))


NAMES = ("Ann", "Bob", "Cleo", "Dan")


def clerk(bank: Bank, transfers: int, seed: int) -> None:
    """Chance is outside of the commands: what it chose stands in the journal."""
    chosen = random.Random(seed)
    for _ in range(transfers):
        giver, receiver = chosen.sample(NAMES, 2)
        try:
            bank.transfer(giver, receiver, chosen.randrange(-10, 5000))
        except Refused:
            continue


def main(directory: str, transfers: int = 500) -> None:
    with perdure.open(Bank, directory) as bank:
        report = perdure.control(bank).report
        for name in NAMES:
            if name not in bank.balances:
                bank.open_account(name, 100_00)
        print(f"{report.replayed} commands were replayed; there are {bank.total()} cents", flush=True)
        clerks = [threading.Thread(target=clerk, args=(bank, transfers // 4, seed)) for seed in range(4)]
        for thread in clerks:
            thread.start()
        for thread in clerks:
            thread.join()
        print(f"{perdure.control(bank).seq} entries are in the journal; there are {bank.total()} cents", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]))
