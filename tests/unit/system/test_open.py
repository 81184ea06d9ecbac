"""Opening: targets, places, options, and the same state in every process."""

from __future__ import annotations

import contextlib
import datetime
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.codecs import Pickle
from perdure.testing import FaultyFs, FrozenClock, assert_replayable
from tests.unit.system.models import Counter, Plain, Wiki

ROOT = Path(__file__).parents[3]


def test_a_class_an_instance_and_a_factory_are_taken(tmp_path: Path) -> None:
    for number, target in enumerate((Counter, Counter(0), lambda: Counter(0))):
        for turn in range(2):
            with perdure.open(target, tmp_path / str(number)) as counter:
                assert counter.total == turn
                counter.add(1)


def test_what_is_there_wins_over_the_initial_state(tmp_path: Path) -> None:
    with perdure.open(Counter(5), tmp_path / "c") as counter:
        assert counter.total == 5
    with perdure.open(Counter(100), tmp_path / "c") as counter:
        assert counter.total == 5


def test_the_place_is_the_class_in_lower_case_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with perdure.open(Counter) as counter:
        assert perdure.control(counter).path == str(tmp_path / "counter")
        monkeypatch.chdir("/")
        counter.add(1)
        perdure.control(counter).take_snapshot()
    assert (tmp_path / "counter").is_dir()


def test_parents_are_made_and_strings_and_paths_are_one(tmp_path: Path) -> None:
    with perdure.open(Counter, str(tmp_path / "a" / "b" / "c")) as counter:
        counter.add(1)
    with perdure.open(Counter, tmp_path / "a" / "b" / "c") as counter:
        assert counter.total == 1


def test_memory_has_the_same_rules_and_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with perdure.open(Wiki, perdure.MEMORY) as wiki:
        wiki.create("a")
        with pytest.raises(ValueError, match="empty"):
            wiki.all_or_nothing("x", "")
        assert wiki.log == []
        control = perdure.control(wiki)
        assert control.path is None
        assert control.take_snapshot() == control.seq
        assert control.at(1).count() == 1
        assert control.sync() == control.seq == control.durable_seq
        assert_replayable(wiki)
    assert not list(tmp_path.iterdir())
    with pytest.raises(perdure.UsageError, match="directory"):
        perdure.open(Wiki, perdure.MEMORY, mode="r")


@pytest.mark.parametrize("durability", ["always", "everysec", "never"])
def test_every_durability_comes_back_after_a_clean_close(tmp_path: Path, durability: Any) -> None:
    with perdure.open(Counter, tmp_path / "c", durability=durability) as counter:
        for number in range(20):
            counter.add(number)
        control = perdure.control(counter)
        if durability == "always":
            assert control.durable_seq == control.seq == 20
        assert control.sync() == 20
        assert control.durable_seq == 20
    with perdure.open(Counter, tmp_path / "c") as counter:
        assert counter.added == list(range(20))


def test_always_syncs_each_command_and_never_does_not(tmp_path: Path) -> None:
    counts = {}
    for durability in ("always", "never"):
        fs = FaultyFs()
        with perdure.open(Counter, tmp_path / durability, durability=durability, fs=fs) as counter:  # type: ignore[arg-type]
            counter.add(1)
            before = fs.counts["sync"]
            for _ in range(10):
                counter.add(1)
            counts[durability] = fs.counts["sync"] - before
    assert counts["always"] >= 10
    assert counts["never"] <= 1


def test_everysec_syncs_by_itself(tmp_path: Path) -> None:
    with perdure.open(Counter, tmp_path / "c", durability="everysec") as counter:
        counter.add(1)
        deadline = time.monotonic() + 10
        while perdure.control(counter).durable_seq < 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert perdure.control(counter).durable_seq == 1


def test_snapshots_are_taken_at_close_and_not_when_they_are_manual(tmp_path: Path) -> None:
    for snapshot, replayed in (("auto", 0), ("manual", 3)):
        with perdure.open(Counter, tmp_path / snapshot, snapshot=snapshot) as counter:  # type: ignore[arg-type]
            for _ in range(3):
                counter.add(1)
        with perdure.open(Counter, tmp_path / snapshot, snapshot="manual") as counter:
            report = perdure.control(counter).report
            assert report.replayed == replayed
            assert report.snapshot_seq == 3 - replayed
            assert report.seconds >= 0
            assert counter.total == 3


def test_two_snapshots_are_kept(tmp_path: Path) -> None:
    with perdure.open(Counter, tmp_path / "c") as counter:
        for _ in range(5):
            counter.add(1)
            perdure.control(counter).take_snapshot()
        assert perdure.control(counter).take_snapshot() == 5
    assert len(list((tmp_path / "c").glob("snapshot-*"))) == 2


