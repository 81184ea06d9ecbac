"""Systems on engines: what one node does, and what two see of each other."""

from __future__ import annotations

import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.cluster import Beginning, ClusterOptions, _opening, create_system
from perdure.cluster._entries import BARRIER, Genesis, decode_body
from perdure.cluster._waiting import Batch, Waiting
from perdure.engines import parse_url
from perdure.errors import (
    ClosedError,
    DivergedError,
    LockedError,
    MissingError,
    ReadOnlyError,
    RecordTooLargeError,
    ReplayError,
    UsageError,
)
from perdure.records import COMMAND
from perdure.snapshots import SnapshotHeader
from perdure.system import system_of
from perdure.system._command import encode_command
from tests.engines._bank import Bank, BankruptError

Open = Callable[..., Any]


@pytest.fixture
def open_bank(url: str) -> Iterator[Open]:
    """Opens nodes of one system, made at the first call; closes them."""
    with ExitStack() as stack:
        made = False

        def opened(target: Any = Bank, **options: Any) -> Any:
            nonlocal made
            options.setdefault("create", not made)
            made = True
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", perdure.EngineWarning)
                proxy = perdure.open(target, url, **options)
            stack.callback(perdure.control(proxy).close)
            return proxy

        yield opened


def caught_up(proxy: Any) -> Any:
    """The same, with everything that anybody was answered."""
    perdure.control(proxy).read(consistency="linearizable")
    return proxy


def node_of(proxy: Any) -> Any:
    return system_of(proxy).engine


# ---- commands


