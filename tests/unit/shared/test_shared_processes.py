"""Many processes on one dict: they come and go, are killed at any moment, and some mean no good."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from perdure.errors import OutcomeUnknownError, WriteError
from perdure.fs import Fs
from perdure.shared import SharedPersistentDict
from perdure.shared._address import Address, Claim, Listener, connect, find
from perdure.shared._frames import GoneError
from tests.unit.shared._processes import DEADLINE_S, Process, processes, wait_for

# Python 3.12 warns of each fork beside threads; that such children go on well is what is tried here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
METHODS = ["fork", "spawn", "forkserver"]


@pytest.fixture
def make() -> Iterator[Callable[[], Process]]:
    with processes() as maker:
        yield maker


def opening(path: Path, **options: Any) -> str:
    return f"s = SharedPersistentDict({str(path)!r}, **{options!r})"


# ---- children


def work_in_a_child(shared: SharedPersistentDict, name: str) -> None:
    shared[name] = os.getpid()
    shared["log"].append(name)
    shared["mine"][name] = [1]
    shared["mine"][name].append(2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("role", ["owner", "client"])
def test_a_handle_goes_to_a_child(method: str, role: str, tmp_path: Path, make: Callable[[], Process]) -> None:
    if role == "client":
        make().do(opening(tmp_path / "d"))
    with SharedPersistentDict(tmp_path / "d", {"log": [], "mine": {}}) as shared:
        shared.update({"log": [], "mine": {}})
        shared["before"] = 1
        child = multiprocessing.get_context(method).Process(target=work_in_a_child, args=(shared, "a"))
        child.start()
        child.join(DEADLINE_S)
        assert child.exitcode == 0
        assert shared["log"] == ["a"]
        assert shared["mine"] == {"a": [1, 2]}
        assert shared["a"] == child.pid
        child.close()


def use_and_leave(path: str, gate: Any, number: int) -> None:
    gate.wait()
    with SharedPersistentDict(path) as shared:
        shared[number] = number
        shared.setdefault("log", []).append(number)


def test_64_processes_that_start_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    gate = context.Event()
    children = [context.Process(target=use_and_leave, args=(str(tmp_path / "d"), gate, n)) for n in range(64)]
    for child in children:
        child.start()
    gate.set()
    for child in children:
        child.join(DEADLINE_S)
        assert child.exitcode == 0
        child.close()
    with SharedPersistentDict(tmp_path / "d") as shared:
        assert sorted(shared["log"]) == list(range(64))
        assert sum(1 for key in shared if key != "log") == 64


# ---- the owner ends


def test_when_the_owner_is_killed_the_next_call_finds_another(tmp_path: Path, make: Callable[[], Process]) -> None:
    owner, other = make(), make()
    owner.do(opening(tmp_path / "d") + "; s['a'] = [1]")
    other.do(opening(tmp_path / "d") + "; s['a'].append(2)")
    with SharedPersistentDict(tmp_path / "d") as shared:
        assert not shared.is_owner
        shared["a"].append(3)
        found = shared["a"]
        owner.kill()
        found.append(4)
        assert shared.is_owner
        assert other.do("s['a'].append(5); assert not s.is_owner") == "None"
        assert shared["a"] == [1, 2, 3, 4, 5]


def test_an_owner_that_leaves_hands_over(tmp_path: Path, make: Callable[[], Process]) -> None:
    owner = make()
    owner.do(opening(tmp_path / "d") + "; s['a'] = 1")
    with SharedPersistentDict(tmp_path / "d") as shared:
        assert shared["a"] == 1
        assert owner.end() == 0
        shared["a"] = 2
        assert shared.is_owner


_LATE = """
import pathlib, weakref
class Late: pass
late = Late()
def meanwhile(now, then):
    pathlib.Path(now).touch()
    while not pathlib.Path(then).exists(): time.sleep(0.005)
