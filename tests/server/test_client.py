"""``perdure.connect`` and ``connect_async`` against a server that really runs."""

from __future__ import annotations

import asyncio
import datetime
import os
import pickle
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.errors import (
    CodecError,
    OutcomeUnknownError,
    ReadOnlyError,
    RejectedError,
    UnauthorizedError,
    UnreachableError,
    UsageError,
)
from tests.server._process import BOTH, READER, WRITER, Served, read_answer
from tests.server.models import NewerWiki, Note, OutOfPagesError, Page, Wiki

NOTE = Note("milk", datetime.datetime(2024, 5, 6, tzinfo=datetime.UTC))


@pytest.fixture
def wiki(served: Served) -> Iterator[Wiki]:
    with perdure.connect(Wiki, served.url, token=BOTH) as connected:
        yield connected


@pytest.fixture
def open_wiki(served_openly: Served) -> Iterator[Wiki]:
    with perdure.connect(Wiki, served_openly.url) as connected:
        yield connected


# --- what comes back ---


def test_it_looks_like_the_class_and_has_its_methods_only(wiki: Wiki) -> None:
    assert isinstance(wiki, Wiki)
    assert wiki.write.__doc__ == Wiki.write.__doc__
    for name in ("pages", "size", "kind", "_private", "static", "of_class", "take_snapshot", "close", "__len__"):
        with pytest.raises(AttributeError):
            getattr(wiki, name)
    with pytest.raises(AttributeError, match="snapshot"):
        wiki.pages
    with pytest.raises(AttributeError):
        wiki.pages = {}
    with pytest.raises(TypeError):
        len(wiki)
    with pytest.raises(TypeError):
        pickle.dumps(wiki)


def test_plain_objects_travel_as_they_are_with_a_token(wiki: Wiki) -> None:
    assert wiki.put(Page("far", "away")) >= 1
    assert wiki.page("far") == Page("far", "away")
    value = {"set": {1, 2}, "tuple": (1, (2, 3)), "date": datetime.date(2024, 1, 1), "page": Page("a", "b"), 5: b"x"}
    assert wiki.take(value) == value
    assert wiki.read_anything() == value
    assert wiki.take(10**400) == 10**400
    wiki.take(None)  # Which no other test finds in the state: it does not go into MessagePack.


def test_plain_data_is_converted_without_one(open_wiki: Wiki) -> None:
    open_wiki.write("open", "door")
    assert open_wiki.names("op") == ["open"]
    assert open_wiki.add_note(NOTE, "a", "b", pinned=True) >= 1
    assert open_wiki.days(datetime.date(2024, 2, 28), last=datetime.date(2024, 3, 1)) == 2
    assert open_wiki.take({"a": [1, (2,)]}) == {"a": [1, [2]]}
    with pytest.raises(CodecError, match="token"):
        open_wiki.put(Page("a", "b"))
    with pytest.raises(UnauthorizedError):
        perdure.control(open_wiki).snapshot()


def test_a_method_that_returns_itself_returns_the_proxy(wiki: Wiki, open_wiki: Wiki) -> None:
    assert wiki.itself() is wiki
    assert open_wiki.itself() is open_wiki


def test_exceptions_come_as_their_own_type(wiki: Wiki, open_wiki: Wiki) -> None:
    for each in (wiki, open_wiki):
        with pytest.raises(OutOfPagesError) as caught:
            each.fail(3)
        assert caught.value.args == (3,)
        with pytest.raises(KeyError, match="none"):
            each.page("none")
        with pytest.raises(ValueError, match="no"):
            each.change_and_fail()


def test_an_exception_that_is_not_known_here_is_rejected_with_its_name(served: Served) -> None:
    # A class of another package, as where the server's is not installed.
    elsewhere: Any = type("Wiki", (), {"fail": Wiki.fail, "__module__": "elsewhere"})
    wiki = perdure.connect(elsewhere, served.url, token=BOTH)
    with wiki, pytest.raises(RejectedError, match=r"OutOfPages.*3"):
        wiki.fail(3)


def test_wrong_arguments_raise_as_at_home_or_are_rejected(wiki: Wiki) -> None:
    anything: Any = wiki
    for call in (lambda: anything.write(), lambda: anything.write("a", "b", "c"), lambda: anything.write(nome="x")):
        with pytest.raises(TypeError, match=r"write\(\)"):
            call()
    with pytest.raises(RejectedError, match="Expected `str`"):
        anything.write(5)
    with pytest.raises(CodecError, match="argument 1"):
        anything.take(lambda: None)


