"""Calls over HTTP, as anybody's client would make them."""

from __future__ import annotations

import datetime
import json
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from tests.server._process import BOTH, READER, WRITER, Served

NOTE = {"text": "buy milk", "at": "2024-05-06T07:08:09Z"}


def test_a_command_and_a_query_in_json(served: Served) -> None:
    assert served.call("write", "json", "text").result >= 1
    assert "json" in served.call("names").result
    assert served.call("names", prefix="js").result == ["json"]
    assert served.call("write", name="by name", text="x").result >= 2


def test_messagepack_is_answered_in_messagepack(served: Served) -> None:
    body = msgspec.msgpack.encode({"args": ["packed"], "kwargs": {"text": "t"}})
    for kind in ("application/msgpack", "application/x-msgpack; charset=binary"):
        answer = served.request("POST", "/call/write", body, {"Content-Type": kind})
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/msgpack"
        assert msgspec.msgpack.decode(answer.body)["result"] >= 1


def test_values_are_converted_to_the_types_of_the_hints(served: Served) -> None:
    count = served.call("add_note", NOTE, "home", "today", pinned=True).result
    state = served.request("GET", "/state").json
    assert count == len(state["notes"])
    assert state["notes"][0] == {**NOTE, "tags": ["home", "today"]}
    assert served.call("days", "2024-02-28", last="2024-03-01").result == 2


def test_a_plain_object_is_shown_by_its_public_attributes(served: Served) -> None:
    served.call("write", "shown", "here")
    assert served.call("page", "shown").result == {"name": "shown", "text": "here"}


def test_an_empty_body_is_a_call_without_arguments(served: Served) -> None:
    assert served.request("POST", "/call/names").status == 200
    assert served.request("POST", "/call/write").status == 422


def test_a_generator_gives_all_its_steps(served: Served) -> None:
    served.call("write", "step")
    assert "step" in served.call("each_name").result


def test_a_method_that_returns_the_object_itself_says_so(served: Served) -> None:
    assert served.call("itself").json == {"result": None, "is_self": True, "unsendable": None}


def test_what_a_method_raises_is_named(served: Served) -> None:
    answer = served.call("fail", 3)
    assert answer.status == 409
    failure = answer.failure
    assert (failure["kind"], failure["type"], failure["args"]) == (
        "raised", "tests.server.models.OutOfPagesError", [3],
    )  # fmt: skip
    assert served.call("page", "there is none").failure["type"] == "builtins.KeyError"


def test_a_command_whose_result_cannot_be_sent_has_run_and_says_so(served: Served) -> None:
    before = served.call("counted", "made").result
    answer = served.call("maker")
    assert answer.result is None
    assert "function" in answer.json["unsendable"]
    assert served.call("counted", "made").result == before + 1


def test_a_query_whose_result_cannot_be_sent_is_refused(served: Served) -> None:
    assert served.call("unsendable").status == 406


def test_scopes_say_what_a_token_may(served: Served) -> None:
    assert served.call("names", token=READER).status == 200
    assert served.call("write", "x", token=READER).status == 403
    assert served.call("write", "x", token=WRITER).status == 200
    assert served.call("names", token=WRITER).status == 403
    for path in ("/state", "/snapshot", "/feed"):
        assert served.request("GET", path, token=WRITER).status == 403
    assert served.request("POST", "/fence", token=READER).status == 403


def test_a_slow_query_does_not_hold_up_the_loop(served: Served) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(served.call, "wait", 1.5)
        served.wait_until(
            lambda: b"perdure_calls_running 1.0" in served.request("GET", "/metrics").body, "the query did not start"
        )
        assert served.request("GET", "/health").status == 200
        assert not waiting.done()
        assert waiting.result().result == "waited"


def test_health_is_open_and_tells_nothing_else(served: Served) -> None:
    answer = served.request("GET", "/health", token=None)
    assert (answer.status, answer.json) == (200, {"status": "ok"})


