"""The page for people, as a server sends it. ``tests/integration`` looks at it in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.server._process import BOTH, READER, WRITER, Served

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>{{ 7*7 }}"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("page"), "--keep-history", "--durability", "everysec") as server:
        for number in range(20):
            server.call("write", f"page {number}", "some text")
        server.call("write", HOSTILE, HOSTILE)
        server.call("take", {HOSTILE: [HOSTILE, {"deep": [[[[[[[[[1]]]]]]]]]}], "many": list(range(5000))})
        server.call("fail", 5)
        yield server


class Scripts(HTMLParser):
    """Finds what a browser would run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if (tag == "script" and names.get("src") != "static/page.js") or tag in ("img", "iframe", "object", "style"):
            self.found.append(tag)
        self.found += [name for name in names if name.startswith("on") or name == "style"]


def page(server: Served, path: str = "/", token: str = BOTH) -> str:
    answer = server.request("GET", path, token=token)
    assert answer.status == 200, answer
    return answer.body.decode()


def test_it_shows_where_the_system_stands(filled: Served) -> None:
    text = page(filled)
    for words in ("Wiki", "entries per second", "on disk", "Last commands", "Snapshots", "Replicas", "As it was"):
        assert words in text
    assert "OutOfPagesError" in text
    assert "page 5" in text
    assert "some text" in text


@pytest.mark.parametrize("path", ["/", "/?seq=21", "/fragment/figures", "/fragment/state", "/fragment/state?seq=21"])
def test_nothing_that_is_stored_becomes_markup(filled: Served, path: str) -> None:
    text = page(filled, path)
    assert not Scripts(text).found
    assert "49" not in text.split("7*7")[0][-3:]
    assert "<script>alert" not in text
    assert "<img" not in text


def test_the_page_may_run_nothing_but_its_own_script(filled: Served) -> None:
    policy = filled.request("GET", "/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    for name, kind in (("page.js", "text/javascript"), ("page.css", "text/css"), ("icon.svg", "image/svg+xml")):
        answer = filled.request("GET", f"/static/{name}", token=None)
        assert answer.status == 200
        assert answer.headers["content-type"].startswith(kind)
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_state_is_shown_as_it_was(filled: Served) -> None:
    text = page(filled, "/fragment/state?seq=3")
    assert "page 2" in text
    assert "page 3" not in text
    assert "page 19" in page(filled, "/fragment/state")
    assert "which is now" in page(filled, "/fragment/state")
    assert "the last command has seq" in page(filled, "/fragment/state?seq=100000")
    assert "no number" in page(filled, "/fragment/state?seq=x")


def test_a_large_state_is_cut_and_says_so(filled: Served) -> None:
    text = page(filled, "/fragment/state")
    assert "4,900 more" in text
    assert len(text) < 1_000_000


def test_a_token_that_may_not_read_sees_no_values(filled: Served) -> None:
    text = page(filled, token=WRITER)
    assert "Last commands" in text
    assert "<code>write</code>" in text
    for secret in ("page 5", "some text", "OutOfPages", 'id="slider"'):
        assert secret not in text
    assert "may not read" in text
    assert filled.request("GET", "/fragment/state", token=WRITER).status == 403
    assert "page 5" not in page(filled, "/fragment/figures", token=WRITER)
    assert "page 5" in page(filled, token=READER)


def test_without_a_token_there_is_a_form_and_nothing_else(filled: Served) -> None:
    answer = filled.request("GET", "/", token=None)
    text = answer.body.decode()
    assert answer.status == 401
    assert 'type="password"' in text
    assert "Last commands" not in text
    assert filled.request("GET", "/fragment/figures", token=None).status == 401
    assert filled.request("GET", "/fragment/state", token=None).status == 401


def test_a_session_begins_with_a_token_and_ends(filled: Served) -> None:
    wrong = filled.request("POST", "/login", b"token=wrong", token=None)
    assert (wrong.status, wrong.headers["location"]) == (303, "./?wrong")
    assert wrong.headers["set-cookie"] is None
    assert "not known" in filled.request("GET", "/?wrong", token=None).body.decode()
    login = filled.request("POST", "/login", f"token={READER}&x=y".encode(), token=None)
    cookie = login.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert READER not in cookie
    headers = {"Cookie": cookie.partition(";")[0]}
    assert "page 5" in filled.request("GET", "/", None, headers, token=None).body.decode()
    filled.request("POST", "/logout", b"", headers, token=None)
    assert filled.request("GET", "/", None, headers, token=None).status == 401


@pytest.mark.parametrize(
    "cookie", ["perdure_session=", "perdure_session=x", 'x=y; perdure_session="', "\xff=\xff", ";;;="]
)
def test_another_cookie_opens_nothing(filled: Served, cookie: str) -> None:
    assert filled.request("GET", "/", None, {"Cookie": cookie}, token=None).status == 401


def test_a_form_that_is_too_large_is_refused(filled: Served) -> None:
    assert filled.request("POST", "/login", b"token=" + b"x" * 10_000, token=None).status == 413


# --- the tree ---


def test_a_tree_calls_no_method_and_ends(tmp_path: Path) -> None:
    from perdure.server._tree import tree

    class Loud:
        __slots__ = ("inner", "missing")

        def __repr__(self) -> str:
            raise AssertionError

        def __len__(self) -> int:
            raise AssertionError

    ring: list[object] = []
    ring.append(ring)
    loud = Loud()
    loud.inner = {"key": {3, 1, 2}, b"b": (1, 2), (1, "x"): 5, loud.__class__: 1}
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    root = tree({"ring": ring, "loud": loud, "deep": deep, "long": "x" * 10_000, "big": 1 << 100_000})
    by_label = {node.label: node for node in root.children}
    assert "holds this one" in by_label["'ring'"].children[0].text
    assert by_label["'loud'"].children[0].label == "inner"
    assert "10,000 in all" in by_label["'long'"].text
    assert "bits" in by_label["'big'"].text
    wide = tree([list(range(1000)) for _ in range(1000)], nodes_max=500)
    assert wide.more == 900
    assert sum(len(node.children) for node in wide.children) <= 500
