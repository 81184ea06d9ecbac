"""What a raising command leaves behind: in memory, in the journal, and after replay."""

from __future__ import annotations

import copy
import datetime
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.testing import FrozenClock, ManualClock, assert_replayable
from tests.unit.system.interrupting import strike_once
from tests.unit.system.models import Counter, Slotted, Wiki

ROLLBACKS = ["restore", "shadow"]
INTERRUPTS = [KeyboardInterrupt(), SystemExit(3), MemoryError(), RecursionError("deep"), GeneratorExit()]


def reopened_log(directory: Path, **options: Any) -> list[str]:
    with perdure.open(Wiki, directory, **options) as wiki:
        return list(wiki.log)


def outcomes(wiki: object) -> list[tuple[str, str, str | None]]:
    return [(each.method, each.outcome, each.error) for each in perdure.control(wiki).history()]


def let_go(wiki: object) -> None:
    """Closes without a snapshot, so that the next opening replays."""
    perdure.control(wiki)._system.machine.close(snapshot=False)  # type: ignore[union-attr]


@pytest.mark.parametrize("durability", ["always", "everysec", "never"])
def test_partial_changes_of_a_raising_command_stay_and_replay(tmp_path: Path, durability: Any) -> None:
    wiki = perdure.open(Wiki, tmp_path / "w", durability=durability)
    with pytest.raises(ValueError, match="half way: a"):
        wiki.fail_half_way("a")
    assert wiki.log == ["a"]
    wiki.note("b")
    assert_replayable(wiki)
    assert outcomes(wiki) == [("fail_half_way", "raised", "builtins.ValueError"), ("note", "returned", None)]
    let_go(wiki)
    assert reopened_log(tmp_path / "w") == ["a", "b"]


def test_an_outcome_that_was_not_written_before_a_crash_is_made_up_for(tmp_path: Path) -> None:
    wiki = perdure.open(Wiki, tmp_path / "w")
    with pytest.raises(ValueError, match="half way"):
        wiki.fail_half_way("a")
    shutil.copytree(tmp_path / "w", tmp_path / "killed")
    let_go(wiki)
    wiki = perdure.open(Wiki, tmp_path / "killed")
    assert wiki.log == ["a"]
    wiki.note("b")
    assert outcomes(wiki)[0] == ("fail_half_way", "raised", "builtins.ValueError")
    let_go(wiki)
    assert reopened_log(tmp_path / "killed") == ["a", "b"]


@pytest.mark.parametrize("rollback", ROLLBACKS)
def test_an_aborting_command_leaves_nothing_also_when_the_crash_comes_first(tmp_path: Path, rollback: Any) -> None:
    wiki = perdure.open(Wiki, tmp_path / "w", rollback=rollback)
    wiki.note("before")
    with pytest.raises(ValueError, match="empty"):
        wiki.all_or_nothing("a", "")
    shutil.copytree(tmp_path / "w", tmp_path / "killed")
    assert wiki.log == ["before"]
    wiki.note("after")
    assert_replayable(wiki)
    let_go(wiki)
    for directory, wanted in (("w", ["before", "after"]), ("killed", ["before"])):
        assert reopened_log(tmp_path / directory, rollback=rollback) == wanted
        assert reopened_log(tmp_path / directory, rollback=rollback) == wanted


@pytest.mark.parametrize("rollback", ROLLBACKS)
def test_aborting_commands_among_others_replay_to_the_same(tmp_path: Path, rollback: Any) -> None:
    wiki = perdure.open(Wiki, tmp_path / "w", rollback=rollback)
    wanted = []
    for number in range(12):
        if number % 3 == 0:
            with pytest.raises(ValueError, match="empty"):
                wiki.all_or_nothing(f"{number}", "")
        elif number % 3 == 1:
            assert wiki.all_or_nothing(f"{number}") == len(wanted) + 1
            wanted.append(f"{number}")
        else:
            with pytest.raises(ValueError, match="half way"):
                wiki.fail_half_way(f"{number}")
            wanted.append(f"{number}")
        if number == 6:
            perdure.control(wiki).take_snapshot()
        assert wiki.log == wanted
    assert_replayable(wiki)
    let_go(wiki)
    assert reopened_log(tmp_path / "w", rollback=rollback) == wanted


def test_a_guard_at_the_top_costs_no_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    with perdure.open(Wiki, perdure.MEMORY) as wiki:
        wiki.create("a")
        machine: Any = perdure.control(wiki)._system.machine
        monkeypatch.setattr(machine, "restore", None)
        with pytest.raises(KeyError):
            wiki.guarded("a")
        wiki.guarded("b")
        assert wiki.log == ["b"]
        assert outcomes(wiki)[1] == ("guarded", "aborted", "builtins.KeyError")
        assert_replayable(wiki)


