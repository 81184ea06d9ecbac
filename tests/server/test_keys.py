"""The same key twice: one run, one answer.

What a crash leaves, step by step: before the entry is durable nothing, and the retry runs it; from then on the entry
with its key, and replay makes the receipt that answers the retry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from perdure.wire import KEY_PATTERN, client_key, identify
from tests.server._process import BOTH, WRITER, Served

_JSON = {"Content-Type": "application/json"}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path) as server:
        yield server


def test_the_same_key_runs_once_and_gives_the_same_answer(served: Served) -> None:
    first = served.call("count", "once", key="k1")
    second = served.call("count", "once", key="k1")
    assert (first.status, first.body) == (200, second.body)
    assert served.call("counted", "once").result == 1
    assert served.call("count", "once", key="k2").result == 2


def test_the_same_exception_comes_again(served: Served) -> None:
    for method in ("fail", "change_and_fail"):
        args = (7,) if method == "fail" else ()
        first = served.call(method, *args, key=f"raise-{method}")
        seq = served.request("GET", "/status").json["seq"]
        second = served.call(method, *args, key=f"raise-{method}")
        assert first.status == second.status == 409
        assert first.failure["type"] == second.failure["type"]
        assert first.failure["message"] == second.failure["message"]
        assert served.request("GET", "/status").json["seq"] <= seq + 1  # Not more than the outcome that was owed.
    assert served.call("counted", "changed").result == 0


def test_the_same_key_for_another_command_is_refused(served: Served) -> None:
    assert served.call("count", "a", key="k3").status == 200
    for method, args in (("count", ("b",)), ("write", ("a",)), ("fail", (1,))):
        answer = served.call(method, *args, key="k3")
        assert (answer.status, answer.failure["kind"]) == (422, "key-reused")
    assert served.call("counted", "a").result == 1
    assert served.call("counted", "b").result == 0


def test_another_token_has_keys_of_its_own(served: Served) -> None:
    assert served.call("count", "t", key="shared").result == 1
    assert served.call("count", "t", key="shared", token=WRITER).result == 2
    assert served.call("count", "t", key="shared", token=BOTH).result == 1


def test_many_with_one_key_at_once_run_once(served: Served) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: served.call("count", "storm", key="storm"), range(24)))
    assert {answer.body for answer in answers} == {answers[0].body}
    assert served.call("counted", "storm").result == 1


def test_a_key_is_known_after_a_kill_and_after_a_stop(own: Served) -> None:
    first = own.call("count", "x", key="k")
    raised = own.call("fail", 1, key="f")
    own.kill()
    own.start()
    assert own.call("count", "x", key="k").body == first.body
    assert own.call("fail", 1, key="f").failure["type"] == raised.failure["type"]
    assert own.call("count", "y", key="k").status == 422
    assert own.stop() == 0
    own.start()
    assert own.call("count", "x", key="k").body == first.body
    assert own.call("count", "y", key="k").status == 422
    assert own.call("counted", "x").result == 1


# --- keys themselves ---


def test_own_keys_count_for_one_client() -> None:
    one = identify(client_key(b"a" * 16, 1), "me")
    two = identify(client_key(b"a" * 16, 2), "me")
    assert one[0] == two[0]
    assert (one[1], two[1]) == (1, 2)
    assert len(one[0]) == 16


def test_no_two_keys_meet() -> None:
    keys = ["a", "b", client_key(b"a" * 16, 1), "perdure:x:1", "perdure:" + "a" * 32 + ":0", "a\\0b"]
    clients = [identify(key, who)[0] for key in keys for who in ("", "me", "you", "me\0a")]
    assert len(set(clients)) == len(clients)


@pytest.mark.parametrize("key", ["", "x" * 201, "ü", "a\n", "\x7f"], ids=["empty", "long", "latin", "line", "delete"])
def test_what_is_no_key_is_a_value_error(key: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        identify(key, "")


@pytest.mark.parametrize(
    "value", ["a", " a\t", "a b", "a\tb", "", " ", "x" * 200, " " + "x" * 200, "x" * 201, "\xe9", "perdure:x:1"]
)
def test_the_document_says_which_keys_the_server_takes(served: Served, value: str) -> None:
    answer = served.request("POST", "/call/count", b'{"args": ["k"]}', {**_JSON, "Idempotency-Key": value})
    assert answer.status == (200 if re.search(KEY_PATTERN, value) else 400)


def test_spaces_around_a_key_are_not_part_of_it(served: Served) -> None:
    for value in ("around", " around", "around\t "):
        served.request("POST", "/call/count", b'{"args": ["spaces"]}', {**_JSON, "Idempotency-Key": value})
    assert served.call("counted", "spaces").result == 1