def test_allow_lets_classes_of_others_in(tmp_path: Path) -> None:
    error = argument = subprocess.CompletedProcess([], 0)
    with perdure.open(Plain, tmp_path / "p") as plain:
        with pytest.raises(perdure.CodecError, match="subprocess"):
            plain.put("a", argument)
        with pytest.raises(perdure.CodecError):
            plain.put("a", [error])
    with perdure.open(Plain, tmp_path / "p", allow=[subprocess.CompletedProcess]) as plain:
        plain.put("a", argument)
        assert plain.data["a"].returncode == 0
    with pytest.raises(perdure.CodecError, match="subprocess"):
        perdure.open(Plain, tmp_path / "p")
    with perdure.open(Plain, tmp_path / "p", codec=Pickle(unrestricted=True)) as plain:
        assert plain.items == ["a"]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
def test_plain_codecs_keep_a_class_by_its_attributes(tmp_path: Path, codec: Any) -> None:
    with perdure.open(Plain, tmp_path / "p", codec=codec) as plain:
        plain.put("a", {"b": [1, 2.5, None, True, "x"]})
        plain.extra = [1]  # type: ignore[attr-defined]
        assert_replayable(plain)
    with perdure.open(Plain, tmp_path / "p", codec=codec) as plain:
        assert type(plain).__mro__[1] is Plain
        assert plain.data == {"a": {"b": [1, 2.5, None, True, "x"]}}
        assert plain.extra == [1]  # type: ignore[attr-defined]