weakref.finalize(late, meanwhile, {now!r}, {then!r})
"""
"""Runs when the interpreter exits, after what was opened later and before what was opened earlier has been closed."""


def test_an_owner_that_exits_lets_go_before_it_closes(tmp_path: Path, make: Callable[[], Process]) -> None:
    now, then = tmp_path / "now", tmp_path / "then"
    first, second, third = make(), make(), make()
    first.do(opening(tmp_path / "d") + "; s['a'] = 1")
    second.do(opening(tmp_path / "d"))
    second.do(_LATE.format(now=str(now), then=str(then)))
    third.do(opening(tmp_path / "d"))
    first.kill()
    assert second.do("s['a'], s.is_owner") == "(1, True)"
    assert third.do("s['a'], s.is_owner") == "(1, False)"
    second.leave()
    wait_for(now.exists)
    assert third.do("s.setdefault('b', 2), s['a']") == "(2, 1)"
    then.touch()


_ENTRY = b'"client"'
"""Every entry of a request has one."""
CALLS = {
    "append": ("s['a'].append(7)", "None", [0, 7]),
    "set": ("s['a'] = [7]", "None", [7]),
    "count": ("s.set['a'][0] += 7", "None", [7]),
    "pop from the list": ("s['a'].pop()", "0", []),
    "pop": ("s.pop('a')", "[0]", None),
    "setdefault": ("s.setdefault('b', [7])", "[7]", [0]),
}


@pytest.mark.parametrize("after", [False, True], ids=["before it is written", "before it is answered"])
@pytest.mark.parametrize("call", CALLS)
def test_a_call_under_way_is_made_once(call: str, after: bool, tmp_path: Path, make: Callable[[], Process]) -> None:
    """The owner ends at the very write of the entry, before the bytes are out or behind it.

    What a crash leaves there is an entry that nobody was told of, or none: both times the call is made once, and
    answered.
    """
    code, answer, left = CALLS[call]
    owner, caller = make(), make()
    owner.do(f"s = SharedPersistentDict({str(tmp_path / 'd')!r}, {{'a': [0]}}, fs=Dying({_ENTRY!r}, {after}))")
    caller.do(opening(tmp_path / "d"))
    assert caller.do(code) == answer
    assert caller.do("s.is_owner") == "True"
    assert caller.do("s.get('a')") == repr(left)


def test_a_transaction_whose_end_is_written_has_been_made(tmp_path: Path, make: Callable[[], Process]) -> None:
    owner, caller = make(), make()
    owner.do(f"s = SharedPersistentDict({str(tmp_path / 'd')!r}, {{'a': [0]}}, fs=Dying({_ENTRY!r}, True))")
    caller.do(opening(tmp_path / "d"))
    caller.do("with s.transaction():\n    s['a'] = [8]\n    s['a'].append(9)")
    assert caller.do("s['a']") == "[8, 9]"


def test_a_transaction_whose_end_is_not_written_has_not(tmp_path: Path, make: Callable[[], Process]) -> None:
    owner, caller = make(), make()
    owner.do(f"s = SharedPersistentDict({str(tmp_path / 'd')!r}, {{'a': [0]}}, fs=Dying({_ENTRY!r}, False))")
    caller.do(opening(tmp_path / "d"))
    told = caller.do("refused('with s.transaction():\\n    s[\"a\"] = [8]')")
    assert "WriteError" in told
    assert caller.do("s['a']") == "[0]"


def test_a_claim_under_way_is_made_once(tmp_path: Path, make: Callable[[], Process]) -> None:
    owner, caller = make(), make()
    text = b"_lease"
    path = str(tmp_path / "d")
    owner.do(f"s = SharedTracker({path!r}, 0, {{'a': {{}}, 'b': {{}}, ('c', 1): {{}}}}, fs=Dying({text!r}, True))")
    caller.do(f"s = SharedTracker({path!r})")
    assert caller.do("s.claim(3)") == "['a', 'b', ('c', 1)]"
    assert caller.do("[s.tries(key) for key in s]") == "[1, 1, 1]"


TRIES = {
    "should_try": ("s.should_try('a')", "True"),
    "should_try_add": ("s.should_try_add('a')", "True"),
    "a key": ("next(s.try_keys())", "'a'"),
    "an item": ("next(s.try_items())[1]['_tries']", "1"),
}


@pytest.mark.parametrize("after", [False, True], ids=["before it is written", "before it is answered"])
@pytest.mark.parametrize("call", TRIES)
def test_a_try_under_way_is_counted_once(call: str, after: bool, tmp_path: Path, make: Callable[[], Process]) -> None:
    code, answer = TRIES[call]
    owner, caller = make(), make()
    path = str(tmp_path / "d")
    owner.do(f"s = SharedTracker({path!r}, 2, {{'a': {{}}, 'b': {{}}}}, fs=Dying({_ENTRY!r}, {after}))")
    caller.do(f"s = SharedTracker({path!r}, 2)")
    assert caller.do(code) == answer
    assert caller.do("s.is_owner, s.tries('a'), s.tries('b')") == "(True, 1, 0)"


def test_a_call_to_an_owner_that_is_stopped_and_killed(tmp_path: Path, make: Callable[[], Process]) -> None:
    owner, caller = make(), make()
    owner.do(opening(tmp_path / "d") + "; s['a'] = [0]")
    caller.do(opening(tmp_path / "d") + "; found = s['a']")
    owner.stop()
    caller.send("found.append(1)")
    owner.kill()
    assert caller.answer() == "None"
    assert caller.do("s['a']") == "[0, 1]"


def test_a_transaction_ends_with_its_owner(tmp_path: Path, make: Callable[[], Process]) -> None:
    owner = make()
    owner.do(opening(tmp_path / "d") + "; s['a'] = 0")
    with SharedPersistentDict(tmp_path / "d") as shared:
        with pytest.raises(WriteError, match="nothing of that was made") as raised, shared.transaction():
            shared["a"] = 1
            owner.kill()
            shared["b"] = 2
        assert raised.value.outcome == "not-written"
        assert shared.copy() == {"a": 0}
        with shared.transaction():
            shared["a"] = 1
        assert shared.copy() == {"a": 1}


def test_a_transaction_ends_with_its_process(tmp_path: Path, make: Callable[[], Process]) -> None:
    with SharedPersistentDict(tmp_path / "d", {"a": 0}) as shared:
        other = make()
        other.do(opening(tmp_path / "d") + "; s.hold(); s['a'] = 1; s['b'] = 2")
        other.kill()
        assert shared.copy() == {"a": 0}


# ---- locks


def test_a_lock_keeps_other_processes_out(tmp_path: Path, make: Callable[[], Process]) -> None:
    with SharedPersistentDict(tmp_path / "d", {"n": 0}) as shared:
        others = [make() for _ in range(3)]
        for other in others:
            other.send(
                opening(tmp_path / "d") + "\nfor _ in range(30):\n    with s.locked():\n        s['n'] = s['n'] + 1"
            )
        for _ in range(30):
            with shared.locked():
                shared["n"] = shared["n"] + 1
        for other in others:
            other.answer()
        assert shared["n"] == 120


def test_a_lock_ends_with_its_holder(tmp_path: Path, make: Callable[[], Process]) -> None:
    with SharedPersistentDict(tmp_path / "d") as shared:
        other = make()
        other.do(opening(tmp_path / "d") + "; s.lock(); s['a'] = 1")
        done = threading.Event()

        def change() -> None:
            with shared.locked():
                shared["a"] = 2
            done.set()

        thread = threading.Thread(target=change)
        thread.start()
        assert not done.wait(0.05)
        other.kill()
        thread.join(DEADLINE_S)
        assert shared["a"] == 2


def test_a_lock_outlives_the_owner(tmp_path: Path, make: Callable[[], Process]) -> None:
    owner, other = make(), make()
    owner.do(opening(tmp_path / "d"))
    other.do(opening(tmp_path / "d"))
    with SharedPersistentDict(tmp_path / "d") as shared:
        with shared.locked():
            shared["a"] = 1
            owner.kill()
            other.send("s['b'] = 1")
            for number in range(50):
                shared["a"] = number
                assert "b" not in shared
        other.answer()
        assert shared.copy() == {"a": 49, "b": 1}


def test_a_child_has_no_part_in_its_parents_lock(tmp_path: Path, make: Callable[[], Process]) -> None:
    with SharedPersistentDict(tmp_path / "d", {"log": [], "mine": {}}) as shared:
        with shared.locked():
            child = multiprocessing.get_context("fork").Process(target=work_in_a_child, args=(shared, "a"))
            child.start()
            child.join(0.1)
            assert shared["log"] == []
        child.join(DEADLINE_S)
        assert shared["log"] == ["a"]
        child.close()


# ---- nothing hangs for longer than a lease


def test_whoever_waits_for_an_answer_can_be_interrupted(tmp_path: Path, make: Callable[[], Process]) -> None:
    other = make()
    other.do(opening(tmp_path / "d") + "; s.lock()")
    with SharedPersistentDict(tmp_path / "d") as shared:
        main = threading.main_thread().ident
        assert main is not None
        timer = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            shared["a"] = 1
        timer.join()
        other.do("s.unlock()")
        shared["b"] = 2
        # Whether the call that nobody waited for was made is not known; nothing else has suffered.
        assert shared.copy() in ({"b": 2}, {"a": 1, "b": 2}, {"b": 2, "a": 1})


def test_a_holder_that_is_stopped_loses_the_lock_with_its_lease(
    tmp_path: Path, make: Callable[[], Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.shared._owner.SHARED_LEASE_S", 0.3)
    with SharedPersistentDict(tmp_path / "d") as shared:
        other = make()
        other.do(opening(tmp_path / "d") + "; s.lock()")
        other.stop()
        shared["a"] = 1
        assert shared["a"] == 1


def test_an_owner_that_is_stopped_keeps_nobody_for_longer(tmp_path: Path, make: Callable[[], Process]) -> None:
    owner = make()
    owner.do(opening(tmp_path / "d") + "; s['a'] = 0")
    with SharedPersistentDict(tmp_path / "d") as shared:
        assert shared["a"] == 0
        shared._member.lease_s = 0.5
        owner.stop()
        with pytest.raises(OutcomeUnknownError, match="no answer"):
            shared["a"] = 1
        os.kill(owner.pid, signal.SIGCONT)
        shared._member.lease_s = DEADLINE_S
        shared["b"] = 2
        assert shared["b"] == 2


# ---- those who mean no good


def raw(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(DEADLINE_S)
    sock.connect(str(path / "owner.sock"))
    return sock


def frame(*parts: Any) -> bytes:
    message = msgspec.msgpack.encode(parts)
    return struct.pack(">I", len(message)) + message


HELLO = frame(0, 0, msgspec.msgpack.encode((1, bytes(16), {"kind": "dict"})))
HOSTILE = {
    "a huge message": struct.pack(">I", 0xFFFFFFFF),
    "a large greeting": struct.pack(">I", 100_000) + bytes(100_000),
    "nonsense": b"GET / HTTP/1.1\r\n\r\n",
    "no array": struct.pack(">I", 1) + b"\x01",
    "another version": frame(0, 0, msgspec.msgpack.encode((99, bytes(16), {}))),
    "a short client": frame(0, 0, msgspec.msgpack.encode((1, b"x", {}))),
    "no greeting": frame(1, 1, b""),
    "a system": frame(0, 0, msgspec.msgpack.encode((1, bytes(16), {"kind": "system"}))),
    "a call that is none": HELLO + frame(1, 1, b"\xc1"),
    "an unknown call": HELLO + frame(1, 1, msgspec.msgpack.encode(("__class__", ()))),
    "an unknown kind": HELLO + frame(77, 1, msgspec.msgpack.encode(("x", ()))),
    "a pickle that runs": HELLO + frame(1, 1, b"\x00" + b"cos\nsystem\n(S'touch /tmp/never'\ntR."),
    "counters that are none": HELLO + frame(1, -1, msgspec.msgpack.encode(("__setitem__", ("x", 1)))),
    "half a message": HELLO + struct.pack(">I", 100) + b"x",
}


@pytest.mark.parametrize("sent", HOSTILE)
def test_what_makes_no_sense_disturbs_nobody(sent: str, tmp_path: Path) -> None:
    with SharedPersistentDict(tmp_path / "d", {"a": 1}) as shared:
        with raw(tmp_path / "d") as sock:
            sock.sendall(HOSTILE[sent])
            sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(1 << 16):
                    continue
        assert shared["a"] == 1
        # Its thread is gone with it.
        wait_for(lambda: not any(thread.name == "perdure-shared-peer" for thread in threading.enumerate()))


def test_another_users_process_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs to be root")
    directory = Path(tempfile.mkdtemp(prefix="perdure-test-", dir="/tmp"))
    try:
        os.chmod(directory, 0o755)
        with SharedPersistentDict(directory / "d", {"a": 1}) as shared:
            os.chmod(directory / "d", 0o755)
            assert connect_as_nobody(directory / "d") == "PermissionError"
            # Should the socket's mode not keep it out: whose process it is does.
            os.chmod(directory / "d" / "owner.sock", 0o777)
            assert connect_as_nobody(directory / "d") == "closed"
            assert shared["a"] == 1
    finally:
        shutil.rmtree(directory)


def connect_as_nobody(path: Path) -> str:
    """What a process of another user meets."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        told = "?"
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with raw(path) as sock:
                sock.sendall(HELLO)
                told = "answered" if sock.recv(100) else "closed"
        except ConnectionError:
            told = "closed"
        except OSError as error:
            told = type(error).__name__
        finally:
            os.write(write_end, told.encode())
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        told = pipe.read().decode()
    os.waitpid(pid, 0)
    return told


