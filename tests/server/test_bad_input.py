"""Whatever is sent: a refusal that says why, or a clean end of the connection; never a 5xx, never a stopped server."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import random
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from perdure.wire import wire_codec
from tests.server._process import BOTH, READER, Answer, Served, read_answer
from tests.server.models import Page, Wiki

JSON = {"Content-Type": "application/json"}
OWN = {"Content-Type": "application/vnd.perdure"}


@pytest.fixture
def alive(served: Served) -> Iterator[Served]:
    """The server, which must go on answering, as it was, after whatever the test sent."""
    pid = served.pid
    yield served
    assert served.pid == pid
    assert served.is_running()
    assert served.request("GET", "/health").status == 200
    assert served.call("names").status == 200


def refused(answer: Answer, *statuses: int) -> None:
    assert answer.status in statuses, answer
    assert answer.failure["kind"]
    assert answer.failure["message"]
    assert answer.headers["cache-control"] == "no-store"


# --- tokens ---


@pytest.mark.parametrize(
    "value",
    [None, "", "Bearer", "Bearer ", "Basic " + BOTH, BOTH, "Bearer " + BOTH[:-1], "Bearer " + BOTH + "b",
     "Bearer " + BOTH.upper(), "bearer x", "Bearer \xff\xfe", "Bearer " + "b" * 10_000],
    ids=["none", "empty", "scheme", "nothing", "basic", "bare", "shorter", "longer", "upper", "x", "bytes", "long"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/call/names", "/call/nothing", "/state", "/metrics", "/openapi.json", "/status"])
def test_a_wrong_or_missing_token_is_a_401(alive: Served, path: str, value: str | None) -> None:
    headers = {} if value is None else {"Authorization": value}
    answer = alive.request("POST" if "call" in path else "GET", path, None, headers, token=None)
    refused(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_refusal_without_a_token_tells_nothing_of_the_class(alive: Served) -> None:
    known = alive.request("POST", "/call/names", token=None)
    unknown = alive.request("POST", "/call/there_is_none", token=None)
    assert known.body == unknown.body


# --- paths and methods ---


@pytest.mark.parametrize(
    "name",
    ["nothing", "_private", "__init__", "__class__", "__len__", "__setattr__", "__dict__", "__reduce_ex__", "size",
     "kind", "static", "of_class", "pages", "close", "take_snapshot", "basedir_abspath", "start_master",
     "_perdure_system", "names/", "names/x", "/names", "", ".", "..", "../names", "..%2fnames", "%2e%2e/health",
     "names%00", "names%0a", "name\u0441".encode().decode("latin-1"), "names?x", "NAMES", "a" * 5000, "pages.clear",
     "%ff%fe", "names;x=1", "mro"],
    ids=lambda name: ascii(name[:20]),
)  # fmt: skip
def test_only_public_methods_of_the_class_exist(alive: Served, name: str) -> None:
    from urllib.parse import quote

    if name == "names?x":
        assert alive.request("POST", "/call/" + name, b"", JSON).status == 200  # A query string is nobody's business.
        return
    answer = alive.request("POST", "/call/" + quote(name, safe="/%."), b"{}", JSON)
    refused(answer, 404)


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/../../etc/passwd", "/static/../_application.py", "/static/..%2f..%2f__init__.py", "//health",
     "/static/%2e%2e/x", "/static/", "/static/page.css/", "/fragment/x", "/call", "/HEALTH", "/health/", "/%00",
     "/state/", "/wiki", "/static/page.css%00.png"],
)  # fmt: skip
def test_there_is_nothing_beside_the_documented_paths(alive: Served, path: str) -> None:
    answer = alive.request("GET", path)
    assert answer.status in (404, 307, 405), answer
    assert b"root:" not in answer.body


@pytest.mark.parametrize("verb", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW"])
def test_another_verb_is_a_405(alive: Served, verb: str) -> None:
    answer = alive.request(verb, "/call/names")
    # What is no verb at all the parser refuses.
    assert answer.status == (400 if verb == "BREW" else 405)
    if verb != "BREW":
        assert answer.headers["allow"] == "POST"
        assert alive.request("POST" if verb in ("GET", "HEAD") else verb, "/state").status in (405, 400)


# --- bodies ---


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"null", b"1", b'"x"', b'{"args": 1}', b'{"args": {}}', b'{"kwargs": []}', b'{"args": [], "x": 1}',
     b'{"kwargs": {"1": 2}, "args": null}', b"\xff\xfe", b'{"args": ["\\ud800"]}', b'{"args": [NaN]}', b"{'args': []}",
     b'{"args": []}{}', b"\x00" * 100, b"[" * 100_000, b'{"args":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
     b'{"args": [' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"]}",
     b'{"args": [' + b"[" * 101 + b"]" * 101 + b"]}"],
    ids=range(20),
)  # fmt: skip
def test_a_body_that_is_no_call_is_a_400(alive: Served, body: bytes) -> None:
    refused(alive.request("POST", "/call/take", body, JSON), 400, 422)


def test_a_number_that_no_format_takes_is_no_failure_of_the_server(alive: Served) -> None:
    answer = alive.call("take", 10**400)
    assert answer.status in (200, 409, 422), answer
    assert alive.call("take", None).status == 200


def test_nesting_within_the_bound_is_fine(alive: Served) -> None:
    body = b'{"args": [' + b"[" * 90 + b"]" * 90 + b"]}"
    assert alive.request("POST", "/call/take", body, JSON).status == 200


@pytest.mark.parametrize(
    "body",
    [b"\xc1", b"\x91" * 10_000, b"\x82\xa4args\x90\xa6kwargs", b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff",
     b"\xc9\xff\xff\xff\xff\x01", msgspec.msgpack.encode({"args": [msgspec.msgpack.Ext(5, b"x")]}),
     msgspec.msgpack.encode({"args": [], "kwargs": {1: 2}}), msgspec.msgpack.encode([])],
    ids=range(9),
)  # fmt: skip
def test_messagepack_that_is_no_call_is_refused(alive: Served, body: bytes) -> None:
    refused(alive.request("POST", "/call/take", body, {"Content-Type": "application/msgpack"}), 400, 422)


@pytest.mark.parametrize("kind", ["application/json", "application/msgpack", "application/vnd.perdure", "text/plain"])
def test_random_bodies_are_refused(alive: Served, kind: str) -> None:
    chance = random.Random(kind)
    good = json.dumps({"args": ["name", "text"], "kwargs": {}}).encode()
    for number in range(60):
        body = chance.randbytes(chance.randrange(1, 300))
        if number % 3 == 0:
            body = bytearray(good)
            body[chance.randrange(len(body))] = chance.randrange(256)
            body = bytes(body)
        answer = alive.request("POST", "/call/write", body, {"Content-Type": kind})
        assert answer.status in (200, 400, 415, 422), (body, answer)


@pytest.mark.parametrize(
    ("method", "args", "kwargs"),
    [("write", [1], {}), ("write", [None], {}), ("write", ["a", "b", "c"], {}), ("write", [], {}),
     ("write", ["a"], {"name": "b"}), ("write", [], {"nome": "a"}), ("write", [["a"]], {}), ("fail", ["1"], {}),
     ("fail", [1.5], {}), ("fail", [True], {}), ("add_note", [{"text": "x"}], {}),
     ("add_note", [{"text": "x", "at": "yesterday"}], {}), ("add_note", [{"text": 1, "at": "2024-01-01T00:00:00"}], {}),
     ("add_note", [{"text": "x", "at": "2024-01-01T00:00:00"}, 5], {}),
     ("add_note", [{"text": "x", "at": "2024-01-01T00:00:00"}], {"pinned": "yes"}), ("put", [{"name": "a"}], {}),
     ("days", ["2024-02-30", "2024-01-01"], {}), ("names", [1], {}), ("write", ["a"], {"self": 1})],
    ids=range(19),
)  # fmt: skip
def test_arguments_of_another_type_are_a_422(alive: Served, method: str, args: list, kwargs: dict) -> None:
    body = json.dumps({"args": args, "kwargs": kwargs}).encode()
    seq = alive.request("GET", "/status").json["seq"]
    answer = alive.request("POST", f"/call/{method}", body, JSON)
    refused(answer, 422)
    assert alive.request("GET", "/status").json["seq"] == seq


@pytest.mark.parametrize("kind", ["", "text/plain", "text/html", "application/x-www-form-urlencoded",
                                  "multipart/form-data; boundary=x", "application/pickle", "x" * 5000])  # fmt: skip
def test_another_type_of_body_is_a_415(alive: Served, kind: str) -> None:
    refused(alive.request("POST", "/call/names", b'{"args": []}', {"Content-Type": kind}), 415)


def test_a_compressed_body_is_a_415(alive: Served) -> None:
    body = gzip.compress(b'{"args": []}')
    refused(alive.request("POST", "/call/names", body, {**JSON, "Content-Encoding": "gzip"}), 415)


def test_an_oversized_body_is_a_413(alive: Served) -> None:
    body = b'{"args": ["' + b"x" * (17 << 20) + b'"]}'
    refused(alive.request("POST", "/call/take", body, JSON), 413)


def test_a_body_that_announces_too_much_is_refused_before_it_is_read(alive: Served) -> None:
    head = f"POST /call/take HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {BOTH}\r\ncontent-type: application/json\r\n"
    answer = alive.raw(head.encode() + b"content-length: 99999999999999\r\n\r\n{}", end=True)
    assert answer == b"" or answer.split(b" ")[1] in (b"413", b"400")


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "99999999999999999999999999", "5, 6", "+5", ""])
def test_a_length_that_is_none_is_refused(alive: Served, length: str) -> None:
    head = f"POST /call/names HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {BOTH}\r\ncontent-length: {length}\r\n\r\n"
    answer = alive.raw(head.encode() + b"{}", end=True)
    assert answer == b"" or answer.split(b" ")[1][:1] == b"4" or answer.startswith(b"HTTP/1.1 200")


def test_a_truncated_body_ends_cleanly(alive: Served) -> None:
    seq = alive.request("GET", "/status").json["seq"]
    head = f"POST /call/write HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {BOTH}\r\ncontent-type: application/json\r\n"
    for sent in (b"", b"{", b'{"args": ["cut"]}'):
        with socket.create_connection(("127.0.0.1", alive.port), 30) as connection:
            connection.sendall(head.encode() + b"content-length: 1000\r\n\r\n" + sent)
    assert alive.request("GET", "/status").json["seq"] == seq
    assert "cut" not in alive.call("names").result


@pytest.mark.parametrize(
    "data",
    [b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
     b"POST /call/names HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
     b"POST /call/names HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
     b"GET http://[ HTTP/1.1\r\n\r\n", b"GET /\xff\xfe HTTP/1.1\r\nhost: a\r\n\r\n", b"\x00" * 500,
     b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
     b"GET /health HTTP/1.1\r\n: x\r\n\r\n",
     b"GET /feed HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\n"],
    ids=range(14),
)  # fmt: skip
def test_what_is_no_http_ends_cleanly(alive: Served, data: bytes) -> None:
    answer = alive.raw(data, end=True)
    assert answer == b"" or answer.split(b" ")[1][:1] in b"4", answer[:200]


@pytest.mark.parametrize("many", [True, False], ids=["many", "one"])
def test_headers_without_end_are_refused(alive: Served, many: bool) -> None:
    with socket.create_connection(("127.0.0.1", alive.port), 30) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: a\r\n")
        answer = b""
        try:
            for number in range(300):
                connection.sendall(b"x-%d: %s\r\n" % (number, b"y" * 1000) if many else b"z" * 1000)
        except ConnectionError:
            pass
        else:
            answer = read_answer(connection)
    assert answer == b"" or answer.split(b" ")[1] in (b"400", b"431")


@pytest.mark.parametrize("key", ["", " ", "x" * 201, "\xe9", "a\tb"], ids=["empty", "blank", "long", "latin", "tab"])
def test_a_key_that_is_none_is_a_400(alive: Served, key: str) -> None:
    answer = alive.request("POST", "/call/count", b'{"args": ["k"]}', {**JSON, "Idempotency-Key": key})
    refused(answer, 400)


@pytest.mark.parametrize(
    "query", ["after=x", "after=-1", "after=99999999999999999999", "log=zz", "after=1&last=zz", "term=x"]
)
def test_a_feed_that_is_asked_for_wrongly_is_refused(alive: Served, query: str) -> None:
    assert alive.request("GET", f"/feed?{query}").status in (400, 409)


def test_a_cookie_opens_nothing_but_the_page(alive: Served) -> None:
    login = alive.request("POST", "/login", f"token={BOTH}".encode(), token=None)
    cookie = login.headers["set-cookie"].partition(";")[0]
    assert alive.request("GET", "/", headers={"Cookie": cookie}, token=None).status == 200
    for verb, path in (("POST", "/call/names"), ("GET", "/state"), ("GET", "/feed"), ("POST", "/fence")):
        refused(alive.request(verb, path, b"", {"Cookie": cookie}, token=None), 401)


# --- pickles ---


class _Payload:
    def __reduce__(self) -> object:
        return os.system, ("touch /tmp/perdure-was-here",)


class _Marker:
    """Would make a file, if anybody unpickled it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> object:
        return io.open, (str(self._path), "w")


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("kind", ["application/vnd.perdure", "application/json", "application/msgpack"])
def test_a_pickle_in_a_body_runs_nothing(alive: Served, tmp_path: Path, kind: str, protocol: int) -> None:
    made = tmp_path / "made"
    bare = pickle.dumps(("take", (_Marker(made),), {}), protocol)
    for body in (bare, b"\x00" + bare, b"\x01" + bare):
        refused(alive.request("POST", "/call/take", body, {"Content-Type": kind}), 400, 422)
        refused(alive.request("POST", "/call/take", body, {"Content-Type": kind}, token=None), 401)
    assert not made.exists()


