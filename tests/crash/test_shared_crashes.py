"""A shared dict through power cuts: what was acknowledged to another process is there, once, with its receipt."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perdure.fs import Fs
from perdure.mapping import PersistentDict
from perdure.shared import SharedPersistentDict
from perdure.shared._frames import CALL
from perdure.shared._link import Link
from perdure.system import encode_command
from perdure.testing.crashsim import Log, explore
from tests.crash import _figures as figures

# What a crash may leave beside the files of the dict: `owner` with any bytes of an address, `owner.sock`, `turn`. None
# of them is synced and none of them is data; the next owner takes each as it finds it.

STEPS: list[tuple[str, tuple[Any, ...], Any]] = [
    ("__setitem__", ("queue", [1, 2, 3]), None),
    (".pop", (["queue"], 0), 1),
    (".append", (["queue"], {"n": 4}), None),
    ("apply", ({"do": "insert", "path": ["queue"], "args": [0, 9]},), None),
    ("setdefault", ("jobs", {}), {}),
    ("update", ({"a": 1, "b": 2},), None),
    ("pop", ("a",), 1),
    (".pop", (["queue"],), {"n": 4}),
    ("popitem", (), ("b", 2)),
]
STATES = [
    {},
    {"queue": [1, 2, 3]},
    {"queue": [2, 3]},
    {"queue": [2, 3, {"n": 4}]},
    {"queue": [9, 2, 3, {"n": 4}]},
    {"queue": [9, 2, 3, {"n": 4}], "jobs": {}},
    {"queue": [9, 2, 3, {"n": 4}], "jobs": {}, "a": 1, "b": 2},
    {"queue": [9, 2, 3, {"n": 4}], "jobs": {}, "b": 2},
    {"queue": [9, 2, 3], "jobs": {}, "b": 2},
    {"queue": [9, 2, 3], "jobs": {}},
]
CLIENT = b"0123456789abcdef"


def opened(directory: str, fs: Fs | None = None) -> SharedPersistentDict:
    return SharedPersistentDict(f"{directory}/p", durability="always", fs=fs)


def link_of(shared: SharedPersistentDict) -> Link:
    """The same client before and behind the crash, as one that lives on is."""
    link = Link(shared._member)
    link._client = CLIENT
    return link


def ask(shared: SharedPersistentDict, link: Link, number: int) -> Any:
    do, args, _ = STEPS[number - 1]
    link._counter = number - 1
    return shared._result(link.exchange(CALL, encode_command(shared._codec, do, args, {})[0]))


def workload(directory: str, fs: Fs, log: Log) -> None:
    with opened(directory, fs) as shared:
        role: Any = shared._member.role()
        # A forked child cannot be recorded.
        role.served._opened.machine._forks = False
        link = link_of(shared)
        start = next(number for number, state in reversed(list(enumerate(STATES))) if shared.copy() == state)
        log.acknowledged(start)
        for number in range(start + 1, len(STEPS) + 1):
            log.tried(number)
            assert ask(shared, link, number) == STEPS[number - 1][2]
            log.acknowledged(number)
            if number == 5:
                role.served._opened.machine.snapshot()


def check(directory: str, acknowledged: int, tried: int) -> str | None:
    with opened(directory) as shared:
        found = shared.copy()
        if found not in STATES[acknowledged : tried + 1]:
            return f"steps {acknowledged} to {tried} were promised, found {json.dumps(found)}"
        # A client whose call was under way sends it again, and goes on: each call is made once, and answered as it was.
        link = link_of(shared)
        for number in range(max(1, acknowledged), len(STEPS) + 1):
            answer = ask(shared, link, number)
            if answer != STEPS[number - 1][2]:
                return f"call {number} was answered with {answer!r}"
        if shared.copy() != STATES[-1]:
            return f"calls were made twice, or not at all: {json.dumps(shared.copy())}"
        link.close()
    return None


def test_power_cuts_at_every_moment() -> None:
    report = explore(workload, check, limit=30, seconds_max=20)
    figures.explored(report)


@pytest.mark.crash
def test_power_cuts_and_restarts(crash_seconds: float) -> None:
    report = explore(workload, check, limit=400, nested=True, kill_restart=True, seconds_max=crash_seconds)
    figures.explored(report)


def test_whatever_lies_where_the_owner_says_where_it_is(tmp_path: Any) -> None:
    directory = tmp_path / "p"
    with opened(str(tmp_path)) as shared:
        shared["a"] = 1
    for content in (b"", b"{", b'{"port":1}\n', b'{"path":"/nowhere"}\n', b"\xff\n", b"[]\n", bytes(10_000)):
        (directory / "owner").write_bytes(content)
        (directory / "owner.sock").write_bytes(b"no socket")
        (directory / "turn").write_bytes(b"x")
        with opened(str(tmp_path)) as shared:
            assert shared["a"] == 1
    with PersistentDict(directory, durability="always") as pod:
        assert pod == {"a": 1}
