"""A shared dict, seen from one process: what it is, what comes out of it, and what it refuses."""

from __future__ import annotations

import copy
import errno
import json
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.codecs import Pickle
from perdure.errors import (
    ClosedError,
    CodecError,
    CorruptError,
    DuplicateKeyError,
    LockedError,
    UsageError,
    WriteError,
)
from perdure.mapping import PersistentDict, Tracker
from perdure.shared import SharedDict, SharedList, SharedPersistentDict, SharedPOD, SharedTracker
from perdure.testing import Call, FaultyFs
from tests.unit.shared._processes import Process, processes


@pytest.fixture(scope="module")
def other() -> Iterator[Process]:
    """One process for all tests of this file: starting one takes longer than most of them."""
    with processes() as make:
        yield make()


@pytest.fixture(params=["owner", "client"])
def shared(request: pytest.FixtureRequest, tmp_path: Path, other: Process) -> Iterator[SharedPersistentDict]:
    """The same handle twice: in the process that owns the directory, and in another one."""
    if request.param == "client":
        other.do(f"s = SharedPersistentDict({str(tmp_path / 'd')!r})")
    with SharedPersistentDict(tmp_path / "d") as handle:
        assert handle.is_owner == (request.param == "owner")
        yield handle
    if request.param == "client":
        other.do("s.close()")


# ---- what the dicts' documentation shows


def test_it_is_a_dict_that_is_there_again(tmp_path: Path) -> None:
    my_pod = SharedPOD(tmp_path / "my.pod")
    my_pod["foo"] = "bar"
    assert my_pod["foo"] == "bar"
    assert [key + " " + my_pod[key] for key in my_pod] == ["foo bar"]
    my_pod.close()
    with SharedPOD(tmp_path / "my.pod") as again:
        assert again["foo"] == "bar"


def test_changes_at_any_depth_reach_the_original(shared: SharedPersistentDict) -> None:
    shared["mutable"] = [1, 2, 3]
    shared["mutable"].append(4)
    shared["a"] = {"b": []}
    shared["a"]["b"].append(1)
    shared.set["a"]["b"].append(2)
    shared.set["a"]["b"] += [3]
    shared["a"]["b"] += [4]
    shared.set["a"]["n"] = 1
    shared.set["a"]["n"] += 1
    shared["a"]["n"] -= 2
    assert shared["a"].pop("n") == 0
    shared["a"]["c"] = {"d": [{"e": 1}]}
    shared["a"]["c"]["d"][0]["e"] = 2
    shared.update("mutable")
    assert shared.copy() == {"mutable": [1, 2, 3, 4], "a": {"b": [1, 2, 3, 4], "c": {"d": [{"e": 2}]}}}


def test_holding_makes_many_changes_one(shared: SharedPersistentDict) -> None:
    shared["n"] = 0
    shared.hold()
    shared["n"] = 1
    assert shared.dirty() == {"n"}
    shared.revert()
    assert shared["n"] == 0
    shared["n"] = 2
    shared.sync()
    shared["n"] = 3
    shared.unhold()
    assert shared["n"] == 3
    assert shared.dirty() == set()


# ---- a dict


def test_it_does_what_a_dict_does(shared: SharedPersistentDict) -> None:
    plain: dict[Any, Any] = {}
    for mapping in (shared, plain):
        mapping["a"] = 1
        mapping[7] = [1.5, None, True, "é"]
        mapping["t", 1, ("u",)] = {"x": {}}
        mapping.update({"b": 2}, c=3)
        mapping.update([("d", 4)])
        assert mapping.setdefault("a", 9) == 1
        assert mapping.setdefault("new", [5]) == [5]
        assert mapping.pop("b") == 2
        assert mapping.pop("b", "gone") == "gone"
        assert mapping.pop(7) == [1.5, None, True, "é"]
        mapping["last"] = [0]
        assert mapping.popitem() == ("last", [0])
        del mapping["c"]
        mapping["big"] = 1 << 62
        with pytest.raises(KeyError, match="missing"):
            mapping["missing"]
        with pytest.raises(KeyError):
            del mapping["missing"]
        with pytest.raises(KeyError):
            mapping.pop("missing")
    assert list(shared) == list(plain)
    assert list(reversed(shared)) == list(reversed(plain))
    assert list(shared.items()) == list(plain.items())
    assert list(shared.values()) == list(plain.values())
    assert list(shared.keys()) == list(plain)
    assert shared == plain
    assert shared | {"z": 1} == plain | {"z": 1}
    assert {"z": 1} | shared == {"z": 1} | plain
    assert len(shared) == len(plain)
    assert ("t", 1, ("u",)) in shared
    assert "missing" not in shared
    assert shared.get("missing", 5) == 5
    shared |= {"in": 1}
    assert shared["in"] == 1
    shared.clear()
    assert not shared
    with pytest.raises(KeyError):
        shared.popitem()


