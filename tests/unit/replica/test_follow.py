"""Replicas in step with a primary that is really served."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.machine import Machine
from perdure.system import system_of
from tests.unit.replica import models
from tests.unit.replica._network import accepting, cutting, http_answer
from tests.unit.replica._primary_server import Server, serving
from tests.unit.replica.models import Counted, Impure, Wiki

WAIT_S = 60.0
ROOT = Path(__file__).resolve().parents[3]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.01)


def machine_of(proxy: Any) -> Machine:
    machine = system_of(proxy).machine
    assert machine is not None
    return machine


def in_step(primary: Any, *replicas: Any) -> None:
    """Returns when every replica has applied what the primary has, outcomes included."""
    seq = perdure.control(primary).seq
    for replica in replicas:
        wait_until(lambda replica=replica: perdure.control(replica).seq >= seq)  # type: ignore[misc]


@contextlib.contextmanager
def served(directory: Path, target: Any = Wiki, **options: Any) -> Iterator[tuple[Any, Server]]:
    """A system, and where it is served."""
    feed_options = {name: options.pop(name) for name in ("port", "token", "digest_interval_s") if name in options}
    with perdure.open(target, directory, **options) as proxy, serving(machine_of(proxy), **feed_options) as server:
        yield proxy, server


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# --- following ---


@pytest.mark.parametrize("where", ["directory", "memory"])
def test_a_replica_has_the_snapshot_and_every_entry_behind_it(tmp_path: Path, where: str) -> None:
    with served(tmp_path / "p") as (wiki, server):
        wiki.put("before", 1)
        perdure.control(wiki).take_snapshot()
        wiki.put("behind", 2)
        with perdure.follow(Wiki, server.url, tmp_path / "r" if where == "directory" else None) as replica:
            for number in range(50):
                wiki.put(str(number), number)
            in_step(wiki, replica)
            assert replica.pages == wiki.pages
            assert replica.get("behind") == 2
            assert perdure.control(replica).digest() == perdure.control(wiki).digest()


def test_its_journal_holds_the_same_entries_with_the_same_seqs_times_and_log_id(tmp_path: Path) -> None:
    with served(tmp_path / "p") as (wiki, server), perdure.follow(Wiki, server.url, tmp_path / "r") as replica:
        for number in range(20):
            with contextlib.suppress(ValueError):
                wiki.put(str(number), number if number % 3 else None)
        wiki.put("last", 1)
        in_step(wiki, replica)
        ours, theirs = machine_of(replica).journal, machine_of(wiki).journal
        assert ours.log_id == theirs.log_id
        assert list(ours.read()) == list(theirs.read())
        assert list(perdure.control(replica).history()) == list(perdure.control(wiki).history())


def test_what_raising_and_aborted_commands_leave_is_the_same(tmp_path: Path) -> None:
    with served(tmp_path / "p") as (wiki, server), perdure.follow(Wiki, server.url, tmp_path / "r") as replica:
        for number in range(30):
            with contextlib.suppress(ValueError):
                wiki.put(str(number), None)
            with contextlib.suppress(KeyError):
                wiki.put_and_fail(str(number))
            wiki.put("x", number)
        with contextlib.suppress(KeyError):
            wiki.put_and_fail("last")
        # The outcome of the last one is written when the primary has been idle for a moment.
        wait_until(lambda: perdure.control(replica).seq == perdure.control(wiki).seq >= 90)
        assert replica.pages == wiki.pages == {"x": 29}


def test_a_replica_refuses_commands_and_does_everything_else(tmp_path: Path) -> None:
    with served(tmp_path / "p") as (wiki, server), perdure.follow(Wiki, server.url, tmp_path / "r") as replica:
        control = perdure.control(replica)
        told: list[str] = []
        control.subscribe(lambda command: told.append(command.method))
        for number in range(5):
            wiki.put(str(number), number)
        in_step(wiki, replica)
        with pytest.raises(perdure.ReadOnlyError, match="replica"):
            replica.put("a", 1)
        with pytest.raises(perdure.ReadOnlyError):
            replica.pages = {}
        assert told == ["put"] * 5
        assert control.take_snapshot() == 5
        assert len(control.at(3).pages) == 3
        assert control.path == str(tmp_path / "r")
        wait_until(lambda: control.lag is not None and control.lag.connected and control.lag.entries == 0)
        assert control.lag is not None
        assert control.lag.seconds is not None
        assert perdure.control(wiki).lag is None
        with pytest.raises(perdure.UsageError, match="not a replica"):
            perdure.control(wiki).promote()
        wait_until(lambda: bool(server.publisher.replicas()))
        (info,) = server.publisher.replicas()
        assert info.peer.startswith("127.0.0.1:")
        wait_until(lambda: server.publisher.replicas()[0].seq == 5)


def test_a_replica_goes_on_from_its_own_files_also_while_the_primary_is_away(tmp_path: Path) -> None:
    port = free_port()
    with served(tmp_path / "p", port=port) as (wiki, server):
        wiki.put("a", 1)
        with perdure.follow(Wiki, server.url, tmp_path / "r") as replica:
            in_step(wiki, replica)
    with perdure.follow(Wiki, f"http://127.0.0.1:{port}", tmp_path / "r") as replica:
        assert replica.pages == {"a": 1}
        lag = perdure.control(replica).lag
        assert lag is not None
        assert not lag.connected
        with served(tmp_path / "p", port=port) as (wiki, server):
            wiki.put("b", 2)
            in_step(wiki, replica)
            assert replica.pages == {"a": 1, "b": 2}


def test_a_replicas_directory_is_not_taken_for_a_writers(tmp_path: Path) -> None:
    with served(tmp_path / "p") as (wiki, server):
        with perdure.follow(Wiki, server.url, tmp_path / "r") as replica:
            wiki.put("a", 1)
            in_step(wiki, replica)
            with perdure.open(Wiki, tmp_path / "r", mode="r") as reader:
                wait_until(lambda: reader.pages == {"a": 1})
            with pytest.raises(perdure.LockedError):
                perdure.follow(Wiki, server.url, tmp_path / "r")
        with pytest.raises(perdure.ReadOnlyError, match="belongs to a replica"):
            perdure.open(Wiki, tmp_path / "r")
        perdure.open(Wiki, tmp_path / "q").close()
        with pytest.raises(perdure.UsageError, match="a writer's"):
            perdure.follow(Wiki, server.url, tmp_path / "q")


def test_many_segments_and_a_long_way_behind(tmp_path: Path) -> None:
    with served(tmp_path / "p", snapshot="manual") as (wiki, server):
        machine_of(wiki).journal._segment_bytes_max = 20_000  # type: ignore[attr-defined]
        for number in range(2000):
            with contextlib.suppress(ValueError):
                wiki.put(str(number), "x" * 50 if number % 7 else None)
        wiki.put("large", "y" * 3_000_000)
        wiki.put("last", 1)
        with perdure.follow(Wiki, server.url, tmp_path / "r", durability="never") as replica:
            in_step(wiki, replica)
            assert replica.pages == wiki.pages


def test_everysec_gives_what_is_synced(tmp_path: Path) -> None:
    with served(tmp_path / "p", durability="everysec") as (wiki, server), perdure.follow(Wiki, server.url) as replica:
        wiki.put("a", 1)
        in_step(wiki, replica)
        assert perdure.control(wiki).durable_seq >= 1


# --- beginnings that fail ---


def test_following_nobody_or_without_the_token_or_the_wrong_thing_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(perdure.UnreachableError):
        perdure.follow(Wiki, f"http://127.0.0.1:{free_port()}", tmp_path / "r")
    with pytest.raises(perdure.UsageError, match="no address"):
        perdure.follow(Wiki, "127.0.0.1:80")
    with pytest.raises(perdure.UsageError, match="means nothing"):
        perdure.follow(Wiki, "http://127.0.0.1", rollback="shadow")
    with served(tmp_path / "p", token="secret") as (wiki, server):
        with pytest.raises(perdure.UnauthorizedError):
            perdure.follow(Wiki, server.url, tmp_path / "r")
        with perdure.follow(Wiki, server.url, tmp_path / "r", token="secret") as replica:
            wiki.put("a", 1)
            in_step(wiki, replica)
    with accepting(http_answer(b"hello", "404 Not Found")) as url, pytest.raises(perdure.RejectedError):
        perdure.follow(Wiki, url)


def test_another_class_and_another_version_of_the_class_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path / "p") as (_, server):
        for where in (tmp_path / "r", None):
            with pytest.raises(perdure.UsageError, match=r"Wiki, not a .*Counted"):
                perdure.follow(Counted, server.url, where)
        perdure.follow(Wiki, server.url, tmp_path / "r").close()
        changed = type("Wiki", (Wiki,), {"put": lambda self, name, content: self.pages.pop(name)})
        changed.__module__, changed.__qualname__ = Wiki.__module__, "Wiki"
        monkeypatch.setattr(models, "Wiki", changed)
        for where in (tmp_path / "r", None):
            with pytest.raises(perdure.ReplayError, match="another version of the class: put"):
                perdure.follow(changed, server.url, where)


# --- what goes wrong on the way ---


def test_a_primary_that_comes_back_is_found_again(tmp_path: Path) -> None:
    port = free_port()
    replica = None
    for turn in range(3):
        with served(tmp_path / "p", port=port) as (wiki, server):
            if replica is None:
                replica = perdure.follow(Wiki, server.url, tmp_path / "r")
            wiki.put(str(turn), turn)
            in_step(wiki, replica)
    assert replica is not None
    assert replica.pages == {"0": 0, "1": 1, "2": 2}
    replica.close()


@pytest.mark.parametrize("where", ["directory", "memory"])
def test_a_replica_that_was_away_too_long_begins_again_from_a_snapshot(tmp_path: Path, where: str) -> None:
    port = free_port()
    with served(tmp_path / "p", port=port) as (wiki, server):
        wiki.put("a", 1)
        replica = perdure.follow(Wiki, server.url, tmp_path / "r" if where == "directory" else None)
        in_step(wiki, replica)
    with perdure.open(Wiki, tmp_path / "p") as wiki:
        machine_of(wiki).journal._segment_bytes_max = 200  # type: ignore[attr-defined]
        for number in range(40):
            wiki.put(str(number), number)
            if number % 10 == 9:
                perdure.control(wiki).take_snapshot()
        with pytest.raises(perdure.MissingError):
            list(machine_of(wiki).journal.read(1))
    with served(tmp_path / "p", port=port) as (wiki, server):
        in_step(wiki, replica)
        wiki.put("z", 1)
        in_step(wiki, replica)
        assert replica.pages == wiki.pages
        assert perdure.control(replica).take_snapshot() == perdure.control(replica).seq
        replica.close()
        if where == "directory":
            with perdure.follow(Wiki, server.url, tmp_path / "r") as replica:
                wiki.put("zz", 1)
                in_step(wiki, replica)
                assert replica.pages == wiki.pages


def test_a_connection_that_is_cut_anywhere_costs_nothing_but_time(tmp_path: Path, chance: random.Random) -> None:
    with served(tmp_path / "p") as (wiki, server):
        for number in range(200):
            wiki.put(str(number), "x" * (number * 7 % 90))
        perdure.control(wiki).take_snapshot()
        for number in range(200, 400):
            wiki.put(str(number), "x" * (number * 7 % 90))
        with cutting(server.url, lambda: 10_000_000) as url:
            replica = perdure.follow(Wiki, url, tmp_path / "r", snapshot="manual")
        replica.close()
        # From 200 bytes on: the header of the answer, a frame's header, within a record, between two, …
        lengths = itertools.chain((chance.randrange(200, 9000) for _ in range(8)), itertools.repeat(10_000_000))
        with (
            cutting(server.url, lambda: next(lengths)) as url,
            perdure.follow(Wiki, url, tmp_path / "r", snapshot="manual") as replica,
        ):
            wiki.put("last", 1)
            in_step(wiki, replica)
            assert replica.pages == wiki.pages
            journal = machine_of(replica).journal
            assert [entry.seq for entry in journal.read(200)] == list(range(201, perdure.control(wiki).seq + 1))


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.node.name)


def test_a_snapshot_that_is_cut_off_is_not_begun_with(tmp_path: Path) -> None:
    with served(tmp_path / "p") as (wiki, server):
        wiki.put("a", "x" * 5000)
        perdure.control(wiki).take_snapshot()
        for after_bytes in (0, 100, 600, 3000):
            with cutting(server.url, lambda after_bytes=after_bytes: after_bytes) as url:  # type: ignore[misc]
                for where in (tmp_path / "r", None):
                    with pytest.raises((perdure.UnreachableError, perdure.CorruptError)):
                        perdure.follow(Wiki, url, where)
        with perdure.follow(Wiki, server.url, tmp_path / "r") as replica:
            assert replica.pages == wiki.pages


def test_random_bytes_from_a_false_primary_do_no_harm(tmp_path: Path, chance: random.Random) -> None:
    with served(tmp_path / "p") as (wiki, server):
        wiki.put("a", 1)
        with perdure.follow(Wiki, server.url, tmp_path / "r") as replica:
            in_step(wiki, replica)
    for _ in range(10):
        with accepting(http_answer(chance.randbytes(chance.choice((0, 1, 40, 5000))))) as url:
            for where in (tmp_path / "n", None):
                with pytest.raises(perdure.PerdureError) as caught:
                    perdure.follow(Wiki, url, where)
                assert isinstance(caught.value, perdure.CorruptError | perdure.UnreachableError)
            with contextlib.suppress(perdure.CorruptError), perdure.follow(Wiki, url, tmp_path / "r") as replica:
                assert replica.pages == {"a": 1}


def test_a_primary_that_was_brought_back_from_a_backup_is_not_followed(tmp_path: Path) -> None:
    port = free_port()
    with served(tmp_path / "p", port=port) as (wiki, server):
        wiki.put("a", 1)
        machine_of(wiki).mark()
        subprocess.run(["cp", "-r", str(tmp_path / "p"), str(tmp_path / "backup")], check=True)
        with perdure.follow(Wiki, server.url, tmp_path / "r") as replica:
            wiki.put("b", 2)
            wiki.put("c", 3)
            in_step(wiki, replica)
    with served(tmp_path / "backup", port=port) as (wiki, server):
        with pytest.raises(perdure.DivergedError, match="ends before"):
            perdure.follow(Wiki, server.url, tmp_path / "r")
        for number in range(5):
            wiki.put("other", number)
        with pytest.raises(perdure.DivergedError, match="another one"):
            perdure.follow(Wiki, server.url, tmp_path / "r")
    with served(tmp_path / "q", port=port), pytest.raises(perdure.DivergedError, match="another system"):
        perdure.follow(Wiki, server.url, tmp_path / "r")


def test_a_method_that_does_something_else_elsewhere_is_found_by_digest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "perdure")
    with served(tmp_path / "p", Impure, digest_interval_s=0.05, validate="off") as (impure, server):
        replica = perdure.follow(Impure, server.url, tmp_path / "r", validate="off")
        impure.add()

        def stopped() -> bool:
            impure.add()
            try:
                replica.values
                return False if machine_of(replica)._broken is None else bool(perdure.control(replica).digest())
            except perdure.DivergedError:
                return True

        wait_until(stopped)
        with pytest.raises(perdure.DivergedError, match="not the primary's"):
            perdure.control(replica).digest()
        replica.close()
        assert impure.values


def test_digests_agree_also_of_a_large_state_that_a_child_digests(tmp_path: Path) -> None:
    with served(tmp_path / "p", digest_interval_s=0.05) as (wiki, server):
        wiki.put("large", list(range(100_000)))
        perdure.control(wiki).take_snapshot()
        with perdure.follow(Wiki, server.url, tmp_path / "r") as replica:
            checks = server.publisher._checks

            def agreed() -> bool:
                wiki.put("x", time.monotonic())
                return sum(digest is not None for digest in checks.values()) >= 3

            wait_until(agreed)
            in_step(wiki, replica)
            assert replica.pages == wiki.pages


# --- promotion ---


def test_a_promoted_replica_writes_and_the_old_writer_refuses_to_go_on(tmp_path: Path) -> None:
    with served(tmp_path / "p") as (wiki, server):
        wiki.put("a", 1)
        replica = perdure.follow(Wiki, server.url, tmp_path / "r")
        in_step(wiki, replica)
        perdure.control(replica).promote()
        assert replica.put("b", 2) == 2
        wait_until(lambda: machine_of(wiki)._fenced is not None)
        with pytest.raises(perdure.FencedError, match="term 1"):
            wiki.put("c", 3)
        assert wiki.get("a") == 1
        with pytest.raises(perdure.UsageError, match="promoted before"):
            perdure.control(replica).promote()
    with pytest.raises(perdure.FencedError):
        perdure.open(Wiki, tmp_path / "p")
    replica.close()
    with perdure.open(Wiki, tmp_path / "r") as again:
        assert again.pages == {"a": 1, "b": 2}
        again.put("c", 3)
        assert machine_of(again).term == 1


def test_an_old_writer_that_comes_back_is_told_as_soon_as_it_is_there(tmp_path: Path) -> None:
    port = free_port()
    with served(tmp_path / "p", port=port) as (wiki, server):
        wiki.put("a", 1)
        replica = perdure.follow(Wiki, server.url, tmp_path / "r")
        in_step(wiki, replica)
    perdure.control(replica).promote()
    replica.put("b", 2)
    with served(tmp_path / "p", port=port) as (wiki, _):
        wait_until(lambda: machine_of(wiki)._fenced is not None)
        with pytest.raises(perdure.FencedError):
            wiki.put("c", 3)
    replica.close()


def test_another_replica_tells_it_too_and_follows_the_new_writer(tmp_path: Path) -> None:
    with served(tmp_path / "p") as (wiki, server):
        wiki.put("a", 1)
        first = perdure.follow(Wiki, server.url, tmp_path / "r1")
        second = perdure.follow(Wiki, server.url, tmp_path / "r2")
        in_step(wiki, first, second)
        second.close()
        first.close()
    with perdure.follow(Wiki, f"http://127.0.0.1:{free_port()}", tmp_path / "r1") as first:
        perdure.control(first).promote()
        first.put("b", 2)
        with serving(machine_of(first)) as new:
            with perdure.follow(Wiki, new.url, tmp_path / "r2") as second:
                in_step(first, second)
                assert second.pages == first.pages
                assert machine_of(second).term == 1
            with served(tmp_path / "p") as (wiki, old):
                with pytest.raises(perdure.FencedError, match="was replaced"):
                    perdure.follow(Wiki, old.url, tmp_path / "r2")
                with pytest.raises(perdure.FencedError):
                    wiki.put("c", 3)
            # What the old one had acknowledged and nobody received is not quietly dropped.
            with pytest.raises(perdure.UsageError, match="a writer's"):
                perdure.follow(Wiki, new.url, tmp_path / "p")


def test_a_replica_in_memory_is_promoted_into_a_directory(tmp_path: Path) -> None:
    with served(tmp_path / "p") as (wiki, server):
        wiki.put("a", 1)
        replica = perdure.follow(Wiki, server.url)
        in_step(wiki, replica)
        perdure.open(Wiki, tmp_path / "q").close()
        with pytest.raises(perdure.UsageError, match="kept there already"):
            perdure.control(replica).promote(tmp_path / "q")
        wiki.put("b", 2)
        in_step(wiki, replica)
        perdure.control(replica).promote(tmp_path / "n")
        replica.put("c", 3)
        assert perdure.control(replica).path == str(tmp_path / "n")
        replica.close()
    with perdure.open(Wiki, tmp_path / "n") as again:
        assert again.pages == {"a": 1, "b": 2, "c": 3}


# --- kills ---


def kill_both_under_load(folder: Path, rounds: int, chance: random.Random) -> None:
    """Kills the primary, the replica, or both, in the middle of what they do."""
    port = free_port()
    acknowledged: set[int] = set()
    for turn in range(rounds):
        with contextlib.ExitStack() as stack:
            primary = stack.enter_context(_program("_primary_server.py", str(folder / "p"), str(port)))
            assert primary.stdout is not None
            assert primary.stdout.readline() == "ready\n"
            replica = stack.enter_context(
                _program("_replica_program.py", f"http://127.0.0.1:{port}", str(folder / "r"))
            )
            assert replica.stdout is not None
            assert replica.stdout.readline() == "ready\n"
            for _ in range(chance.randrange(50, 200)):
                acknowledged.add(int(primary.stdout.readline()))
            for victim in (primary, replica) if turn % 2 else (replica, primary):
                os.kill(victim.pid, signal.SIGKILL)
                victim.wait()
            acknowledged |= {int(line) for line in primary.stdout if line.endswith("\n")}
    with served(folder / "p", Counted, port=port) as (counted, server):
        assert counted.numbers == list(range(len(counted.numbers)))
        assert acknowledged <= set(counted.numbers)
        with perdure.follow(Counted, server.url, folder / "r") as replica_here:
            in_step(counted, replica_here)
            assert replica_here.numbers == counted.numbers


def _program(name: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name(name)), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_killed_primaries_and_replicas_lose_nothing_acknowledged_and_apply_nothing_twice(
    tmp_path: Path, chance: random.Random
) -> None:
    kill_both_under_load(tmp_path, 3, chance)


@pytest.mark.crash
def test_twenty_killed_primaries_and_replicas(tmp_path: Path, chance: random.Random) -> None:
    kill_both_under_load(tmp_path, 20, chance)