def test_what_cannot_be_sent_back_says_whether_it_has_run(wiki: Wiki) -> None:
    with pytest.raises(RejectedError, match="has run, once"):
        wiki.maker()
    with pytest.raises(RejectedError, match="cannot be sent"):
        wiki.unsendable()


def test_a_method_that_the_server_has_not_is_rejected(served: Served) -> None:
    with perdure.connect(NewerWiki, served.url, token=BOTH) as wiki, pytest.raises(RejectedError, match="no public"):
        wiki.brand_new()


def test_attributes_are_read_from_a_copy(wiki: Wiki) -> None:
    wiki.write("copy", "one")
    control = perdure.control(wiki)
    seq = control.seq
    wiki.write("copy", "two")
    assert control.seq == seq + 1
    now, then = control.snapshot(), control.at(seq)
    assert (now.pages["copy"].text, then.pages["copy"].text) == ("two", "one")
    assert now.size == len(now) == len(now.pages)
    assert perdure.control(then).seq == seq
    with pytest.raises(ReadOnlyError):
        now.write("copy", "three")
    with pytest.raises(RejectedError):
        control.at(10**9)
    with pytest.raises(UsageError):
        control.take_snapshot()
    assert not control.closed


@pytest.mark.parametrize(("token", "may"), [(READER, "read"), (WRITER, "write"), ("x" * 32, ""), (None, "")])
def test_a_token_opens_what_it_opens(served: Served, token: str | None, may: str) -> None:
    with perdure.connect(Wiki, served.url, token=token) as wiki:
        for call, scope in ((wiki.names, "read"), (lambda: wiki.write("t"), "write")):
            if scope == may:
                call()
            else:
                with pytest.raises(UnauthorizedError):
                    call()


# --- where and how ---


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000", "ftp://a", "http://", "http://a:b", "http://a:99999", "http://u:p@a", "http://a/?x", 5],
)
def test_what_is_no_url_is_refused(url: Any) -> None:
    with pytest.raises((UsageError, TypeError, AttributeError)):
        perdure.connect(Wiki, url)


def test_a_token_over_plain_http_beyond_this_machine_is_warned_of() -> None:
    with pytest.warns(perdure.PerdureWarning, match="https"):
        perdure.connect(Wiki, "http://wiki.example", token=BOTH)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        perdure.connect(Wiki, "https://wiki.example", token=BOTH)


def test_nobody_answers(tmp_path: Path) -> None:
    with socket.socket() as bound:  # Bound and not listening: connections are refused.
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with perdure.connect(Wiki, url, timeout=1.5) as wiki:
            with pytest.raises(UnreachableError):
                wiki.write("a")
            with pytest.raises(UnreachableError):
                wiki.names()


def test_an_answer_that_does_not_come_leaves_a_command_unknown_and_a_query_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with perdure.connect(Wiki, url, timeout=1.5) as wiki:
            with pytest.raises(OutcomeUnknownError, match="once"):
                wiki.write("a")
            with pytest.raises(UnreachableError):
                wiki.names()


def test_something_else_that_answers_is_no_server_of_perdure() -> None:
    def answer(listener: socket.socket) -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/html\r\n\r\nhello")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        try:
            for token in (None, BOTH):
                wiki = perdure.connect(Wiki, f"http://127.0.0.1:{listener.getsockname()[1]}", token=token)
                with wiki, pytest.raises((CodecError, RejectedError)):
                    wiki.names()
        finally:
            thread.join()


def test_a_closed_client_says_so(served: Served) -> None:
    wiki = perdure.connect(Wiki, served.url, token=BOTH)
    wiki.names()
    perdure.control(wiki).close()
    perdure.control(wiki).close()
    with pytest.raises(perdure.ClosedError):
        wiki.names()


def test_connections_are_kept_and_any_thread_may_call(wiki: Wiki, served: Served) -> None:
    with ThreadPoolExecutor(16) as pool:
        counts = list(pool.map(lambda _: wiki.count("threads"), range(200)))
    assert sorted(counts) == list(range(1, 201))
    folder = Path(f"/proc/{served.pid}/fd")
    sockets = sum(os.readlink(each).startswith("socket:") for each in folder.iterdir() if each.is_symlink())
    assert sockets < 80