def test_lists_do_what_lists_do(shared: SharedPersistentDict) -> None:
    shared["l"] = [3, 1]
    found = shared["l"]
    plain: list[Any] = [3, 1]
    for values in (found, plain):
        values.append(2)
        values.extend(n for n in (9, 8))
        values.insert(0, {"k": [1]})
        values[1] = "x"
        values[2:4] = ["y", "z", "w"]
        assert values.pop() == 8
        assert values.pop(0) == {"k": [1]}
        values.remove("z")
        values += [5]
        values *= 2
        values.reverse()
        del values[0]
        del values[1:3]
        values.sort(key=str)
        with pytest.raises(IndexError):
            values.pop(99)
        with pytest.raises(ValueError, match="not in list"):
            values.remove("nowhere")
    assert type(found) is SharedList
    assert found == plain
    assert shared["l"] == plain
    found.clear()
    assert shared["l"] == []


def test_dicts_in_it_do_what_dicts_do(shared: SharedPersistentDict) -> None:
    shared["d"] = {"a": 1}
    found = shared["d"]
    plain: dict[str, Any] = {"a": 1}
    for values in (found, plain):
        values["b"] = [1]
        values["b"].append(2)
        values.update({"c": {"x": 1}}, e=5)
        values["c"]["x"] = 2
        assert values.setdefault("a", 7) == 1
        values.setdefault("s", []).append(1)
        assert values.pop("e") == 5
        assert values.pop("e", None) is None
        values |= {"f": 6}
        assert values.popitem() == ("f", 6)
        del values["a"]
    assert type(found) is SharedDict
    assert found == plain
    assert shared["d"] == plain
    found.clear()
    assert shared["d"] == {}


def test_what_comes_out_is_a_copy_and_plain_to_others(shared: SharedPersistentDict) -> None:
    shared["a"] = {"b": [1]}
    found = shared["a"]
    shared["a"]["b"].append(2)
    assert found == {"b": [1]}
    assert json.loads(json.dumps(found)) == {"b": [1]}
    assert type(copy.deepcopy(found)) is dict
    assert type(pickle.loads(pickle.dumps(found))["b"]) is list
    taken = shared.pop("a")
    taken["b"].append(3)
    assert type(taken) is dict
    assert "a" not in shared


def test_the_way_to_a_container_holds_whatever_comes_before_it(shared: SharedPersistentDict) -> None:
    shared["rows"] = [{"n": 1}, {"n": 2}]
    second = shared["rows"][1]
    shared["rows"].insert(0, {"n": 0})
    second["n"] = 20
    assert shared["rows"] == [{"n": 0}, {"n": 1}, {"n": 20}]
    del shared["rows"][2]
    with pytest.raises(KeyError, match="any more"):
        second["n"] = 21
    assert shared["rows"] == [{"n": 0}, {"n": 1}]


def test_what_a_queue_gives_is_given_once_though_the_copies_are_old(shared: SharedPersistentDict) -> None:
    shared["queue"] = [1, 2, 3]
    one, other = shared["queue"], shared["queue"]
    assert [one.pop(0), other.pop(0), one.pop(0)] == [1, 2, 3]
    with pytest.raises(IndexError):
        other.pop(0)
    assert shared["queue"] == []


def test_going_through_it_passes_over_what_is_taken_out_meanwhile(shared: SharedPersistentDict) -> None:
    shared.update({f"k{n}": n for n in range(2500)})
    seen = []
    for key, _ in shared.items():
        seen.append(key)
        if key == "k10":
            del shared["k2400"]
            shared["later"] = 1
    assert seen == [f"k{n}" for n in range(2500) if n != 2400]


def test_large_values_come_in_several_messages(shared: SharedPersistentDict) -> None:
    text = "x" * 300_000
    shared.update({n: [text] for n in range(20)})
    assert all(value == [text] for value in shared.values())
    assert len(shared) == 20