def test_changed_code_is_warned_of_only_when_something_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "app_changed.py"
    text = "class Box:\n    def __init__(self): self.n = 0\n    def add(self, k): self.n += k\n"
    script = (
        "import sys, warnings, perdure\nwarnings.simplefilter('always')\nfrom app_changed import Box\n"
        "with perdure.open(Box, 'box', snapshot=sys.argv[1]) as box:\n    box.add(1)\n    print(box.n)\n"
    )

    def run(snapshot: str) -> tuple[str, str]:
        environment = {**os.environ, "PYTHONPATH": f"{Path(perdure.__file__).parents[1]}{os.pathsep}{tmp_path}"}
        done = subprocess.run(
            [sys.executable, "-B", "-c", script, snapshot],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout.strip(), done.stderr

    program.write_text(text)
    assert run("manual") == ("1", "")
    program.write_text(text.replace("self.n += k", "self.n += 2 * k"))
    out, told = run("auto")
    assert out == "4"
    assert "ChangedCodeWarning: add" in told
    program.write_text(text)
    assert run("auto") == ("5", "")


def test_the_clock_of_self_is_there_and_replays(tmp_path: Path) -> None:
    at = datetime.datetime(2031, 1, 1, tzinfo=datetime.UTC)
    with perdure.open(Clocked, tmp_path / "c", snapshot="manual", clock=FrozenClock(at)) as clocked:
        clocked.mark()
        first = list(clocked.marks)
    with perdure.open(Clocked, tmp_path / "c") as clocked:
        assert clocked.marks == first
        assert first[0][1] == at.replace(tzinfo=None)


class Clocked:
    def __init__(self) -> None:
        self.marks: list[Any] = []

    def mark(self) -> None:
        clock = self._clock  # type: ignore[attr-defined]
        self.marks.append((clock.now(), clock.utcnow(), clock.today(), clock.time(), perdure.clock.now(datetime.UTC)))


MATRIX = """
import sys, perdure
from tests.unit.system.models import Wiki
with perdure.open(Wiki, sys.argv[1], snapshot="manual") as wiki:
    if perdure.control(wiki).seq == 0:
        for n in range(30):
            wiki.create(f"page {n}", "text")
            wiki.draw()
        wiki.extra = {"one", "two", "three", "four"}
        wiki.more = {n: {str(n), str(n + 1)} for n in range(5)}
        wiki.take(sorted(wiki.extra))
    print(perdure.control(wiki).digest())
"""


def test_a_replay_gives_the_same_state_whatever_the_process_is_like(tmp_path: Path) -> None:
    digests = set()
    for seed, zone, locale, folder in (
        ("0", "UTC", "C", "/"),
        ("1", "Asia/Tokyo", "C.UTF-8", str(tmp_path)),
        ("7", "America/St_Johns", "POSIX", "/tmp"),
        ("random", "Pacific/Apia", "de_DE.UTF-8", "/"),
    ):
        source = f"{Path(perdure.__file__).parents[1]}{os.pathsep}{ROOT}"
        environment = {**os.environ, "PYTHONPATH": source, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale}
        done = subprocess.run(
            [sys.executable, "-c", MATRIX, str(tmp_path / "wiki")],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout)
    assert len(digests) == 1


def test_many_threads_get_each_their_answer_and_one_order(tmp_path: Path) -> None:
    answers: dict[int, list[int]] = {}

    def work(number: int) -> None:
        answers[number] = [counter.add(1) for _ in range(50)]

    with perdure.open(Counter, tmp_path / "c") as counter:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counter.total == 400
        assert sorted(answer for each in answers.values() for answer in each) == list(range(1, 401))
        assert all(each == sorted(each) for each in answers.values())
        assert_replayable(counter)


def test_commands_that_arrive_during_a_sync_share_the_next_one(tmp_path: Path) -> None:
    class SlowFs(FaultyFs):
        def sync(self, fd: int) -> None:
            time.sleep(0.05)
            super().sync(fd)

    fs = SlowFs()
    with perdure.open(Counter, tmp_path / "c", fs=fs) as counter:
        counter.add(1)
        before = fs.counts["sync"]
        threads = [threading.Thread(target=counter.add) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert fs.counts["sync"] - before < 12
        assert counter.total == 17


def test_in_a_group_each_caller_gets_its_own_error_and_context(tmp_path: Path) -> None:
    import contextvars

    results: dict[int, Any] = {}

    def work(number: int) -> None:
        def call() -> None:
            try:
                results[number] = counter.refuse() if number % 2 else counter.add(number)
            except ValueError as error:
                results[number] = error

        contextvars.copy_context().run(call)

    with perdure.open(Counter, tmp_path / "c") as counter:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(isinstance(results[number], ValueError) == bool(number % 2) for number in range(20))
        assert counter.total == sum(range(0, 20, 2))
        assert_replayable(counter)
    with perdure.open(Counter, tmp_path / "c") as counter:
        assert counter.total == sum(range(0, 20, 2))


def test_queries_do_not_wait_for_the_disk(tmp_path: Path) -> None:
    held, release = threading.Event(), threading.Event()
    stalling = False

    class StallingFs(FaultyFs):
        def sync(self, fd: int) -> None:
            if stalling:
                held.set()
                release.wait(20)
            super().sync(fd)

    with perdure.open(Counter, tmp_path / "c", fs=StallingFs()) as counter:
        counter.add(1)
        stalling = True
        thread = threading.Thread(target=counter.add, args=(5,))
        thread.start()
        assert held.wait(20)
        assert counter.get() == 1
        assert perdure.control(counter).seq == 1  # What is on its way has not happened yet.
        assert perdure.control(counter).durable_seq == 1
        stalling = False
        release.set()
        thread.join()
        assert counter.get() == 6


def test_a_follower_follows(tmp_path: Path) -> None:
    def wait(reader: Counter, total: int) -> None:
        deadline = time.monotonic() + 10
        while reader.get() != total and time.monotonic() < deadline:
            time.sleep(0.01)
        assert reader.get() == total

    with pytest.raises(perdure.MissingError):
        perdure.open(Counter, tmp_path / "c", mode="r")
    with perdure.open(Counter, tmp_path / "c") as counter:
        counter.add(1)
        with (
            perdure.open(Counter, tmp_path / "c", mode="r") as reader,
            perdure.open(Counter, tmp_path / "c", mode="r") as other,
        ):
            wait(reader, 1)
            for call in (lambda: reader.add(1), lambda: setattr(reader, "total", 1)):
                with pytest.raises(perdure.ReadOnlyError) as caught:
                    call()
                assert caught.value.hint
            with pytest.raises(perdure.ReadOnlyError):
                perdure.control(reader).take_snapshot()
            for _ in range(5):
                counter.add(2)
                perdure.control(counter).take_snapshot()
            with pytest.raises(ValueError, match="no"):
                counter.refuse()
            counter.add(4)
            wait(reader, 15)
            wait(other, 15)
            assert perdure.control(reader).digest() == perdure.control(counter).digest()
        with pytest.raises(perdure.ClosedError):
            reader.get()
    with perdure.open(Counter, tmp_path / "c", mode="r") as reader:
        assert reader.get() == 15
        assert perdure.control(reader).seq >= 8


def test_what_became_of_the_last_command_is_known_to_readers_and_in_the_past(tmp_path: Path) -> None:
    with perdure.open(Wiki, tmp_path / "w", snapshot="manual") as wiki:
        with contextlib.suppress(ValueError):
            wiki.fail_half_way("a")
        past = perdure.control(wiki).at(1)  # Its outcome is written in front of the next command.
        for name in "bc":
            wiki.create(name)
        with perdure.open(Wiki, tmp_path / "w", mode="r") as reader:
            again = perdure.control(wiki).at(1)
            for proxy in (past, again, reader):
                assert [c.outcome for c in perdure.control(proxy).history(before=2)] == ["raised"]
            with contextlib.suppress(ValueError):
                wiki.fail_half_way("d")
            wiki.create("e")  # Neither this one nor, perhaps, the outcome before it has settled.
            while perdure.control(reader).seq < 5:
                time.sleep(0.005)
            assert next(perdure.control(reader).history(after=4)).outcome == "raised"


def test_a_reader_writes_nothing(tmp_path: Path) -> None:
    with perdure.open(Counter, tmp_path / "c", snapshot="manual") as counter:
        counter.add(1)
    fs = FaultyFs()
    with perdure.open(Counter, tmp_path / "c", mode="r", fs=fs) as reader:
        assert reader.total == 1
    assert not set(fs.counts) & {"write", "sync", "truncate", "rename", "link", "unlink", "mkdir", "rmdir", "lock"}
