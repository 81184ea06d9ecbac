"""Threads that share the syncs of a log."""

from __future__ import annotations

import threading

import pytest

from perdure.stash import _log_group
from perdure.stash._log_group import GroupSync


class Log:
    """Appends by counting; a sync makes durable what was appended before it began."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.last_seq = self.durable_seq = self.syncs = 0
        self.in_sync = threading.Event()
        self.may_sync = threading.Event()
        self.may_sync.set()
        self.group = GroupSync(self.sync, lambda: self.durable_seq)

    def sync(self) -> int:
        seq = self.last_seq
        self.in_sync.set()
        assert self.may_sync.wait(60)
        self.syncs += 1
        self.durable_seq = seq
        return seq

    def append(self) -> tuple[_log_group.Batch, bool, int]:
        with self.lock:
            self.last_seq += 1
            return *self.group.join(), self.last_seq

    def put(self) -> None:
        batch, leads, seq = self.append()
        assert self.group.wait(batch, leads, seq) >= seq


def test_who_comes_during_a_sync_shares_the_next() -> None:
    log = Log()
    log.may_sync.clear()
    first = threading.Thread(target=log.put)
    first.start()
    assert log.in_sync.wait(60)
    others = [log.append() for _ in range(7)]
    threads = [threading.Thread(target=log.group.wait, args=each) for each in others]
    for thread in threads:
        thread.start()
    log.may_sync.set()
    for thread in (first, *threads):
        thread.join(60)
    assert (log.syncs, log.durable_seq) == (2, 8)


def test_a_leader_waits_for_as_many_as_came_the_last_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_log_group, "PATIENCE_S_MAX", 60)
    log = Log()
    log.group._expected, log.group._sync_s = 3, 60.0
    threads = [threading.Thread(target=log.put) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (log.syncs, log.durable_seq) == (1, 3)


def test_who_is_alone_is_not_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    monkeypatch.setattr(threading.Event, "wait", lambda *_: pytest.fail("waited"))
    log.may_sync = type("Open", (), {"wait": lambda self, _: True})()
    for _ in range(3):
        log.put()
    assert log.syncs == 3


def test_an_interrupted_leader_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_log_group, "FOLLOW_S", 0.01)
    log = Log()
    _, leads, _ = log.append()
    assert leads, "and now it is interrupted and never syncs"
    log.put()
    assert log.durable_seq == 2
    log.put()
    assert log.durable_seq == 3


def test_a_failed_sync_is_everybodys() -> None:
    log = Log()

    def fail() -> int:
        raise OSError("the disk is gone")

    log.group._sync = fail
    first, second = log.append(), log.append()
    for each in (first, second):
        with pytest.raises(OSError, match="gone"):
            log.group.wait(*each)
