"""``Tracker``: jobs, their counts, and who has them."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import CodecError, DuplicateKeyError, UsageError
from perdure.mapping import POD, ProgressTracker, Tracker

FRESH = {"_done": False, "_tries": 0, "_aborted": False}
NS = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = 1_700_000_000 * NS

    def time_ns(self) -> int:
        return self.now_ns


def test_jobs_are_added_once(tmp_path: Path) -> None:
    with Tracker(tmp_path / "t", init={"z": {"x": 1}}) as tracker:
        assert tracker["z"] == {**FRESH, "x": 1}
        tracker.add("a")
        tracker.add("b", {"url": "u"})
        assert tracker["b"] == {**FRESH, "url": "u"}
        with pytest.raises(DuplicateKeyError):
            tracker.add("a")
        with pytest.raises(KeyError):
            tracker.add_many(["new", "a"])
        with pytest.raises(DuplicateKeyError):
            tracker.add_many(["new", "new"])
        assert "new" not in tracker
        tracker.add_many(["c", "d"])
        assert tracker.add_if_absent("e")
        assert not tracker.add_if_absent("e")
        assert tracker.add_many_if_absent(["e", "f", "f"]) == 1
        tracker["g"] = {"_done": True}
        tracker.update({"h": {"y": 1}})
        tracker.setdefault("i")
        assert list(tracker) == ["z", "a", "b", "c", "d", "e", "f", "g", "h", "i"]
        assert tracker["g"] == {**FRESH, "_done": True}
        assert tracker["h"] == {**FRESH, "y": 1}
        assert tracker["i"] == FRESH


def test_one_job(tmp_path: Path) -> None:
    with Tracker(tmp_path / "t", max_tries=2) as tracker:
        tracker.add("a")
        assert (tracker.done("a"), tracker.tries("a"), tracker.aborted("a")) == (False, 0, False)
        tracker.decrement_tries("a")
        assert tracker.tries("a") == 0
        assert tracker.should_try("a")
        tracker.increment_tries("a")
        assert tracker.tries("a") == 2
        assert (tracker.should_do("a"), tracker.should_try("a"), tracker.should_try_add("a")) == (False, False, False)
        tracker.decrement_tries("a")
        assert (tracker.should_do("a"), tracker.should_do_add("a"), tracker.tries("a")) == (True, True, 1)
        assert tracker.should_try_add("a")
        assert tracker.tries("a") == 2
        tracker.reset_tries("a")
        assert tracker.tries("a") == 0
        tracker.abort("a")
        assert (tracker.should_do("a"), tracker.should_try("a")) == (False, False)
        assert tracker.should_do("a", allow_aborted=True)
        assert tracker.tries("a") == 0
        assert tracker.should_try("a", allow_aborted=True)
        assert tracker.tries("a") == 1
        tracker.unabort("a")
        tracker.mark_done("a")
        assert (tracker.should_do("a"), tracker.should_try("a"), tracker.done("a")) == (False, False, True)
        tracker.mark_not_done("a")
        assert tracker.should_do("a")
        assert tracker.should_do_add("b")
        assert tracker.should_try_add("c")
        assert (tracker.tries("b"), tracker.tries("c")) == (0, 1)
        tracker.mark_done("c")
        assert not tracker.should_try_add("c")
        assert not tracker.should_do_add("c")
        for call in (tracker.mark_done, tracker.tries, tracker.should_do, tracker.should_try, tracker.release):
            with pytest.raises(KeyError):
                call("nothing")


def test_iterators_go_on_with_what_is_added(tmp_path: Path) -> None:
    with Tracker(tmp_path / "t", max_tries=1) as tracker:
        tracker.add(0)
        seen = []
        for key in tracker.todo_keys():
            seen.append(key)
            tracker.mark_done(key)
            if key < 20:
                tracker.add_many_if_absent([2 * key + 1, 2 * key + 2])
            tracker.pop(key - 5, None)
        assert seen == list(range(41))
        tracker.clear()
        tracker.add_many("abcd")
        tracker.mark_done("a")
        tracker.increment_tries("b")
        tracker.abort("c")
        assert list(tracker.todo_keys()) == ["d"]
        assert list(tracker.todo_keys(allow_aborted=True)) == ["c", "d"]
        assert list(tracker.todo_items()) == [("d", tracker["d"])]
        assert list(tracker.todo_values()) == [tracker["d"]]
        assert list(tracker.aborted_keys()) == ["c"]
        assert list(tracker.aborted_items()) == [("c", tracker["c"])]
        assert list(tracker.aborted_values(allow_aborted=True)) == [tracker["c"]]
        assert list(tracker.aborted_keys(allow_aborted=False)) == []
        assert list(tracker.aborted_items(allow_aborted=False)) == []
        assert list(tracker.aborted_values(allow_aborted=False)) == []
        assert tracker.num_tried() == 1


def test_a_job_is_counted_as_tried_when_it_comes(tmp_path: Path) -> None:
    with Tracker(tmp_path / "t", max_tries=2) as tracker:
        tracker.add_many("abcd")
        seen = []
        for key in tracker.try_keys():
            seen.append(key)
            assert tracker.num_tried() == len(seen)
            if key == "a":
                tracker.mark_done("b")
                del tracker["c"]
                tracker.add("e")
        assert seen == ["a", "d", "e"]
        assert next(tracker.try_values()) is tracker["a"]
        assert [(key, job["_tries"]) for key, job in tracker.try_items()] == [("d", 2), ("e", 2)]
        assert list(tracker.try_keys()) == list(tracker.todo_keys()) == []
        tracker.reset_tries("d")
        tracker.abort("d")
        assert list(tracker.try_items()) == []
        assert list(tracker.try_items(allow_aborted=True)) == [("d", tracker["d"])]
    with Tracker(tmp_path / "t", max_tries=2) as tracker:
        assert [tracker.tries(key) for key in "abde"] == [2, 0, 1, 2]


def test_a_loop_of_tastypy_ends_although_a_job_fails_every_time(tmp_path: Path) -> None:
    links = {"seed": ["a", "bad"], "a": ["seed", "b"], "b": []}
    crawled: list[Any] = []
    for _ in range(5):
        with Tracker(tmp_path / "urls.tracker", max_tries=3) as url_tracker:
            url_tracker.add_if_absent("seed")
            for url in url_tracker.try_keys():
                crawled.append(url)
                if url not in links:
                    continue
                url_tracker.add_many_if_absent(links[url])
                url_tracker.mark_done(url)
    assert crawled == ["seed", "a", "bad", "b", "bad", "bad"]


def test_a_try_is_counted_before_its_job_is_handed_out(tmp_path: Path) -> None:
    program = (
        "import os, sys; from perdure.mapping import Tracker\n"
        "for key in Tracker(sys.argv[1], init={'a': {}, 'b': {}}).try_keys(): os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path / "t")]).returncode == -9
    with Tracker(tmp_path / "t") as tracker:
        assert (tracker.tries("a"), tracker.tries("b")) == (1, 0)


def test_a_failed_try_is_counted_once(tmp_path: Path) -> None:
    with Tracker(tmp_path / "t") as tracker:
        tracker.add("a")
        tracker.fail("a", "not begun: counted here")
        for tries, begin in enumerate((lambda: tracker.should_try("a"), lambda: next(tracker.try_keys())), 2):
            assert begin()
            tracker["a"]["note"] = "x"
            tracker.fail("a", "x")
            assert tracker.tries("a") == tries
        tracker.fail("a", "not begun again")
        assert tracker.tries("a") == 4
        assert tracker.should_try("a")
        with pytest.raises(ZeroDivisionError), tracker.transaction():
            tracker.mark_done("a")
            1 / 0
        tracker.fail("a", "what was begun did not end")
        assert tracker.tries("a") == 5
        with pytest.raises(ZeroDivisionError), tracker.transaction():
            assert tracker.should_try("a")
            1 / 0
        tracker.fail("a", "the try was taken back")
        assert tracker.tries("a") == 6
        for end in (tracker.mark_done, tracker.abort):
            assert tracker.should_try("a")
            tries = tracker.tries("a")
            end("a")
            tracker.release("a")
            assert tracker.tries("a") == tries
            tracker.mark_not_done("a")
            tracker.unabort("a")
            tracker.decrement_tries("a")
            tracker.increment_tries("a")
            tracker.fail("a", "another try")
        assert tracker.tries("a") == 10
        assert tracker.should_try("a")
        tracker.release("a")
        assert tracker.tries("a") == 10
        tracker.release("a")
        assert tracker.tries("a") == 10
        for end in (tracker.fail, lambda key, _: tracker.release(key)):
            tracker.reset_tries("a")
            assert tracker.should_try("a")
            assert tracker.should_try("a")
            end("a", "of two who try it at once")
            tracker.fail("a", "the other one")
            assert tracker.tries("a") == (2 if end == tracker.fail else 1)
        tracker.fail("a", "not begun")
        assert tracker.tries("a") == 2
        assert tracker.should_try("a")
        del tracker["a"]
        tracker.add("a", {"_tries": 11})
        tracker.fail("a", "a new job")
        assert tracker.tries("a") == 12


def numbers(tracker: Tracker) -> list[float]:
    return [
        call()
        for what in ("done", "tried", "aborted")
        for call in (
            getattr(tracker, f"num_{what}"),
            getattr(tracker, f"fraction_{what}"),
            getattr(tracker, f"percent_{what}"),
            getattr(tracker, f"percent_not_{what}"),
        )
    ]


def test_counts_and_shares(tmp_path: Path) -> None:
    with Tracker(tmp_path / "t") as tracker:
        assert numbers(tracker) == [0] * 12
        tracker.add_many("abcd")
        tracker.mark_done("a")
        for key in "abc":
            tracker.increment_tries(key)
        assert numbers(tracker) == [1, 0.25, 25, 75, 3, 0.75, 75, 25, 0, 0, 0, 100]


def test_counts_follow_changes_made_by_hand(tmp_path: Path) -> None:
    with Tracker(tmp_path / "t") as tracker:
        tracker.add_many("abcd")
        tracker["a"]["_done"] = True
        tracker["b"].update(_tries=3)
        del tracker["c"]
        tracker.hold()
        tracker["d"]["_aborted"] = True
        tracker.clear()
        assert tracker.counts() == dict.fromkeys(("total", "done", "tried", "aborted", "failed", "claimed"), 0)
        tracker.revert()
        tracker.unhold()
        wanted = {"total": 3, "done": 1, "tried": 1, "aborted": 0, "failed": 0, "claimed": 0}
        assert tracker.counts() == wanted
        with pytest.raises(ZeroDivisionError), tracker.transaction():
            tracker.mark_done("b")
            1 / 0
        assert tracker.counts() == wanted
        assert sorted(tracker.claim(9)) == ["b", "d"]
    with Tracker(tmp_path / "t") as tracker:
        assert tracker.counts() == {**wanted, "tried": 2, "claimed": 2}


def test_a_claimed_job_is_nobody_elses(tmp_path: Path) -> None:
    with Tracker(tmp_path / "t") as tracker:
        tracker.add_many(range(300))
        got: list[Any] = []

        def work(number: int) -> None:
            while keys := tracker.claim(1 + number % 3):
                for key in keys:
                    got.append(key)
                    if key % 50 == 7 and tracker.tries(key) == 1:
                        tracker.release(key)
                    tracker.mark_done(key)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(set(got)) == list(range(300))
        assert tracker.num_done() == 300


def test_claims_end_with_time_done_release_and_abort(tmp_path: Path) -> None:
    clock = Clock()
    with Tracker(tmp_path / "t", lease_s=10, clock=clock) as tracker:
        tracker.add_many("abcd")
        assert tracker.claim(3, worker="one") == ["a", "b", "c"]
        assert tracker.claim(5, worker="two") == ["d"]
        assert tracker.claim(5, worker="two") == []
        clock.now_ns += 9 * NS
        assert tracker.heartbeat("a", worker="one")
        assert not tracker.heartbeat("a", worker="two")
        tracker.mark_done("b")
        tracker.release("c")
        assert tracker.tries("c") == 0
        assert not tracker.heartbeat("b", worker="one")
        clock.now_ns += 2 * NS
        assert tracker.claim(5, worker="three") == ["c", "d"]
        assert (tracker.tries("c"), tracker.tries("d")) == (1, 2)
        assert not tracker.heartbeat("d", worker="two")
        clock.now_ns += 9 * NS
        assert tracker.claim(1, worker="four") == ["a"]
        tracker.abort("a")
        assert tracker["a"] == {**FRESH, "_tries": 2, "_aborted": True}
        assert "_lease" not in tracker["b"]


def test_a_worker_that_died_loses_its_claims(tmp_path: Path) -> None:
    program = (
        "import os, sys; from perdure.mapping import Tracker\n"
        "t = Tracker(sys.argv[1]); t.add_many('abc'); print(t.claim(2), flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "t")], capture_output=True, text=True)
    assert done.stdout == "['a', 'b']\n"
    with Tracker(tmp_path / "t") as tracker:
        assert tracker.claim() == ["c"]
        assert tracker.claim(5) == ["a", "b"]
        assert tracker.claim(5) == []


def test_failures_keep_their_traceback(tmp_path: Path) -> None:
    with Tracker(tmp_path / "t") as tracker:
        tracker.add_many("ab")
        assert tracker.claim() == ["a"]
        try:
            raise ValueError("no \ud800 luck")
        except ValueError as error:
            tracker.fail("a", error)
        assert tracker.tries("a") == 1
        tracker.fail("b", "because")
        assert tracker.tries("b") == 1
        failures = tracker.failures()
        assert list(failures) == ["a", "b"]
        assert "Traceback" in failures["a"]
        assert "test_failures_keep_their_traceback" in failures["a"]
        assert failures["b"] == "because"
        assert tracker.claim(5) == []
        assert tracker.retry_failed() == 2
        assert tracker.failures() == {}
        assert sorted(tracker.claim(5)) == ["a", "b"]


def test_a_failed_job_is_tried_as_often_as_allowed(tmp_path: Path) -> None:
    with Tracker(tmp_path / "t", max_tries=3) as tracker:
        tracker.add("a")
        rounds = 0
        while tracker.claim():
            rounds += 1
            tracker.fail("a", "again")
        assert rounds == 3
        assert not tracker.should_do("a")
        assert not tracker.should_try("a")
        tracker.mark_done("a")
        assert tracker.failures() == {}


def test_handles_share_jobs_and_agree_on_tries(tmp_path: Path) -> None:
    with Tracker(tmp_path / "t", 2) as one, ProgressTracker(tmp_path / "t", 2) as two, POD(tmp_path / "t") as pod:
        one.add("a")
        assert two.claim() == ["a"]
        assert one.claim() == []
        pod["a"]["_done"] = True
        assert two.num_done() == 1
        with pytest.raises(UsageError, match="max_tries"):
            Tracker(tmp_path / "t")
        assert two.convert_to_tracker() is two
    for bad in (-1, 1.5, True, "x"):
        with pytest.raises(UsageError):
            Tracker(tmp_path / "t", bad)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        Tracker(tmp_path / "u", codec="pickle")


def test_a_dict_becomes_a_tracker(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"a": {"x": 1}, "b": 5, "c": {"_done": True}}) as pod:
        with pod.convert_to_tracker(max_tries=1) as tracker:
            assert tracker["a"] == {**FRESH, "x": 1}
            assert tracker["b"] == {**FRESH, "value": 5}
            assert tracker.num_done() == 1
            assert tracker.claim(5) == ["a", "b"]
        assert pod["b"]["value"] == 5


def test_values_that_are_no_jobs_are_named(tmp_path: Path) -> None:
    POD(tmp_path / "p", {"a": 5, "b": None}).close()
    with Tracker(tmp_path / "p") as tracker:
        assert tracker.claim(5) == []
        assert list(tracker.todo_keys()) == []
        with pytest.raises(UsageError, match="is no job"):
            tracker.mark_done("a")
        with pytest.raises(CodecError):
            tracker.add("c", {"x": {1}})
        assert "c" not in tracker


def test_progress_writes_lines_where_there_is_no_terminal(tmp_path: Path) -> None:
    out = io.StringIO()
    with Tracker(tmp_path / "t") as tracker:
        tracker.add_many("abc")
        with tracker.progress("pages", file=out, interval_s=0.01):
            tracker.mark_done("a")
            deadline = time.monotonic() + 60
            while "pages: 1/3 done" not in out.getvalue():
                assert time.monotonic() < deadline, "nothing was written in between"
                time.sleep(0.01)
            tracker.fail("b", "x")
    assert out.getvalue().startswith("pages: 0/3 done")
    assert out.getvalue().splitlines()[-1].startswith("pages: 1/3 done, 1 failed")


def test_progress_is_a_bar_on_a_terminal(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with Tracker(tmp_path / "t") as tracker:
        tracker.add_many("ab")
        with tracker.progress("pages", file=out):
            tracker.mark_done("a")
    assert "pages" in out.getvalue()
    assert "1/2" in out.getvalue()


def test_progress_outlives_its_tracker(tmp_path: Path) -> None:
    out = io.StringIO()
    tracker = Tracker(tmp_path / "t")
    with tracker.progress(file=out, interval_s=0.01):
        tracker.close()
        threading.Event().wait(0.05)