def test_a_value_of_another_codec_is_a_copy(tmp_path: Path) -> None:
    with SharedPersistentDict(tmp_path / "p", codec="pickle") as shared:
        shared["when"] = {"set": {1, 2}, ("t",): b"x"}
        found = shared["when"]
        found["set"].add(3)
        assert shared["when"] == {"set": {1, 2}, ("t",): b"x"}
        shared["when"] = found
        assert shared["when"]["set"] == {1, 2, 3}
        assert shared.pop("when")["set"] == {1, 2, 3}
        assert list(shared.items()) == []


# ---- several calls as one


def test_a_transaction_is_made_wholly_or_not_at_all(shared: SharedPersistentDict) -> None:
    shared["a"] = 1
    with shared.transaction():
        shared["a"] = 2
        shared["b"] = [1]
        shared["b"].append(2)
        assert shared.pop("a") == 2
    assert shared.copy() == {"b": [1, 2]}
    with pytest.raises(ZeroDivisionError), shared.transaction():
        shared["b"].append(3)
        shared["c"] = 1 / 0
    assert shared.copy() == {"b": [1, 2]}
    with shared.transaction():
        shared["d"] = 1
        with pytest.raises(ZeroDivisionError), shared.transaction():
            shared["d"] = 1 / 0
    assert shared.copy() == {"b": [1, 2], "d": 1}


def test_a_lock_keeps_other_threads_out_and_its_own_in(shared: SharedPersistentDict) -> None:
    shared["n"] = 0

    def count() -> None:
        for _ in range(20):
            with shared.locked(), shared.locked():
                shared["n"] = shared["n"] + 1

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shared["n"] == 80
    with pytest.raises(UsageError, match="has not locked it"):
        shared.unlock()


def test_operations_as_data(shared: SharedPersistentDict) -> None:
    shared["a"] = {"l": [[1], [2]]}
    assert shared.apply({"do": "pop", "path": ["a", "l", 0]}) == 1
    assert shared.apply({"do": "keys", "path": ["a"]}) == ["l"]
    assert shared.apply({"do": "setdefault", "path": ["a"], "args": ["m", [3]]}) == [3]
    with pytest.raises(UsageError, match="no operation"):
        shared.apply({"do": "__class__"})
    with pytest.raises(UsageError, match="no operation"):
        shared._do("close")
    assert shared["a"] == {"l": [[], [2]], "m": [3]}


# ---- bad input


def test_what_cannot_be_stored_is_refused_and_changes_nothing(shared: SharedPersistentDict) -> None:
    shared["a"] = [1]
    for value in (object(), {1, 2}, float("nan"), float("inf"), b"x", {1: 2}, "\ud800", [lambda: 0]):
        with pytest.raises(CodecError):
            shared["x"] = value
        with pytest.raises(CodecError):
            shared["a"].append(value)
    for key in (1.5, None, b"k", True, frozenset(), ("a", None)):
        with pytest.raises(CodecError):
            shared[key] = 1
    assert shared.copy() == {"a": [1]}


def test_a_closed_handle_says_so(shared: SharedPersistentDict) -> None:
    shared["a"] = 1
    shared.close()
    shared.close()
    assert shared.closed
    for call in (lambda: shared["a"], lambda: len(shared), shared.sync, shared.lock, shared.hold, lambda: list(shared)):
        with pytest.raises(ClosedError):
            call()
    assert "closed" in repr(shared)


def test_other_options_than_those_in_use_are_refused(shared: SharedPersistentDict) -> None:
    for options in ({"durability": "always"}, {"gzipped": True}, {"codec": "pickle"}, {"file_size": 7}):
        with pytest.raises(UsageError, match=next(iter(options))):
            SharedPersistentDict(shared.path, **options)
    with SharedPersistentDict(shared.path) as other:
        assert other == shared


def test_another_process_with_other_options_is_refused(tmp_path: Path) -> None:
    with SharedPersistentDict(tmp_path / "d") as shared, processes() as make:
        shared["a"] = 1
        code = f"SharedPersistentDict({str(tmp_path / 'd')!r}, gzipped=True)"
        told = make().do(f"refused({code!r})")
        assert "UsageError" in told
        assert "gzipped" in told
        assert shared["a"] == 1