def test_metrics_are_in_the_text_format_of_prometheus(served: Served) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    served.call("names")
    answer = served.request("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    assert families["perdure_seq"].samples[0].value >= families["perdure_durable_seq"].samples[0].value
    calls = {(each.labels["method"], each.labels["status"]): each.value for each in families["perdure_calls"].samples}
    assert calls["names", "ok"] >= 1
    assert families["perdure_disk_bytes"].samples[0].value > 0


def test_the_document_has_an_operation_for_each_public_method_and_no_other(served: Served) -> None:
    document = served.request("GET", "/openapi.json").json
    assert document["openapi"].startswith("3.1")
    names = {path.removeprefix("/call/") for path in document["paths"]}
    assert names == {
        "write", "put", "add_note", "count", "take", "fail", "change_and_fail", "crawl", "itself", "maker", "page",
        "names", "counted", "each_name", "days", "wait", "read_anything", "unsendable",
    }  # fmt: skip
    write = document["paths"]["/call/write"]["post"]
    assert write["summary"] == "Write a page. Returns how many there are."
    by_name = write["requestBody"]["content"]["application/json"]["schema"]["anyOf"][0]["properties"]["kwargs"]
    assert by_name["properties"] == {"name": {"type": "string"}, "text": {"type": "string"}}
    assert by_name["required"] == ["name"]
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert document["info"]["title"] == "Wiki"


def test_the_state_is_shown_as_it_is_and_as_it_was(served: Served) -> None:
    served.call("write", "then", "one")
    seq = served.request("GET", "/status").json["seq"]
    served.call("write", "then", "two")
    then = served.request("GET", f"/state?seq={seq}", token=READER)
    assert then.json["pages"]["then"]["text"] == "one"
    assert then.headers["perdure-seq"] == str(seq)
    assert served.request("GET", "/state").json["pages"]["then"]["text"] == "two"
    tomorrow = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(1)).isoformat().replace("+00:00", "Z")
    assert served.request("GET", f"/state?at={tomorrow}").json["pages"]["then"]["text"] == "two"
    packed = served.request("GET", "/state", headers={"Accept": "application/msgpack"})
    assert msgspec.msgpack.decode(packed.body)["pages"]["then"]["name"] == "then"


@pytest.mark.parametrize(
    ("query", "status"), [("seq=999999999", 404), ("seq=-1", 400), ("seq=x", 400), ("seq=" + "9" * 30, 400),
                          ("at=yesterday", 400)],
)  # fmt: skip
def test_a_moment_that_is_none_is_refused(served: Served, query: str, status: int) -> None:
    assert served.request("GET", f"/state?{query}").status == status


def test_without_tokens_everything_is_open_but_to_localhost_only(served_openly: Served) -> None:
    assert served_openly.call("write", "a", token=None).status == 200
    assert served_openly.request("GET", "/state", token=None).status == 200
    for host in ("localhost", "localhost:1", "127.0.0.1", "[::1]:80"):
        assert served_openly.request("POST", "/call/names", headers={"Host": host}, token=None).status == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[::1", "10.0.0.1"):
        for verb, path in (("POST", "/call/names"), ("GET", "/state"), ("GET", "/"), ("GET", "/openapi.json")):
            answer = served_openly.request(verb, path, headers={"Host": host}, token=None)
            assert answer.status == 400, (host, path)


def test_many_callers_at_once_lose_nothing(served: Served) -> None:
    with ThreadPoolExecutor(16) as pool:
        counts = list(pool.map(lambda _: served.call("count", "many").result, range(120)))
    assert sorted(counts) == list(range(1, 121))


def test_json_is_what_json_libraries_read(served: Served) -> None:
    text = '‘ü’ " \\ \u2028 </script> \x00 \U0001f600'
    assert served.call("take", {"text": text, "list": [1, 2.5, None, True]}).result["text"] == text
    assert json.loads(served.request("POST", "/call/read_anything", token=BOTH).body)["result"]["text"] == text