def test_perdures_own_format_is_refused_without_a_token(served_openly: Served) -> None:
    body = b"\x00" + wire_codec(Wiki).encode(("put", (Page("a", "b"),), {}))
    refused(served_openly.request("POST", "/call/put", body, OWN, token=None), 415)
    answer = served_openly.request("GET", "/state", None, {"Accept": "application/vnd.perdure"}, token=None)
    assert answer.status == 406


def test_a_body_that_names_another_method_is_refused(alive: Served) -> None:
    body = b"\x00" + wire_codec(Wiki).encode(("put", (Page("a", "b"),), {}))
    refused(alive.request("POST", "/call/take", body, OWN), 400)


# --- slow, idle and vanishing clients: a server with small bounds ---


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    options = ("--receive-timeout", "1", "--connections-max", "300", "--calls-max", "8", "--call-timeout", "1",
               "--durability", "everysec")  # fmt: skip
    with Served(tmp_path_factory.mktemp("small"), *options) as server:
        yield server
        assert server.is_running(), server.log()[-3000:]


@pytest.mark.parametrize(
    "data",
    [b"", b"GET /hea", b"POST /call/names HTTP/1.1\r\nhost: a\r\n",
     f"POST /call/names HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {BOTH}\r\ncontent-length: 100\r\n\r\n".encode()],
    ids=["nothing", "path", "headers", "body"],
)  # fmt: skip
def test_a_slow_client_is_told_so(small: Served, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", small.port), 30) as connection:
        connection.sendall(data)
        answer = read_answer(connection)
    assert answer.split(b" ")[1] == b"408", answer


def test_a_client_that_sends_a_byte_now_and_then_is_slow_all_the_same(small: Served) -> None:
    with socket.create_connection(("127.0.0.1", small.port), 30) as connection:
        connection.settimeout(0.2)
        received = b""
        deadline = time.monotonic() + 30
        while not received and time.monotonic() < deadline:
            try:
                connection.sendall(b"x")
                received = connection.recv(4096) or b"closed"
            except TimeoutError:
                continue
            except ConnectionError:
                received = b"closed"
        assert received == b"closed" or received.split(b" ")[1] in (b"408", b"400")


def test_a_thousand_idle_connections_are_refused_politely(small: Served) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(1000, soft - 200)
    statuses = []
    with ExitStack() as stack:
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", small.port), 30)
            stack.callback(connection.close)
            statuses.append(connection)
        # All of them hear something: too many, or too slow.
        answers = [read_answer(connection) for connection in statuses]
    heard = {answer.split(b" ")[1] for answer in answers if answer}
    assert heard <= {b"429", b"408"}
    assert b"429" in heard
    small.wait_until(
        lambda: small.raw(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n").startswith(b"HTTP/1.1 200"), "still full"
    )


def test_too_many_calls_at_once_are_asked_to_come_again(small: Served) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _: small.call("wait", 0.3), range(24)))
    assert {answer.status for answer in answers} <= {200, 429, 504}
    busy = [answer for answer in answers if answer.status == 429]
    assert busy
    assert busy[0].failure["kind"] == "busy"
    assert busy[0].headers["retry-after"] == "1"


def test_a_call_that_takes_too_long_is_answered_and_goes_on(small: Served) -> None:
    first = small.call("crawl", 2.5, key="long")
    assert (first.status, first.failure["kind"]) == (504, "running")
    answers: list[Answer] = []

    def is_done() -> bool:
        answers.append(small.call("crawl", 2.5, key="long"))
        return answers[-1].status == 200

    small.wait_until(is_done, "the command was never answered")
    assert answers[-1].result == "done"
    assert small.request("GET", "/status").json["seq"] < 5


def test_a_client_that_vanishes_in_the_middle_of_a_feed_is_forgotten(small: Served) -> None:
    head = f"GET /feed?after=0 HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {READER}\r\n\r\n".encode()
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", small.port), 30) as connection:
            connection.sendall(head)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    small.wait_until(lambda: b"perdure_feeds 0.0" in small.request("GET", "/metrics").body, "a feed is still open")
    assert small.call("write", "after", "feed").status == 200