def test_a_file_and_a_foreign_writer_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file"):
        SharedPersistentDict(tmp_path / "file")
    with processes() as make:
        make().do(f"from perdure.mapping import PersistentDict; p = PersistentDict({str(tmp_path / 'd')!r})")
        with pytest.raises(LockedError, match="for writing"):
            SharedPersistentDict(tmp_path / "d")
    # The writer is gone, and nothing was left in the way.
    with SharedPersistentDict(tmp_path / "d") as shared:
        assert len(shared) == 0


def test_a_damaged_file_is_named_and_nobody_is_left_hanging(tmp_path: Path) -> None:
    with PersistentDict(tmp_path / "d", {"a": 1, "b": 2}) as pod:
        pod.sync()
    (path,) = (tmp_path / "d").glob("snapshot-*")
    path.write_bytes(path.read_bytes().replace(b'"value":1', b'"value":#'))
    for _ in range(2):
        with pytest.raises(CorruptError, match="line 2"):
            SharedPersistentDict(tmp_path / "d")


def test_a_full_disk_is_an_ordinary_error(tmp_path: Path) -> None:
    full = False

    def refuse(call: Call) -> None:
        if full and call.name == "write":
            raise OSError(errno.ENOSPC, "no room")

    with SharedPersistentDict(tmp_path / "d", fs=FaultyFs(before=refuse)) as shared:
        shared["a"] = [1]
        full = True
        with pytest.raises(WriteError) as raised:
            shared["a"].append(2)
        assert raised.value.outcome == "not-written"
        full = False
        shared["a"].append(3)
        assert shared["a"] == [1, 3]


def test_handles_of_one_process_share_one_dict(tmp_path: Path) -> None:
    with SharedPersistentDict(tmp_path / "d") as one, SharedPersistentDict(tmp_path / "d") as two:
        one["a"] = 1
        assert two["a"] == 1
        one.close()
        two["a"] = 2
    with PersistentDict(tmp_path / "d") as pod:
        assert pod == {"a": 2}


def test_a_handle_that_is_forgotten_lets_go(tmp_path: Path) -> None:
    shared = SharedPersistentDict(tmp_path / "d")
    shared["a"] = 1
    del shared
    for thread in threading.enumerate():
        if thread.name == "perdure-closing":
            thread.join()
    with PersistentDict(tmp_path / "d") as pod:
        assert pod == {"a": 1}


# ---- the directory


def test_a_path_that_is_longer_than_a_socket_address(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 90) / ("y" * 90)
    with SharedPersistentDict(path) as shared, processes() as make:
        other = make()
        other.do(f"s = SharedPersistentDict({str(path)!r}); s['a'] = 1; assert not s.is_owner")
        assert shared["a"] == 1
    assert not (path / "owner.sock").exists()


def test_files_are_for_this_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with SharedPersistentDict(tmp_path / "d") as shared:
            shared.lock()
            shared.unlock()
            for name in ("owner", "owner.sock", "turn"):
                assert (tmp_path / "d" / name).stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


def test_a_stale_socket_is_no_hindrance(tmp_path: Path) -> None:
    with processes() as make:
        owner = make()
        owner.do(f"s = SharedPersistentDict({str(tmp_path / 'd')!r}); s['a'] = 1")
        owner.kill()
    assert (tmp_path / "d" / "owner.sock").exists()
    with SharedPersistentDict(tmp_path / "d") as shared:
        assert shared.is_owner
        assert shared["a"] == 1


# ---- jobs


def test_a_dict_becomes_a_tracker(shared: SharedPersistentDict) -> None:
    shared.update({"a": 1, "b": {"x": 2}})
    with shared.convert_to_tracker(max_tries=2) as tracker:
        assert tracker["a"]["value"] == 1
        assert sorted(tracker.claim(5)) == ["a", "b"]
        assert tracker.counts()["claimed"] == 2