# ---- where there are no Unix domain sockets


def test_over_the_loopback_interface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.shared._address.uses_loopback", lambda: True)
    with SharedPersistentDict(tmp_path / "d", {"log": [], "mine": {}}) as shared:
        assert not (tmp_path / "d" / "owner.sock").exists()
        child = multiprocessing.get_context("spawn").Process(target=work_in_a_child, args=(shared, "a"))
        child.start()
        child.join(DEADLINE_S)
        assert child.exitcode == 0
        child.close()
        assert shared["log"] == ["a"]
        address = find(Fs(), str(tmp_path / "d"))
        assert address is not None
        assert address.port
        wrong = Address(port=address.port, secret=bytes(32))
        with pytest.raises(GoneError):
            connect(Fs(), str(tmp_path / "d"), wrong)


def test_whoever_listens_in_the_owners_place_must_know_the_secret(tmp_path: Path) -> None:
    fs = Fs()
    claim = Claim(fs, str(tmp_path))
    listener = Listener(fs, str(tmp_path), loopback=True)
    try:
        thread = threading.Thread(target=answer_wrongly, args=(listener,))
        thread.start()
        claim.publish(Address(port=listener.address.port, secret=bytes(32)))
        address = find(fs, str(tmp_path))
        assert address is not None
        with pytest.raises(GoneError):
            connect(fs, str(tmp_path), address)
        thread.join(DEADLINE_S)
    finally:
        listener.close()
        claim.release()


def answer_wrongly(listener: Listener) -> None:
    stream = listener.accept()
    try:
        listener.admit(stream)
    except GoneError:
        pass
    finally:
        stream.close()


def test_a_path_too_long_where_descriptors_have_no_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.shared._address._has_names_of_descriptors", lambda: False)
    path = tmp_path / ("x" * 90)
    with SharedPersistentDict(path, {"log": [], "mine": {}}) as shared:
        address = find(Fs(), str(path))
        assert address is not None
        made = Path(address.path)
        assert made.exists()
        child = multiprocessing.get_context("fork").Process(target=work_in_a_child, args=(shared, "a"))
        child.start()
        child.join(DEADLINE_S)
        child.close()
        assert shared["log"] == ["a"]
    assert not made.parent.exists()