def test_a_forked_child_has_connections_of_its_own(wiki: Wiki) -> None:
    wiki.count("fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if wiki.count("fork") in (2, 3) else 2
        finally:
            os._exit(code)
    wiki.count("fork")
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert wiki.counted("fork") == 3


def test_a_command_whose_answer_was_lost_is_sent_again_and_runs_once(served: Served) -> None:
    """A relay forwards the request, and hangs up instead of passing the answer on, twice."""
    lost = []

    def relay(listener: socket.socket) -> None:
        while True:
            client, _ = listener.accept()
            with client, socket.create_connection(("127.0.0.1", served.port)) as server:
                request = read_answer(client)
                if not request:
                    return
                server.sendall(request)
                answer = read_answer(server)
                if len(lost) < 2:
                    lost.append(answer)
                    continue
                client.sendall(answer.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=relay, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        try:
            with perdure.connect(Wiki, f"http://127.0.0.1:{port}", token=BOTH) as wiki:
                assert wiki.count("lost") == 1
                assert len(lost) == 2
                assert wiki.count("lost") == 2
        finally:
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()


def test_commands_go_on_over_a_server_that_stops_and_starts(tmp_path: Path) -> None:
    with Served(tmp_path) as server, perdure.connect(Wiki, server.url, token=BOTH, timeout=90) as wiki:
        with ThreadPoolExecutor(4) as pool:
            counting = [pool.submit(lambda: [wiki.count("on") for _ in range(50)]) for _ in range(4)]
            server.wait_until(lambda: wiki.counted("on") > 20, "nothing happens")
            server.stop()
            server.start()
            counts = sorted(number for each in counting for number in each.result())
        assert counts == list(range(1, 201))


# --- the awaited one ---


def test_the_awaited_client_does_the_same(served: Served) -> None:
    async def main() -> None:
        async with perdure.connect_async(Wiki, served.url, token=BOTH) as wiki:
            assert isinstance(wiki, Wiki)
            assert await wiki.put(Page("async", "page")) >= 1
            assert await wiki.page("async") == Page("async", "page")
            counts = await asyncio.gather(*(wiki.count("async") for _ in range(200)))
            assert sorted(counts) == list(range(1, 201))
            with pytest.raises(OutOfPagesError):
                await wiki.fail(1)
            control = perdure.control(wiki)
            seq = await control.seq()
            assert (await control.snapshot()).pages["async"] == (await control.at(seq)).pages["async"]
            with pytest.raises(AttributeError, match="await"):
                wiki.pages
            with pytest.raises(TypeError):
                await wiki.write()
        with pytest.raises(perdure.ClosedError):
            await wiki.names()

    asyncio.run(main())


def test_the_awaited_client_goes_on_over_a_restart_and_gives_up_in_time(tmp_path: Path) -> None:
    async def main(server: Served) -> None:
        async with perdure.connect_async(Wiki, server.url, token=BOTH, timeout=90) as wiki:
            assert await wiki.count("x") == 1
            server.kill()
            waiting = [asyncio.create_task(wiki.count("x")) for _ in range(10)]
            await asyncio.to_thread(server.start)
            assert sorted(await asyncio.gather(*waiting)) == list(range(2, 12))
        os.kill(server.pid, signal.SIGKILL)
        await asyncio.to_thread(server.stop)
        async with perdure.connect_async(Wiki, server.url, token=BOTH, timeout=1.5) as wiki:
            with pytest.raises(UnreachableError):
                await wiki.count("x")
            with pytest.raises(UnreachableError):
                await perdure.control(wiki).snapshot()

    with Served(tmp_path) as server:
        asyncio.run(main(server))


def test_cancelling_stops_the_waiting_and_not_the_command(served: Served) -> None:
    async def main() -> None:
        async with perdure.connect_async(Wiki, served.url, token=BOTH) as wiki:
            before = await perdure.control(wiki).seq()
            task = asyncio.create_task(wiki.crawl(0.5))
            while b"perdure_calls_running 1.0" not in (await asyncio.to_thread(served.request, "GET", "/metrics")).body:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while await perdure.control(wiki).seq() == before:
                await asyncio.sleep(0.02)
            assert await wiki.count("after") == 1

    asyncio.run(main())