def test_a_tracker_does_what_a_tracker_does(tmp_path: Path) -> None:
    with SharedTracker(tmp_path / "t", max_tries=2, init={"a": {"n": 1}}) as tracker:
        tracker.add("b")
        tracker.add_many(["c", ("d", 1)])
        with pytest.raises(DuplicateKeyError, match="'b'"):
            tracker.add("b")
        assert not tracker.add_if_absent("b")
        assert tracker.add_many_if_absent(["c", "e"]) == 1
        assert tracker.should_do_add("f")
        assert tracker.should_try("f")
        assert tracker.claim(3) == ["a", "b", "c"]
        tracker.mark_done("a")
        tracker.release("b")
        tracker.fail("c", ValueError("no"))
        assert tracker.heartbeat("c") is False
        assert "ValueError: no" in tracker.failures()["c"]
        assert tracker.retry_failed() == 1
        tracker.abort("e")
        assert list(tracker.aborted_keys()) == ["e"]
        assert list(tracker.aborted_items(allow_aborted=False)) == []
        assert tracker.tries("b") == 0
        assert tracker.done("a")
        assert tracker.num_done() == 1
        assert tracker.fraction_done() == 1 / 6
        assert tracker.percent_not_done() == pytest.approx(100 * 5 / 6)
        assert tracker.tries("f") == 1
        assert set(tracker.claim(9)) == {"b", "c", ("d", 1), "f"}
        assert tracker.claim() == []
        assert not tracker.should_do("f")
        tracker.release("f")
        added = []
        for key, job in tracker.todo_items():
            if key == "b":
                tracker.add("late")
            added.append(key)
            assert job["_done"] is False
        assert added[-1] == "late"
        tracker["b"]["note"] = "mine"
        assert tracker["b"]["note"] == "mine"


def test_a_shared_job_is_counted_as_tried_when_it_comes(tmp_path: Path) -> None:
    with SharedTracker(tmp_path / "t", max_tries=2) as tracker, processes() as make:
        other = make()
        other.do(f"s = SharedTracker({str(tmp_path / 't')!r}, 2)")
        tracker.add_many("abcd")
        seen = []
        for key in tracker.try_keys():
            seen.append(key)
            assert tracker.num_tried() == len(seen)
            if key == "a":
                other.do("s.mark_done('b'); s.__delitem__('c'); s.add('e')")
        assert seen == ["a", "d", "e"]
        assert other.do("[(key, job['_tries']) for key, job in s.try_items()]") == "[('a', 2), ('d', 2), ('e', 2)]"
        assert list(tracker.try_values()) == list(tracker.todo_keys()) == []
        assert (tracker.should_do("a"), tracker.should_try("a")) == (False, False)
        tracker.reset_tries("a")
        assert other.do("s.should_try('a')") == "True"
        tracker.fail("a", "x")
        assert tracker.tries("a") == 1
        with pytest.raises(KeyError):
            tracker.should_try("c")
        for job in tracker.try_values():
            job["seen"] = True
        assert tracker["a"]["seen"]


def test_a_lease_that_runs_out_is_handed_on(tmp_path: Path) -> None:
    with SharedTracker(tmp_path / "t", lease_s=0.05) as tracker:
        tracker.add("a")
        assert tracker.claim() == ["a"]
        deadline = [tracker.claim(worker="another")]
        while not deadline[-1]:
            deadline.append(tracker.claim(worker="another"))
        assert not tracker.heartbeat("a")
        assert tracker.heartbeat("a", worker="another", lease_s=60)
        assert tracker.claim() == []


def test_a_tracker_of_one_process_reads_what_a_shared_one_wrote(tmp_path: Path) -> None:
    with SharedTracker(tmp_path / "t", max_tries=3) as shared:
        shared.add_many(range(5))
        shared.mark_done(2)
    with Tracker(tmp_path / "t", max_tries=3) as tracker:
        assert tracker.num_done() == 1


def test_names_at_the_top_level() -> None:
    assert perdure.SharedPOD is perdure.SharedPersistentOrderedDict is perdure.SharedPersistentDict
    assert perdure.SharedProgressTracker is perdure.SharedTracker


def test_an_entry_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.shared._frames.SHARED_FRAME_BYTES_MAX", 100_000)
    with SharedPersistentDict(tmp_path / "d", codec=Pickle()) as shared, processes() as make:
        other = make()
        other.do(
            "import perdure.shared._frames as f; f.SHARED_FRAME_BYTES_MAX = 100_000;"
            f"from perdure.codecs import Pickle; s = SharedPersistentDict({str(tmp_path / 'd')!r}, codec=Pickle())"
        )
        assert "at most" in other.do("refused('s[1] = \"x\" * 200_000')")
        shared["b"] = "x" * 200_000
        assert "at most" in other.do("refused('s[\"b\"]')")
        other.do("s['c'] = 1")
        assert shared["c"] == 1


def test_a_process_is_a_helper_that_tells_of_errors() -> None:
    with processes() as make, pytest.raises(AssertionError, match="ZeroDivisionError"):
        made: Process = make()
        made.do("1 / 0")
