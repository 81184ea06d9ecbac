"""A request that is repeated runs once, and is answered as the first time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure import limits
from perdure.errors import CorruptError, OutcomeUnknownError, RejectedError, WriteError
from perdure.machine import Machine
from perdure.machine._receipts import Receipts
from perdure.mapping import PersistentDict
from perdure.system import system_of
from perdure.system._command import encode_command
from perdure.testing import FaultyFs

ONE, TWO = b"1" * 16, b"2" * 16


class RefusedError(Exception):
    pass


class Account:
    def __init__(self) -> None:
        self.balance = 0
        self.calls = 0

    def deposit(self, amount: int) -> int:
        self.calls += 1
        self.balance += amount
        return self.balance

    def history(self) -> list[int]:
        return [self.balance]

    def raising(self, what: str) -> None:
        self.calls += 1
        raise RefusedError(what)

    @perdure.abort_exception
    def withdraw(self, amount: int) -> None:
        self.calls += 1
        self.balance -= amount
        if self.balance < 0:
            raise RefusedError(f"{amount} is too much")

    def interrupted(self) -> None:
        self.calls += 1
        raise KeyboardInterrupt

    def unstorable(self) -> Any:
        self.calls += 1
        return lambda: None

    def odd(self) -> None:
        raise UnstorableError(threading.Lock())


class UnstorableError(Exception):
    pass


def opened(path: Path, **options: Any) -> tuple[Account, Machine]:
    account = perdure.open(Account, path, snapshot="manual", **options)
    machine = system_of(account).machine
    assert machine is not None
    return account, machine


def call(machine: Machine, client: bytes, counter: int, method: str, *args: Any) -> Any:
    payload, _, _ = encode_command(machine.state.codec, method, args, {})  # type: ignore[attr-defined]
    return machine.handle(payload, client=client, counter=counter)


@pytest.mark.parametrize("durability", ["always", "never"])
@pytest.mark.parametrize("ending", ["same", "replayed", "snapshot"])
def test_a_repeated_request_runs_once(tmp_path: Path, durability: str, ending: str) -> None:
    account, machine = opened(tmp_path / "a", durability=durability)
    assert call(machine, ONE, 1, "deposit", 5) == 5
    assert call(machine, ONE, 2, "deposit", 5) == 10
    assert call(machine, TWO, 1, "deposit", 5) == 15
    with pytest.raises(RefusedError, match="nope"):
        call(machine, ONE, 3, "raising", "nope")
    with pytest.raises(RefusedError, match="99 is too much"):
        call(machine, ONE, 4, "withdraw", 99)
    if ending == "snapshot":
        machine.snapshot()
    if ending != "same":
        machine.close()
        account, machine = opened(tmp_path / "a", durability=durability)
    seq = machine.seq
    assert call(machine, ONE, 1, "deposit", 5) == 5
    assert call(machine, ONE, 2, "deposit", 5) == 10
    assert call(machine, TWO, 1, "deposit", 5) == 15
    with pytest.raises(RefusedError, match="nope"):
        call(machine, ONE, 3, "raising", "nope")
    with pytest.raises(RefusedError, match="99 is too much"):
        call(machine, ONE, 4, "withdraw", 99)
    assert machine.seq == seq
    assert (account.balance, account.calls) == (15, 4)
    machine.close()


def test_requests_may_come_out_of_order_and_very_old_ones_are_refused(tmp_path: Path) -> None:
    account, machine = opened(tmp_path / "a", durability="never")
    assert call(machine, ONE, 7, "deposit", 1) == 1
    assert call(machine, ONE, 5, "deposit", 1) == 2
    assert call(machine, ONE, 7, "deposit", 1) == 1
    assert call(machine, ONE, 7 + limits.RECEIPT_WINDOW, "deposit", 1) == 3
    with pytest.raises(OutcomeUnknownError):
        call(machine, ONE, 6, "deposit", 1)
    assert account.balance == 3
    machine.close()


def test_an_answer_that_cannot_be_kept_says_that_it_ran(tmp_path: Path) -> None:
    account, machine = opened(tmp_path / "a")
    assert callable(call(machine, ONE, 1, "unstorable"))
    with pytest.raises(OutcomeUnknownError, match="has run, once"):
        call(machine, ONE, 1, "unstorable")
    assert account.calls == 1
    with pytest.raises(UnstorableError):
        call(machine, ONE, 2, "odd")
    with pytest.raises(RejectedError, match="UnstorableError"):
        call(machine, ONE, 2, "odd")
    machine.close()


def test_an_interrupted_request_may_be_repeated(tmp_path: Path) -> None:
    account, machine = opened(tmp_path / "a")
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            call(machine, ONE, 1, "interrupted")
    assert account.calls == 0
    assert call(machine, ONE, 1, "deposit", 2) == 2
    machine.close()


def test_a_request_that_was_not_written_may_be_repeated(tmp_path: Path) -> None:
    fs = FaultyFs(of=["write"])
    account, machine = opened(tmp_path / "a", fs=fs)
    fs.fail_at = 1
    with pytest.raises(WriteError) as caught:
        call(machine, ONE, 1, "deposit", 5)
    assert caught.value.outcome == "not-written"
    assert call(machine, ONE, 1, "deposit", 5) == 5
    assert account.calls == 1
    machine.close()


def test_the_same_request_from_many_threads_at_once_runs_once(tmp_path: Path) -> None:
    account, machine = opened(tmp_path / "a")
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda counter=counter: answers.append(call(machine, ONE, counter, "deposit", 1)))
        for counter in (1, 2, 3)
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert account.calls == 3
    assert len(answers) == 60
    assert len(set(answers)) == 3
    machine.close()


def test_a_rollback_forgets_and_makes_again_the_receipts_of_what_it_replays(tmp_path: Path) -> None:
    account, machine = opened(tmp_path / "a")
    assert call(machine, ONE, 1, "deposit", 5) == 5
    with pytest.raises(RefusedError):
        account.withdraw(9)  # Restores from snapshot and journal.
    assert call(machine, ONE, 1, "deposit", 5) == 5
    assert account.balance == 5
    machine.close()


def test_a_dict_keeps_receipts_in_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "d"
    for round_number in range(3):
        pod = PersistentDict(path)
        machine = pod._opened.machine  # type: ignore[attr-defined]
        for counter in range(1, 1 + round_number * 200):
            machine.handle(b'{"do":"set","args":["k%d",1]}' % counter, client=ONE, counter=counter)
        seq = machine.seq
        if round_number:
            machine.handle(b'{"do":"set","args":["other",2]}', client=ONE, counter=round_number * 200 - 1)
            assert "other" not in pod
            assert machine.seq == seq
            machine.snapshot()
        pod.close()
    assert b'"receipts":"' in next(iter(sorted(path.glob("snapshot-*"), reverse=True))).read_bytes()


def test_what_is_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.machine._receipts.RECEIPTS_MAX", 100)
    receipts = Receipts()
    for number in range(150):
        receipts.note(number.to_bytes(16), 1, number + 1, None)
    assert len(receipts) == 100
    assert not receipts.has_run((49).to_bytes(16), 1)
    assert receipts.has_run((50).to_bytes(16), 1)
    again = Receipts()
    again.load(receipts.dump())
    assert len(again) == 100
    assert again.dump() == receipts.dump()


def test_large_answers_are_forgotten_and_that_they_ran_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.machine._receipts.RECEIPT_ANSWERS_BYTES_MAX", 500)
    _, machine = opened(tmp_path / "a")
    for counter in range(1, 20):
        assert call(machine, ONE, counter, "deposit", 1) == counter
    with pytest.raises(OutcomeUnknownError, match="not kept any more"):
        call(machine, ONE, 1, "deposit", 1)
    assert call(machine, ONE, 19, "deposit", 1) == 19
    machine.close()


@pytest.mark.parametrize("data", [b"\x00", b"\x91", b"\x91\x92\xc4\x00\x01"], ids=["number", "cut", "wrong"])
def test_damaged_receipts_are_named(data: bytes) -> None:
    with pytest.raises(CorruptError, match="receipts"):
        Receipts().load(data)
