"""``PersistentDict`` as its callers see it."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import threading
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from perdure.errors import (
    ClosedError,
    CodecError,
    CorruptError,
    MissingError,
    ReadOnlyError,
    StorageError,
    UsageError,
    WriteError,
)
from perdure.mapping import POD, PersistentDict, TrackedDict, TrackedList
from perdure.testing import FaultyFs
from tests.ids import id_of


def reopened(path: Path, **options: Any) -> dict[Any, Any]:
    with PersistentDict(path, **options) as pod:
        return copy.deepcopy(pod.copy())


# ---- the seed's own examples


def test_the_examples_of_the_document_that_it_grew_from(tmp_path: Path) -> None:
    path = tmp_path / "path" / "to" / "my.pod"
    my_pod = POD(path)
    my_pod["foo"] = "bar"
    assert my_pod["foo"] == "bar"
    assert [key + " " + my_pod[key] for key in my_pod] == ["foo bar"]
    del my_pod
    my_pod = POD(path)
    assert my_pod["foo"] == "bar"
    my_pod["mutable"] = [1, 2, 3]
    my_pod["mutable"].append(4)
    my_pod.update("mutable")
    my_pod.hold()
    my_pod["foo"] = "baz"
    my_pod.unhold()
    my_pod.sync()
    my_pod.close()
    assert reopened(path) == {"foo": "baz", "mutable": [1, 2, 3, 4]}


# ---- a mapping


def test_it_is_a_mutable_mapping_in_insertion_order(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"b": 1, "a": 2}) as pod:
        assert isinstance(pod, MutableMapping)
        pod["c"] = 3
        pod["b"] = 4
        assert list(pod) == list(pod.keys()) == ["b", "a", "c"]
        assert list(reversed(pod)) == ["c", "a", "b"]
        assert list(pod.items()) == [("b", 4), ("a", 2), ("c", 3)]
        assert (len(pod), "a" in pod, pod.get("x"), pod.get("x", 1)) == (3, True, None, 1)
        assert pod == {"a": 2, "b": 4, "c": 3}
        assert pod != {"a": 2}
        assert pod | {"d": 1} == {"a": 2, "b": 4, "c": 3, "d": 1}
        assert {"d": 1} | pod == {"a": 2, "b": 4, "c": 3, "d": 1}
        assert pod.popitem() == ("c", 3)
        assert pod.setdefault("n", []) == []
        assert pod.pop("nothing", 5) == 5
        with pytest.raises(KeyError):
            pod.pop("nothing")
        with pytest.raises(KeyError):
            del pod["nothing"]
        with pytest.raises(TypeError):
            hash(pod)


def test_update_takes_mappings_pairs_and_keywords(tmp_path: Path) -> None:
    with POD(tmp_path / "p") as pod, POD(tmp_path / "q", {"z": 1}) as other:
        pod.update({"a": 1}, b=2)
        pod.update([("c", 3), (("t", 1), 4)])
        pod.update(other)
        pod |= {"d": 5}
        assert pod == {"a": 1, "b": 2, "c": 3, ("t", 1): 4, "z": 1, "d": 5}
        with pytest.raises(KeyError):
            pod.update("nothing")


def test_keys_are_text_whole_numbers_and_tuples(tmp_path: Path) -> None:
    keys = ["a", 0, -5, 2**80, ("a",), ("a", ("b", 1)), (), "ü\n\t\"'"]
    with POD(tmp_path / "p") as pod:
        for number, key in enumerate(keys):
            pod[key] = [number]
            pod[key].append(number)
        for bad in (1.5, None, True, b"x", frozenset(), ("a", 1.5), ("a", None), "\ud800"):
            with pytest.raises(CodecError):
                pod[bad] = 1
    assert reopened(tmp_path / "p") == {key: [number] * 2 for number, key in enumerate(keys)}


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        object(),
        {1},
        b"x",
        {"a": {1: 2}},
        [float("nan")],
        {"a": [b"x"]},
        "\ud800",
        ["\ud800"],
    ],
    ids=id_of,
)
def test_a_value_that_cannot_be_stored_changes_nothing(tmp_path: Path, value: Any) -> None:
    with POD(tmp_path / "p", {"a": 1, "l": [1], "d": {"x": 1}}) as pod:
        seq = pod._opened.machine.seq
        changes = [
            lambda: pod.__setitem__("a", value),
            lambda: pod.update({"b": 1, "a": value}),
            lambda: pod.setdefault("c", value),
            lambda: pod["l"].append(value),
            lambda: pod["l"].__setitem__(0, value),
            lambda: pod["l"].extend([1, value]),
            lambda: pod["d"].__setitem__("x", value),
            lambda: pod["d"].update(y=1, x=value),
        ]
        for change in changes:
            with pytest.raises(CodecError):
                change()
        assert pod == {"a": 1, "l": [1], "d": {"x": 1}}
        assert pod._opened.machine.seq == seq


def test_the_error_says_where_in_a_value_the_part_is(tmp_path: Path) -> None:
    with POD(tmp_path / "p") as pod, pytest.raises(CodecError, match=r"\['b'\]\[1\]"):
        pod["a"] = {"b": [1, {1, 2}]}


def test_a_value_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    value: list[Any] = []
    for _ in range(600):
        value = [value]
    loop: list[Any] = []
    loop.append(loop)
    with POD(tmp_path / "p") as pod:
        for bad in (value, loop):
            with pytest.raises(CodecError, match="deep"):
                pod["a"] = bad


# ---- containers


def test_containers_are_lists_and_dicts_to_everybody(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"a": {"b": [1, {"c": []}]}}) as pod:
        value = pod["a"]
        assert type(value) is TrackedDict
        assert type(value["b"]) is TrackedList
        assert value == {"b": [1, {"c": []}]}
        assert json.dumps(value) == '{"b": [1, {"c": []}]}'
        assert repr(value) == "{'b': [1, {'c': []}]}"
        for plain in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
            assert (type(plain), type(plain["b"]), type(plain["b"][1])) == (dict, list, dict)
        assert type(copy.copy(value)) is dict
        assert type(value["b"] + [1]) is list
        assert type(value["b"][:]) is list
        assert type(value | {}) is dict
        plain = copy.deepcopy(value)
        plain["b"].append(2)
        assert len(value["b"]) == 2


def test_one_container_in_two_places_is_two(tmp_path: Path) -> None:
    shared: list[int] = []
    with POD(tmp_path / "p") as pod:
        pod["a"] = pod["b"] = shared
        pod["c"] = pod["a"]
        pod["a"].append(1)
        shared.append(2)
        assert pod == {"a": [1], "b": [], "c": []}


def test_an_alias_stays_the_same_container(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"rows": [{"n": 0}, {"n": 1}, {"n": 2}]}) as pod:
        rows = pod["rows"]
        last = rows[2]
        rows.insert(0, {"n": -1})
        del rows[1]
        rows.reverse()
        last["n"] = 7
        rows[0]["m"] = []
        last["m"].append(1)
        expected = copy.deepcopy(pod.copy())
    assert reopened(tmp_path / "p") == expected == {"rows": [{"n": 7, "m": [1]}, {"n": 1}, {"n": -1}]}


def test_a_change_costs_one_short_line_whatever_the_size(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"big": [{"x": number} for number in range(5000)]}) as pod:
        before = pod._opened.machine.journal.bytes_written
        pod["big"].append(1)
        pod["big"][2500]["x"] = 1
        pod["big"].insert(10, 2)
        pod["big"].pop(3)
        assert pod._opened.machine.journal.bytes_written - before < 1500


def test_operators_in_place_are_one_operation_and_keep_aliases(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"l": [1], "d": {"l": [[]], "x": {}}}) as pod:
        aliases = [pod["l"], pod["d"], pod["d"]["l"], pod["d"]["l"][0], pod["d"]["x"]]
        seq = pod._opened.machine.seq
        pod["l"] += [2]
        pod["l"] *= 2
        pod["d"] |= {"y": 1}
        pod["d"]["l"] += [3]
        pod["d"]["l"][0] += [4]
        pod["d"]["x"] |= {"z": 5}
        assert pod._opened.machine.seq == seq + 6
        for alias in aliases:
            alias.clear()
        assert pod == {"l": [], "d": {}}


def test_backward_slices_that_hold_nothing_change_nothing(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"l": [1]}) as pod:
        del pod["l"][-5::-2]
        pod["l"][-5::-2] = []
        assert pod["l"] == [1]
        pod["l"].extend([2, 3])
        del pod["l"][::-2]
        assert pod["l"] == [2]


def test_containers_that_have_left_are_ordinary(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"a": [[1]], "b": {"c": []}, "d": []}) as pod:
        left = [pod["a"], pod["a"][0], pod["b"]["c"], pod["d"]]
        pod["a"] = 1
        pod["b"].pop("c")
        del pod["d"]
        seq = pod._opened.machine.seq
        for container in left:
            container += [{1, 2}]
            container.append(object())
            container.sort(key=id)
            container.clear()
        assert pod._opened.machine.seq == seq
        assert pod == {"a": 1, "b": {}}


def test_errors_of_lists_and_dicts_are_their_own(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"l": [1, "a"], "e": [], "d": {}}) as pod:
        seq = pod._opened.machine.seq
        wrong: list[tuple[type[Exception], Any]] = [
            (IndexError, lambda: pod["l"].pop(2)),
            (IndexError, lambda: pod["e"].pop()),
            (IndexError, lambda: pod["l"].__setitem__(5, 1)),
            (IndexError, lambda: pod["l"].__delitem__(-3)),
            (ValueError, lambda: pod["l"].remove(9)),
            (ValueError, lambda: pod["l"].__setitem__(slice(None, None, 2), [1, 2, 3])),
            (TypeError, lambda: pod["l"].sort()),
            (TypeError, lambda: pod["l"].__setitem__("x", 1)),
            (TypeError, lambda: pod["l"].append()),
            (KeyError, lambda: pod["d"].pop("x")),
            (KeyError, lambda: pod["d"].popitem()),
            (KeyError, lambda: pod["d"].__delitem__("x")),
        ]
        for error, call in wrong:
            with pytest.raises(error):
                call()
        assert pod._opened.machine.seq == seq


def test_operations_are_recorded_at_any_depth(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"a": {"b": [1]}, ("t", 1): []}) as pod:
        pod.set["a"]["b"].append(2)
        pod.set["a"]["c"] = {"d": 1}
        pod.set["a"]["b"] += [3]
        pod.set["x"] = 1
        del pod.set["a"]["c"]["d"]
        pod.set[("t", 1)].extend([5])
        assert pod.set["a"]["b"].pop() == 3
        assert pod == {"a": {"b": [1, 2], "c": {}}, ("t", 1): [5], "x": 1}
        with pytest.raises(KeyError):
            pod.set["nothing"]["b"].append(1)
        with pytest.raises(UsageError):
            pod.set["a"].no_such_method()


def test_numbers_and_text_are_changed_in_place_by_one_operation(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"n": 8, "a": [1, {"x": "b"}], "d": {}}) as pod:
        pod.set["n"] += 4
        pod.set["n"] -= 2
        pod.set["n"] *= 3
        pod.set["n"] //= 2
        pod.set["n"] |= 16
        pod.set["n"] &= 30
        pod.set["n"] ^= 1
        pod.set["n"] %= 20
        pod.set["a"][0] /= 4
        pod.set["a"][1]["x"] += "c"
        assert pod == {"n": 11, "a": [0.25, {"x": "bc"}], "d": {}}
        for wrong in ("pod.set['nothing'] += 1", "pod.set['d'] -= 1", "pod.set['n'] += 'text'"):
            with pytest.raises((KeyError, UsageError, TypeError)):
                exec(wrong, {"pod": pod})
        assert pod["n"] == 11


def test_operations_are_plain_data(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"a": [1, {"x": []}]}) as pod:
        assert pod.apply({"do": "append", "path": ["a", 1, "x"], "args": [4]}) is None
        assert pod.apply({"do": "__getitem__", "path": ["a"], "args": [1]}) == {"x": [4]}
        assert pod.apply({"do": "keys"}) == ["a"]
        assert pod.apply({"do": "pop", "path": [], "args": ["b", 7]}) == 7
        assert pod.apply({"do": "chunk", "args": [0, 10]}) == [("a", [1, {"x": [4]}])]
        for bad in (
            {"do": "close"},
            {"do": "__class__"},
            {"do": "_set", "path": []},
            {"do": "x", "path": ["a", 0]},
            {},
        ):
            with pytest.raises(UsageError):
                pod.apply(bad)


# ---- hold, revert, transactions


def test_held_changes_are_journaled_by_sync_as_one_entry(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"a": 1}) as pod:
        seq = pod._opened.machine.seq
        pod.hold()
        pod["b"] = []
        pod["b"].append(1)
        del pod["a"]
        assert pod.dirty() == {"a", "b"}
        assert pod._opened.machine.seq == seq
        pod.sync()
        assert pod._opened.machine.seq == seq + 1
        assert not pod.dirty()
        pod["c"] = 1
        pod.revert()
        assert pod == {"b": [1]}
        pod["d"] = 1
    assert reopened(tmp_path / "p") == {"b": [1], "d": 1}


def test_revert_brings_back_containers_that_somebody_holds(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"a": {"x": [1]}, "b": 1, "c": 2}) as pod:
        inner = pod["a"]["x"]
        pod.hold()
        out = pod.pop("a")
        inner.append(2)
        out["y"] = 1
        pod.clear()
        pod.revert()
        pod.unhold()
        assert list(pod.items()) == [("a", {"x": [1]}), ("b", 1), ("c", 2)]
        inner.append(3)
    assert reopened(tmp_path / "p")["a"] == {"x": [1, 3]}


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"a": [1], "b": 1}) as pod:
        seq = pod._opened.machine.seq
        with pytest.raises(ZeroDivisionError), pod.transaction():
            pod["a"].append(2)
            del pod["a"]
            pod["c"] = 1
            1 / 0
        assert list(pod.items()) == [("a", [1]), ("b", 1)]
        assert pod._opened.machine.seq == seq
        with pod.transaction() as same:
            assert same is pod
            pod["a"].append(2)
            pod["c"] = pod.pop("b")
        assert pod._opened.machine.seq == seq + 1
        with pod.transaction():
            pass
        assert pod._opened.machine.seq == seq + 1
    assert reopened(tmp_path / "p") == {"a": [1, 2], "c": 1}


def test_what_cannot_be_within_a_transaction_is_refused(tmp_path: Path) -> None:
    with POD(tmp_path / "p") as pod, pod.transaction():
        for call in (pod.sync, pod.hold, pod.unhold, pod.revert):
            with pytest.raises(UsageError, match="within a transaction"):
                call()
        pod["a"] = 1


def test_other_threads_wait_for_a_transaction(tmp_path: Path) -> None:
    with POD(tmp_path / "p") as pod:
        inside, done = threading.Event(), threading.Event()

        def other() -> None:
            inside.wait()
            pod["other"] = 1
            done.set()

        thread = threading.Thread(target=other)
        thread.start()
        with pytest.raises(ZeroDivisionError), pod.transaction():
            pod["mine"] = 1
            inside.set()
            assert not done.wait(0.1)
            1 / 0
        thread.join()
        assert pod == {"other": 1}


def test_sync_key_saves_one_key_alone(tmp_path: Path) -> None:
    with POD(tmp_path / "p") as pod:
        pod.hold()
        pod["a"] = 1
        pod["b"] = [1]
        pod["b"].append(2)
        pod.sync_key("b")
        assert pod.dirty() == {"a"}
        pod.revert()
        assert pod == {"b": [1, 2]}


# ---- handles


def test_handles_on_one_path_share_one_state(tmp_path: Path) -> None:
    one = POD(tmp_path / "p", {"a": 1})
    two = POD(tmp_path / "x" / ".." / "p")
    two["b"] = 2
    assert one == {"a": 1, "b": 2}
    one.close()
    one.close()
    two["c"] = 3
    for call in (lambda: one["a"], lambda: len(one), lambda: one.update(a=1), lambda: list(one), lambda: "a" in one):
        with pytest.raises(ClosedError):
            call()
    for option in ({"durability": "always"}, {"codec": "pickle"}, {"gzipped": True}, {"mode": "r"}):
        with pytest.raises(UsageError, match="open in this process"):
            POD(tmp_path / "p", **option)
    two.close()
    assert reopened(tmp_path / "p", durability="always") == {"a": 1, "b": 2, "c": 3}


def test_a_forgotten_handle_lets_go(tmp_path: Path) -> None:
    pod = POD(tmp_path / "p")
    pod["a"] = []
    container = pod["a"]
    loop: list[Any] = [pod]
    loop.append(loop)
    del pod, loop
    gc.collect()
    with pytest.raises(ClosedError, match="keep the PersistentDict in a variable"):
        container.append(1)
    with pytest.raises(ClosedError, match="keep the PersistentDict in a variable"):
        POD(tmp_path / "p")["a"].append(1)
    assert reopened(tmp_path / "p", gzipped=True) == {"a": []}


def test_held_changes_of_a_forgotten_handle_are_saved(tmp_path: Path) -> None:
    pod = POD(tmp_path / "p")
    pod.hold()
    pod["a"] = 1
    del pod
    assert reopened(tmp_path / "p") == {"a": 1}


def test_a_reader_follows_the_writer(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = (
        "import sys; from perdure.mapping import POD\n"
        "p = POD(sys.argv[1], mode='r'); print(dict(p), flush=True); input(); p.sync(); print(dict(p), flush=True)\n"
        "p['l'].append(1)\n"
    )
    with POD(tmp_path / "p", {"l": [1]}) as pod:
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "p")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "{'l': [1]}\n"
        pod["l"].append(2)
        pod["b"] = {}
        threading.Event().wait(0.3)
        out, err = child.communicate("\n")
        assert out == "{'l': [1, 2], 'b': {}}\n"
        assert "ReadOnlyError" in err


def test_a_reader_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        POD(tmp_path / "p", mode="r")
    POD(tmp_path / "p", {"l": []}).close()
    with POD(tmp_path / "p", mode="r") as pod:
        assert not pod.is_writeable()
        for call in (lambda: pod.update(a=1), lambda: pod["l"].append(1), pod.clear, pod.hold, lambda: pod.pop("l")):
            with pytest.raises(ReadOnlyError):
                call()
        assert pod == {"l": []}


# ---- other codecs


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    __hash__ = None  # type: ignore[assignment]


def test_objects_changed_in_place_are_found_at_sync(tmp_path: Path) -> None:
    from perdure.codecs import Pickle

    codec = Pickle(allow=[Point])
    with POD(tmp_path / "p", codec=codec) as pod:
        point = Point(1)
        pod["a"] = point
        pod[("k", 1)] = {1, 2}
        point.x = 5  # The dict has a copy.
        assert pod["a"].x == 1
        pod["a"].x = 2
        pod[("k", 1)].add(3)
        assert pod.dirty() == {"a", ("k", 1)}
        pod.sync()
        assert not pod.dirty()
        pod["a"].x = 3
    with POD(tmp_path / "p", codec=codec) as pod:
        assert pod == {"a": Point(3), ("k", 1): {1, 2, 3}}
        pod.hold()
        pod["a"].x = 9
        pod["b"] = 1
        pod.revert()
        assert pod["a"] == Point(3)
        pod.unhold()
        with pytest.raises(ZeroDivisionError), pod.transaction():
            pod["a"] = 1
            1 / 0
        assert pod["a"] == Point(3)
    with pytest.raises(UsageError, match="codec="):
        POD(tmp_path / "p")


def test_sync_at_bounds_how_many_objects_are_out(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {n: {n} for n in range(4)}, codec="pickle", sync_at=3) as pod:
        pod[0].add("x")
        seq = pod._opened.machine.seq
        pod[1], pod[2]
        assert pod._opened.machine.seq == seq + 1


def test_clone_false_keeps_the_very_object(tmp_path: Path) -> None:
    value = {1, 2}
    with POD(tmp_path / "p", codec="pickle", clone=False) as pod:
        pod["a"] = value
        assert pod["a"] is value


@pytest.mark.parametrize("codec", ["msgpack", "pickle"])
def test_other_codecs_keep_values_and_order(tmp_path: Path, codec: str) -> None:
    with POD(tmp_path / "p", codec=codec) as pod:
        pod["b"], pod["a"] = [1, {"x": b"bytes"}], None
        del pod["a"]
        pod.update({"c": 1.5, "b": 2})
    assert list(reopened(tmp_path / "p", codec=codec).items()) == [("b", 2), ("c", 1.5)]


# ---- files, places, disks


def test_a_path_that_is_a_file_or_something_else_is_refused(tmp_path: Path) -> None:
    import perdure

    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="file"):
        POD(tmp_path / "file")
    perdure.open(dict, tmp_path / "system").close()
    with pytest.raises(UsageError, match="system"):
        POD(tmp_path / "system")
    (tmp_path / "tasty").mkdir()
    (tmp_path / "tasty" / "0.json").write_text('"a"\t1\n')
    with pytest.raises(UsageError, match="tastypy"):
        POD(tmp_path / "tasty")
    wrong = ({"durability": "x"}, {"file_size": -1}, {"codec": "x"}, {"sync_at": "x"}, {"clock": 12.5})
    for option in ({"mode": "x"}, *wrong):
        with pytest.raises(UsageError):
            POD(tmp_path / "p", **option)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("mode", ["w", "r"])
def test_a_folder_that_others_may_write_in_is_refused(tmp_path: Path, mode: Any) -> None:
    POD(tmp_path / "p", {"a": 1}).close()
    (tmp_path / "p").chmod(0o777)
    with pytest.raises(StorageError, match="others may write"):
        POD(tmp_path / "p", mode=mode)


def test_a_full_disk_is_an_ordinary_error(tmp_path: Path) -> None:
    import errno

    fs = FaultyFs(mode="full", error=errno.ENOSPC)
    with POD(tmp_path / "p", {"l": [1]}, fs=fs) as pod:
        pod["a"] = 1
        fs.fail_at = sum(fs.counts[name] for name in ("open", "write", "mkdir", "link"))
        fs._counted = fs.fail_at - 1
        changes = [
            lambda: pod.update(b=2),
            lambda: pod["l"].append(2),
            lambda: pod.pop("a"),
        ]
        for change in changes:
            with pytest.raises(WriteError):
                change()
        with pytest.raises(WriteError), pod.transaction():
            pod["l"].append(3)
            del pod["a"]
        assert pod == {"l": [1], "a": 1}
        pod.hold()
        pod["held"] = 1
        with pytest.raises(WriteError):
            pod.sync()
        assert pod.dirty() == {"held"}
        fs.heal()
        pod.unhold()
        pod["l"].append(2)
    assert reopened(tmp_path / "p") == {"l": [1, 2], "a": 1, "held": 1}


def test_two_processes_cannot_write(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = "import sys; from perdure.mapping import POD; POD(sys.argv[1])"
    with POD(tmp_path / "p"):
        done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "p")], capture_output=True, text=True)
    assert "LockedError" in done.stderr


def test_an_interrupt_within_a_change_leaves_containers_in_place(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"a": {"x": [{"y": 1}]}, "b": 1}) as pod:
        pod["a"]["x"].insert(0, {"z": 1})
        inner = pod["a"]["x"][1]
        fired = []

        def interrupt(key: Any) -> None:
            if not fired:
                fired.append(key)
                raise KeyboardInterrupt

        pod._opened.state.observer = interrupt
        with pytest.raises(KeyboardInterrupt):
            pod["a"]["x"].pop(0)
        assert pod == {"a": {"x": [{"z": 1}, {"y": 1}]}, "b": 1}
        assert pod["a"]["x"][1] is inner
        inner["y"] = 2
        pod["b"] = 2
    assert reopened(tmp_path / "p") == {"a": {"x": [{"z": 1}, {"y": 2}]}, "b": 2}


def test_many_threads_change_one_dict(tmp_path: Path) -> None:
    with POD(tmp_path / "p", {"log": []}) as pod:

        def work(number: int) -> None:
            for step in range(100):
                pod[f"{number}-{step}"] = {"n": step}
                pod["log"].append([number, step])
                if step % 10 == 0:
                    with pod.transaction():
                        pod["log"].pop()
                        pod[f"{number}-{step}"]["n"] = -1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        expected = copy.deepcopy(pod.copy())
        assert len(expected) == 801
    assert reopened(tmp_path / "p") == expected


def test_a_mapping_of_another_kind_compares(tmp_path: Path) -> None:
    class Other(Mapping[str, int]):
        def __getitem__(self, key: str) -> int:
            return {"a": 1}[key]

        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Any:
            return iter(["a"])

    with POD(tmp_path / "p", {"a": 1}) as pod:
        assert pod == {"a": 1}
        assert dict(pod) == dict(Other())
        assert pod.__eq__(5) is NotImplemented


def test_init_counts_only_for_a_new_dict(tmp_path: Path) -> None:
    POD(tmp_path / "p", {"a": [1]}).close()
    assert reopened(tmp_path / "p") == {"a": [1]}
    with POD(tmp_path / "p", {"b": 1}) as pod:
        assert pod == {"a": [1]}
        pod["a"].append(2)
    with pytest.raises(CodecError):
        POD(tmp_path / "q", {"a": {1}})
    with POD(tmp_path / "q") as pod:
        assert pod == {}


def test_damage_is_named_with_file_and_line(tmp_path: Path) -> None:
    with POD(tmp_path / "p") as pod:
        pod.update({"a": 1, "b": 2, "c": 3})
    snapshot = max((tmp_path / "p").glob("snapshot-*"))
    lines = snapshot.read_text().splitlines(keepends=True)
    snapshot.write_text("".join([*lines[:2], "this is no JSON\n", *lines[3:]]))
    with pytest.raises(CorruptError, match="line 3") as caught:
        POD(tmp_path / "p")
    assert caught.value.path == str(snapshot)