def test_commands_have_one_order_on_all_nodes(open_bank: Open) -> None:
    nodes = [open_bank() for _ in range(3)]

    def work(number: int) -> None:
        for count in range(20):
            nodes[number].inc(f"{number}.{count}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [caught_up(node).done for node in nodes]
    assert len(done[0]) == 60
    assert done[0] == done[1] == done[2]
    assert len({perdure.control(node).digest() for node in nodes}) == 1
    for number in range(3):
        assert [who for who in done[0] if who.startswith(f"{number}.")] == [f"{number}.{n}" for n in range(20)]


def test_a_node_sees_what_it_was_answered(open_bank: Open) -> None:
    one, other = open_bank(), open_bank()
    for number in range(5):
        assert (one if number % 2 else other).inc("x") == number + 1
    assert one.count in (4, 5)
    assert perdure.control(one).read(lambda bank: bank.count, consistency="linearizable") == 5


def test_a_session_reads_on_another_node_what_it_wrote_here(open_bank: Open) -> None:
    one, other = open_bank(), open_bank()
    for _ in range(5):
        one.inc("x")
        token = perdure.control(one).seq
        assert perdure.control(other).read(lambda bank: bank.count, consistency="session", seq=token) == one.count
    with pytest.raises(perdure.UnreachableError):
        perdure.control(other).read(consistency="session", seq=token + 1, timeout=0.2)


def test_commands_of_many_threads_travel_together(open_bank: Open) -> None:
    bank = open_bank()
    threads = [threading.Thread(target=lambda: [bank.inc("x") for _ in range(20)]) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bank.count == 320
    assert perdure.control(bank).seq == 320
    assert node_of(bank).position < 320


def test_exceptions_come_back_and_leave_the_same_everywhere(open_bank: Open) -> None:
    one, other = open_bank(), open_bank()
    with pytest.raises(BankruptError):
        one.break_half_way()
    with pytest.raises(BankruptError):
        other.break_and_undo("b")
    one.inc("c")
    assert caught_up(other).count == one.count == 2
    assert other.done == one.done == ["c"]
    outcomes = [(each.method, each.outcome) for each in perdure.control(other).history()]
    assert outcomes == [("break_half_way", "raised"), ("break_and_undo", "aborted"), ("inc", "returned")]
    fresh = open_bank()
    assert perdure.control(fresh).digest() == perdure.control(one).digest()
    assert [each.outcome for each in perdure.control(fresh).history()] == ["raised", "aborted", "returned"]


def test_an_aborted_command_goes_back_to_a_second_copy(open_bank: Open) -> None:
    bank = open_bank(rollback="shadow")
    bank.inc("a")
    for _ in range(3):
        with pytest.raises(BankruptError):
            bank.break_and_undo("b")
    assert bank.done == ["a"]


def test_time_and_chance_are_the_same_on_all_nodes(open_bank: Open) -> None:
    one, other = open_bank(), open_bank()
    drawn = [(one if number % 2 else other).draw() for number in range(6)]
    assert len(set(drawn)) == 6
    assert caught_up(one).drawn == caught_up(other).drawn == drawn
    assert one.at() <= other.at()


def test_a_clock_that_goes_back_does_not_take_time_back(open_bank: Open) -> None:
    one, other = open_bank(clock=_HourAhead()), open_bank()
    later = one.at()
    assert caught_up(other).at() >= later


class _HourAhead:
    def time_ns(self) -> int:
        return time.time_ns() + 3600 * 10**9


def test_check_finds_what_is_changed_outside_of_commands(open_bank: Open) -> None:
    bank = open_bank(check=True)
    bank.inc("a")
    bank.done.append("behind the back")
    with pytest.raises(perdure.NotDeterministicError):
        bank.inc("b")


# ---- requests that are repeated


def test_a_repeated_request_runs_once_on_whichever_node_it_comes(open_bank: Open) -> None:
    one, other = open_bank(), open_bank()
    client = uuid.uuid4().bytes
    system = system_of(one)
    payload, _, _ = encode_command(system.codec, "inc", ("a",), {})
    assert node_of(one).handle(payload, client=client, counter=1) == 1
    assert node_of(other).handle(payload, client=client, counter=1) == 1
    assert node_of(one).handle(payload, client=client, counter=2) == 2
    perdure.control(one).take_snapshot()
    fresh = open_bank()
    assert node_of(fresh).handle(payload, client=client, counter=2) == 2
    assert fresh.done == ["a", "a"]
    assert [each.seq for each in perdure.control(one).history()] == [1, 2]


def test_an_entry_that_is_appended_twice_runs_once(open_bank: Open) -> None:
    one, other = open_bank(), open_bank()
    one.inc("a")
    node = node_of(one)
    entry = node.log.read(node.position - 1, 1)[0]
    node_of(other).log.append(entry.data, entry.id)
    other.inc("b")
    assert caught_up(one).done == caught_up(other).done == ["a", "b"]
    assert [each.args for each in perdure.control(one).history()] == [("a",), ("b",)]
    assert [each.args for each in perdure.control(open_bank()).history()] == [("a",), ("b",)]


def test_who_waits_for_an_entry_that_was_in_a_snapshot_is_not_told_a_result(open_bank: Open) -> None:
    one, other = open_bank(), open_bank()
    one.inc("a")
    node = node_of(one)
    entry = node.log.read(node.position - 1, 1)[0]
    caller, reader = Waiting(COMMAND, b""), Waiting(BARRIER, b"")
    with node.order:
        # As where the node took over a snapshot with the entry in it, and its writer, unanswered, appends it again.
        node.batches[entry.id] = Batch(entry.id, entry.data, [caller, reader], acknowledged=True)
        node_of(other).log.append(entry.data, entry.id)
    deadline = time.monotonic() + 60
    while not reader.done and time.monotonic() < deadline:
        time.sleep(0.01)
    assert isinstance(caller.error, perdure.OutcomeUnknownError)
    assert reader.done
    assert reader.error is None
    assert caught_up(one).done == ["a"]


# ---- opening


def test_opening_makes_nothing(url: str) -> None:
    with pytest.raises(MissingError) as caught:
        perdure.open(Bank, url)
    assert "create" in str(caught.value)
    with pytest.raises(MissingError):
        perdure.open(Bank, url)


def test_creating_takes_what_is_there(open_bank: Open) -> None:
    initial = Bank()
    initial.count = 7
    one = open_bank(initial)
    assert one.inc("x") == 8
    assert open_bank(Bank, create=True).inc("x") == 9


def test_of_those_who_make_it_at_once_one_does_and_all_open_it(open_bank: Open, url: str) -> None:
    barrier = threading.Barrier(6)
    opened: list[Any] = []

    def make(number: int) -> None:
        initial = Bank()
        initial.count = 1000 * (number % 2)  # Some want the same, and some do not.
        barrier.wait()
        opened.append(open_bank(initial, create=True))

    threads = [threading.Thread(target=make, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for bank in opened:
        bank.inc("x")
    assert len({perdure.control(caught_up(bank)).digest() for bank in opened}) == 1
    assert opened[0].count in (6, 1006)
    node = node_of(open_bank(create=True))
    assert node.snapshots.names() == [decode_body(node.log.read(0, 1)[0].data, Genesis, 1).snapshot]


def test_making_it_again_leaves_it_as_it_is(open_bank: Open, url: str) -> None:
    bank = open_bank()
    state, parsed = system_of(bank).state, parse_url(url)
    again = Beginning(node_of(bank).log.log_id)
    with pytest.raises(LockedError):
        create_system(parsed, state, ClusterOptions(), again)
    node = node_of(open_bank())
    assert (node.position, node.last_id) == (1, node.log.read(0, 1)[0].id)


def test_a_snapshot_that_no_entry_leads_to_is_passed_over(open_bank: Open) -> None:
    bank = open_bank()
    bank.inc("x")
    node = node_of(bank)
    name, other = node.snapshots.names()[0], Bank()
    with node.order:
        state, node.last_id = node.state, bytes(24)
    other.count = 99
    header = SnapshotHeader(0, 0, node.log.log_id, node.place().described(state.description), node.receipts.dump())
    draft = node.snapshots.write(
        header, lambda file: state.codec.dump(other, file), lambda: bytes(16), lambda _: bytes(16)
    )
    node.snapshots.upload(node.snapshots.publish(draft, header), b"\xff" * 16)
    assert node.snapshots.names()[0] > name
    assert open_bank().done == ["x"]


def test_another_class_is_refused(open_bank: Open, url: str) -> None:
    open_bank().inc("a")
    with pytest.raises(UsageError, match="not a"):
        perdure.open(dict, url)


def test_reading_only_follows_and_takes_no_commands(open_bank: Open) -> None:
    writer, reader = open_bank(), open_bank(mode="r")
    writer.inc("a")
    assert perdure.control(reader).read(lambda bank: bank.total(), consistency="session", seq=1) == 1
    with pytest.raises(ReadOnlyError):
        reader.inc("b")


def test_after_closing_calls_raise(open_bank: Open) -> None:
    bank = open_bank()
    bank.inc("a")
    perdure.control(bank).close()
    perdure.control(bank).close()
    with pytest.raises(ClosedError):
        bank.inc("b")
    with pytest.raises(ClosedError):
        bank.total()


def test_a_dropped_proxy_ends_its_threads(open_bank: Open, url: str) -> None:
    open_bank().inc("a")
    before = threading.active_count()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bank = perdure.open(Bank, url)
    assert threading.active_count() > before
    del bank
    deadline = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= before


def test_a_command_that_is_too_large_is_refused_before_it_is_sent(open_bank: Open) -> None:
    bank = open_bank()
    largest = node_of(bank).log.capabilities.entry_bytes_max
    before = node_of(bank).log.bounds()
    with pytest.raises(RecordTooLargeError):
        bank.put(bytes(largest))
    assert node_of(bank).log.bounds() == before
    assert bank.put(bytes(min(largest, 4 << 20) - 300)) > 0


# ---- snapshots


def test_a_node_that_fell_behind_a_trimmed_log_starts_from_a_snapshot(open_bank: Open) -> None:
    bank = open_bank()
    for _ in range(3):
        for _ in range(10):
            bank.inc("x")
        perdure.control(bank).take_snapshot()
    node = node_of(bank)
    assert node.log.bounds().first > 1
    fresh = open_bank()
    assert perdure.control(fresh).report.snapshot_seq == 30
    assert perdure.control(fresh).digest() == perdure.control(bank).digest()
    assert [each.seq for each in perdure.control(bank).history(after=25)] == [26, 27, 28, 29, 30]
    with pytest.raises(MissingError):
        list(perdure.control(bank).history())
    assert perdure.control(bank).at(25).count == 25


def test_opening_goes_on_where_others_trim_the_log_meanwhile(open_bank: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    bank = open_bank()
    whole = _opening._catch_up
    steps = iter("abc")

    def late(node: Any) -> None:
        for step in steps:
            bank.inc(step)
            perdure.control(bank).take_snapshot()
        whole(node)

    monkeypatch.setattr(_opening, "_catch_up", late)
    fresh = open_bank()
    assert fresh.done == ["a", "b", "c"]
    assert perdure.control(fresh).report.snapshot_seq == 3


def test_a_running_node_that_fell_behind_goes_on_from_a_snapshot(
    open_bank: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bank, slow = open_bank(), open_bank()
    node = node_of(slow)

    def cut_off(entries: object) -> None:
        if entries:
            raise perdure.UnreachableError("cut off")

    with monkeypatch.context() as cut:
        cut.setattr(node, "apply_all", cut_off)
        for _ in range(3):
            bank.inc("x")
            perdure.control(bank).take_snapshot()
        bank.inc("y")
    assert perdure.control(slow).read(lambda bank: bank.done, consistency="session", seq=4) == ["x", "x", "x", "y"]
    assert "had fallen behind" in caplog.text


def test_a_node_that_slept_while_nothing_changed_goes_on_from_a_snapshot_of_its_own_state(
    open_bank: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = open_bank()
    bank.inc("x")
    perdure.control(bank).take_snapshot()
    slow = open_bank()
    node = node_of(slow)

    def cut_off(entries: object) -> None:
        if entries:
            raise perdure.UnreachableError("cut off")

    with monkeypatch.context() as cut:
        cut.setattr(node, "apply_all", cut_off)
        for _ in range(3):
            perdure.control(bank).take_snapshot()
    bank.inc("y")
    assert perdure.control(slow).read(lambda bank: bank.done, consistency="session", seq=2) == ["x", "y"]


def test_a_node_whose_following_alone_fell_behind_goes_on(open_bank: Open) -> None:
    bank = open_bank()
    node = node_of(bank)
    for _ in range(3):
        bank.inc("x")
        perdure.control(bank).take_snapshot()
    position = node.position
    with pytest.raises(MissingError) as trimmed:
        # As its own thread would, had it had no turn since the first command: the writer has applied the rest.
        next(node.log.follow(1, idle_s=0.1))
    node._catch_up(trimmed.value)
    assert node.failure is None
    assert node.position == position
    bank.inc("y")
    assert bank.done == caught_up(bank).done == ["x", "x", "x", "y"]


def test_a_slow_node_whose_way_back_was_trimmed_goes_on_from_a_snapshot(
    open_bank: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, slow = open_bank(), open_bank()
    node = node_of(slow)
    whole, held, is_released = node.apply_all, [], threading.Event()
    told: list[BaseException] = []

    def late(entries: list[Any]) -> None:
        held.extend(entries)
        if is_released.is_set():
            whole(held)
            held.clear()

    def call() -> None:
        try:
            slow.inc("mine")
        except perdure.PerdureError as error:
            told.append(error)

    with monkeypatch.context() as cut:
        cut.setattr(node, "apply_all", late)
        bank.inc("a")
        with pytest.raises(BankruptError):
            bank.break_and_undo("b")
        caller = threading.Thread(target=call)
        caller.start()
        deadline = time.monotonic() + 60
        while len(held) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        caught_up(bank)
        for _ in range(3):
            bank.inc("x")
            perdure.control(bank).take_snapshot()
        is_released.set()
        bank.inc("y")
        caller.join()
    seq = perdure.control(bank).seq
    assert perdure.control(slow).read(lambda bank: bank.done, consistency="session", seq=seq) == bank.done
    assert bank.done == ["a", "mine", "x", "x", "x", "y"]
    assert [type(error) for error in told] == [perdure.OutcomeUnknownError]
    assert perdure.control(slow).digest() == perdure.control(bank).digest()
    assert slow.inc("z") == 7


def test_a_second_copy_is_made_anew_where_a_node_went_on_from_a_snapshot(
    open_bank: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, slow = open_bank(), open_bank(rollback="shadow")
    slow.inc("a")
    node = node_of(slow)

    def cut_off(entries: object) -> None:
        if entries:
            raise perdure.UnreachableError("cut off")

    with monkeypatch.context() as cut:
        cut.setattr(node, "apply_all", cut_off)
        for _ in range(3):
            bank.inc("x")
            perdure.control(bank).take_snapshot()
    with pytest.raises(BankruptError):
        slow.break_and_undo("b")
    assert slow.done == caught_up(bank).done == ["a", "x", "x", "x"]


def test_history_is_kept_where_it_is_wanted(open_bank: Open) -> None:
    bank = open_bank(keep_history=True)
    for _ in range(3):
        bank.inc("x")
        perdure.control(bank).take_snapshot()
    assert [each.seq for each in perdure.control(bank).history()] == [1, 2, 3]
    assert perdure.control(bank).at(1).count == 1


def test_snapshots_go_where_they_are_told(open_bank: Open, tmp_path: Path) -> None:
    place = f"file://{tmp_path}/snapshots"
    bank = open_bank(snapshots=place)
    bank.inc("x")
    perdure.control(bank).take_snapshot()
    assert len(list((tmp_path / "snapshots").iterdir())) == 2
    assert open_bank(snapshots=place).count == 1
    with pytest.raises(MissingError, match="snapshot"):
        open_bank()


def test_a_large_state_is_written_by_a_child(open_bank: Open) -> None:
    bank = open_bank()
    for number in range(40):
        bank.put(bytes([number]) * 20_000)
    initial = [bank.put(b"z") for _ in range(3)]
    assert initial
    other = open_bank()
    assert perdure.control(bank).take_snapshot() == perdure.control(bank).seq
    bank.inc("after")
    assert caught_up(other).done == bank.done


def test_a_node_with_another_state_stops_and_names_itself(open_bank: Open) -> None:
    one, other, third = open_bank(), open_bank(), open_bank()
    one.inc("a")
    for node in (other, third):
        caught_up(node)
    other.done.append("only here")
    perdure.control(one).take_snapshot()
    deadline = time.monotonic() + 60
    while node_of(other).failure is None and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(DivergedError, match="nodes have another state"):
        other.total()
    with pytest.raises(DivergedError):
        other.inc("b")
    assert one.inc("b") == caught_up(third).count == 2
    again = open_bank()
    assert again.done == ["a", "b"]


def test_where_the_one_that_took_the_snapshot_is_wrong_it_stops(open_bank: Open) -> None:
    one, other, third = open_bank(), open_bank(), open_bank()
    one.inc("a")
    for node in (other, third):
        caught_up(node)
    one.done.append("only here")
    perdure.control(one).take_snapshot()
    deadline = time.monotonic() + 60
    while node_of(one).failure is None and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(DivergedError):
        one.total()
    assert other.inc("b") == caught_up(third).count == 2
    deadline = time.monotonic() + 60
    while len(node_of(other).snapshots.names()) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert open_bank().done == ["a", "b"]


# ---- leading


def test_a_leader_shuts_the_others_out_and_a_newer_one_shuts_it_out(open_bank: Open) -> None:
    first = open_bank(leader=True)
    bystander = open_bank()
    token = perdure.control(first).fencing_token
    assert token is not None
    assert first.inc("a") == 1
    with pytest.raises(LockedError):
        bystander.inc("b")
    second = open_bank(leader=True)
    newer = perdure.control(second).fencing_token
    assert newer is not None
    assert newer > token
    assert second.inc("c") == 2
    with pytest.raises(LockedError):
        first.inc("d")
    assert perdure.control(first).fencing_token is None
    assert caught_up(bystander).done == second.done == ["a", "c"]


def test_a_leader_that_leaves_lets_the_others_write(open_bank: Open) -> None:
    leader, other = open_bank(leader=True), open_bank()
    leader.inc("a")
    perdure.control(leader).close()
    assert other.inc("b") == 2


# ---- what goes wrong


def test_a_vanished_log_stops_the_node_and_is_not_made_again(open_bank: Open, url: str) -> None:
    bank = open_bank(timeout=20.0)
    bank.inc("a")
    node = node_of(bank)
    _forget(node.log)
    deadline = time.monotonic() + 60
    while node.failure is None and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(DivergedError, match="gone"):
        bank.total()
    with pytest.raises(MissingError):
        perdure.open(Bank, url)


def test_a_log_that_was_made_again_under_the_same_name_is_another(open_bank: Open, url: str) -> None:
    bank = open_bank(timeout=20.0)
    bank.inc("a")
    node = node_of(bank)
    with node.order:
        _forget(node.log)
        again = open_bank(create=True)
        again.inc("b")
        again.inc("c")
    deadline = time.monotonic() + 60
    while node.failure is None and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(DivergedError):
        bank.total()
    assert again.done == ["b", "c"]


def test_an_entry_that_nobody_understands_stops_the_node_with_its_seq(open_bank: Open) -> None:
    bank, other = open_bank(), open_bank()
    bank.inc("a")
    node = node_of(other)
    # Here it is run as it was called; the others see the bytes.
    node.handle(b"\x93no call at all", call=(Bank.inc, ("b",), {}))
    deadline = time.monotonic() + 60
    while node_of(bank).failure is None and time.monotonic() < deadline:
        time.sleep(0.05)
    failure = node_of(bank).failure
    assert isinstance(failure, (ReplayError, perdure.CodecError))
    assert failure.seq == 2


def test_bytes_that_perdure_did_not_write_stop_the_node(open_bank: Open) -> None:
    bank = open_bank()
    bank.inc("a")
    node = node_of(bank)
    node.log.append(b"somebody else's message", bytes(24))
    deadline = time.monotonic() + 60
    while node.failure is None and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(perdure.CorruptError):
        bank.total()


def _forget(log: Any) -> None:
    """What an operator's mistake, or a power cut, does to a log."""
    if "NATS" in log.capabilities.server:

        async def delete() -> None:
            await log._connection.js.delete_stream(log._stream)

        log._connection.ask(delete())
    else:
        with log._reading.using() as server:
            server.execute("delete from perdure_log where system = %s", (log._system,))
            server.execute("delete from perdure_head where system = %s", (log._system,))