@pytest.mark.parametrize("rollback", ROLLBACKS)
@pytest.mark.parametrize("durability", ["always", "never"])
@pytest.mark.parametrize("error", INTERRUPTS, ids=lambda error: type(error).__name__)
def test_an_interrupted_command_is_as_if_it_had_not_been_called(
    tmp_path: Path, rollback: Any, durability: Any, error: BaseException
) -> None:
    wiki = perdure.open(Wiki, tmp_path / "w", rollback=rollback, durability=durability)
    wiki.note("before")
    strike_once("now", error)
    with pytest.raises(type(error)):
        wiki.interrupted("now")
    assert wiki.log == ["before"]
    assert outcomes(wiki)[1][:2] == ("interrupted", "interrupted")
    wiki.interrupted("now")
    assert wiki.log == ["before", "now"]
    assert_replayable(wiki)
    let_go(wiki)
    assert reopened_log(tmp_path / "w") == ["before", "now"]


def test_a_replay_is_not_undone_by_an_interrupt_but_ends_with_it(tmp_path: Path) -> None:
    wiki = perdure.open(Wiki, tmp_path / "w")
    wiki.interrupted("later")
    let_go(wiki)
    strike_once("later", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        perdure.open(Wiki, tmp_path / "w")
    assert reopened_log(tmp_path / "w") == ["later"]


@pytest.mark.parametrize("rollback", ROLLBACKS)
def test_a_slotted_root_is_rolled_back_for_every_face(tmp_path: Path, rollback: Any) -> None:
    with perdure.open(InterruptedSlots, tmp_path / "s", rollback=rollback) as slotted:
        slotted.add(1)
        strike_once("slots", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            slotted.add_and_stop(2)
        assert slotted.values == [1]
        slotted.add(3)
        assert slotted.values == [1, 3] == copy.copy(slotted).values == copy.deepcopy(slotted).values
        assert slotted.itself() is slotted
        assert_replayable(slotted)


class InterruptedSlots(Slotted):
    __slots__ = ()

    def add_and_stop(self, value: int) -> None:
        from tests.unit.system.interrupting import strike

        self.values.append(value)
        strike("slots")

    def itself(self) -> InterruptedSlots:
        return self


def test_a_query_that_calls_a_command_is_refused_and_nothing_happens() -> None:
    with perdure.open(Counter, perdure.MEMORY) as counter:
        for durability in ("always", "never"):
            with perdure.open(Sneaky, perdure.MEMORY, durability=durability, validate="off") as sneaky:  # type: ignore[arg-type]
                sneaky.other = None
                proxies["sneaky"] = sneaky
                with pytest.raises(perdure.UsageError, match="within a query"):
                    sneaky.look()
                assert sneaky.total == 0
                sneaky.add(1)
        counter.add(1)


proxies: dict[str, Any] = {}


class Sneaky(Counter):
    other: Any = None

    @perdure.readonly
    def look(self) -> int:
        return int(proxies["sneaky"].add(1))

    def add_through_the_proxy(self, number: int) -> int:
        return int(proxies["sneaky"].add(number)) + int(proxies["sneaky"].add(number))


def test_a_command_that_calls_the_proxy_calls_the_object() -> None:
    with perdure.open(Sneaky, perdure.MEMORY, validate="off") as sneaky:
        proxies["sneaky"] = sneaky
        assert sneaky.add_through_the_proxy(2) == 6
        assert perdure.control(sneaky).seq == 1
        assert sneaky.added == [2, 2]


def test_history_tells_who_what_and_when(tmp_path: Path) -> None:
    at = datetime.datetime(2031, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    with perdure.open(Wiki, tmp_path / "w", clock=FrozenClock(at)) as wiki:
        wiki.create("a", text="t")
        wiki.take([1, [2]])
        with pytest.raises(ValueError, match="half"):
            wiki.fail_half_way("x")
        with pytest.raises(ValueError, match="empty"):
            wiki.all_or_nothing("")
        wiki.note("end")
        history = list(perdure.control(wiki).history())
        assert [(each.method, each.args, dict(each.kwargs), each.outcome) for each in history] == [
            ("create", ("a",), {"text": "t"}, "returned"),
            ("take", ([1, [2]],), {}, "returned"),
            ("fail_half_way", ("x",), {}, "raised"),
            ("all_or_nothing", ("",), {}, "aborted"),
            ("note", ("end",), {}, "returned"),
        ]
        assert {each.at for each in history} == {at}
        seqs = [each.seq for each in history]
        assert seqs == sorted(seqs)
        assert [each.seq for each in perdure.control(wiki).history(after=seqs[0], before=seqs[3])] == seqs[1:3]
        assert list(perdure.control(wiki).history(after=perdure.control(wiki).seq)) == []


def test_history_that_was_pruned_says_so(tmp_path: Path) -> None:
    with perdure.open(Counter, tmp_path / "c") as counter:
        for _ in range(4):
            counter.add(1)
            perdure.control(counter).take_snapshot()
    for turn in range(3):
        with perdure.open(Counter, tmp_path / "c") as counter:
            counter.add(1)
            perdure.control(counter).take_snapshot()
            counter.add(turn)
            perdure.control(counter).take_snapshot()
    with perdure.open(Counter, tmp_path / "c") as counter:
        with pytest.raises(perdure.MissingError) as caught:
            list(perdure.control(counter).history())
        assert caught.value.hint
        with pytest.raises(perdure.MissingError) as caught:
            perdure.control(counter).at(1)
        assert "keep_history" in str(caught.value.hint)


def test_keep_history_prunes_nothing(tmp_path: Path) -> None:
    for _ in range(3):
        with perdure.open(Counter, tmp_path / "c", keep_history=True) as counter:
            for _ in range(3):
                counter.add(1)
                perdure.control(counter).take_snapshot()
    with perdure.open(Counter, tmp_path / "c") as counter:
        assert len(list(perdure.control(counter).history())) == 9
        assert [perdure.control(counter).at(seq).total for seq in range(10)] == list(range(10))


def test_the_past_can_be_asked_and_not_changed(tmp_path: Path) -> None:
    start = datetime.datetime(2031, 1, 1, tzinfo=datetime.UTC)
    clock = ManualClock(start)
    with perdure.open(Counter, tmp_path / "c", clock=clock, keep_history=True) as counter:
        for number in range(1, 6):
            clock.advance(60)
            counter.add(number)
            if number == 3:
                perdure.control(counter).take_snapshot()
        control = perdure.control(counter)
        assert [control.at(seq).total for seq in range(6)] == [0, 1, 3, 6, 10, 15]
        for minutes, total in ((0, 0), (1, 1), (1.5, 1), (3, 6), (4.9, 10), (100, 15)):
            assert control.at(start + datetime.timedelta(minutes=minutes)).total == total
        past: Any = control.at(3)
        assert past.get() == 6
        assert isinstance(past, Counter)
        for change in (lambda: past.add(1), lambda: setattr(past, "total", 5)):
            with pytest.raises(perdure.ReadOnlyError):
                change()
        assert perdure.control(past).seq == 3
        assert len(perdure.control(past).digest()) == 64
        for seq in (6, -1, 10**9):
            with pytest.raises(perdure.UsageError):
                control.at(seq)
        counter.add(100)
        assert past.total == 6
        past.close()
        with pytest.raises(perdure.ClosedError):
            past.get()


def test_the_past_shows_outcomes_as_they_were(tmp_path: Path) -> None:
    with perdure.open(Wiki, tmp_path / "w", keep_history=True) as wiki:
        wiki.note("a")
        with pytest.raises(ValueError, match="empty"):
            wiki.all_or_nothing("x", "")
        with pytest.raises(ValueError, match="half"):
            wiki.fail_half_way("b")
        control = perdure.control(wiki)
        assert control.at(control.seq).log == ["a", "b"]
        wiki.note("c")
        for seq in range(control.seq + 1):
            assert control.at(seq).log in ([], ["a"], ["a", "b"], ["a", "b", "c"])
        assert control.at(2).log == ["a"]


def test_subscribers_are_told_in_order_and_never_at_replay(tmp_path: Path) -> None:
    told: list[Any] = []
    with perdure.open(Wiki, tmp_path / "w", snapshot="manual") as wiki:
        end = perdure.control(wiki).subscribe(told.append)
        wiki.create("a", "t")
        with pytest.raises(ValueError, match="half"):
            wiki.fail_half_way("x")
        threads = [threading.Thread(target=wiki.note, args=(f"{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        end()
        end()
        wiki.note("not told")
        seqs = [command.seq for command in told]
        assert seqs == sorted(seqs)
        assert len(told) == 10
        assert (told[0].method, told[0].args, told[0].outcome) == ("create", ("a", "t"), "returned")
        assert told[1].outcome == "raised"
        assert [each.args[0] for each in told[2:]] == wiki.log[1:9]
    told.clear()
    with perdure.open(Wiki, tmp_path / "w") as wiki:
        perdure.control(wiki).subscribe(told.append)
        assert told == []


def test_a_subscriber_that_raises_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def wrong(_: object) -> None:
        raise RuntimeError("the subscriber's own")

    for durability in ("always", "never"):
        with perdure.open(Counter, perdure.MEMORY, durability=durability) as counter:  # type: ignore[arg-type]
            perdure.control(counter).subscribe(wrong)
            assert counter.add(1) == 1
            assert counter.add(1) == 2
        assert "the subscriber's own" in caplog.text
        caplog.clear()
