"""Stashes on real servers: the contract, many processes, and servers that go away and come back."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import pytest

from perdure.errors import (
    CodecError,
    OutcomeUnknownError,
    RejectedError,
    RemoteError,
    UnauthorizedError,
    UnreachableError,
    UsageError,
)
from perdure.fill import fill
from perdure.stash import CacheStash, FsspecStash, MultiProcessStash, ReadOnlyStash, RedisStash, SqlStash, Stash
from perdure.testing._stash_contract import NAMES, StashContract
from tests.integration._servers import (
    BUCKET,
    Server,
    free_port,
    make_bucket,
    postgres_server,
    redis_server,
    s3_options,
    s3_server,
)

pytestmark = [
    pytest.mark.leaky("clients keep pools and event loops for the whole process"),
    # botocore still asks for the time in UTC in the old way.
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]
logging.getLogger("botocore").setLevel(logging.WARNING)


def redis_stash(url: str, name: str = "") -> RedisStash:
    return RedisStash(url, name or secrets.token_hex(6))


def sql_stash(url: str, name: str = "") -> SqlStash:
    return SqlStash(url, f"t{name or secrets.token_hex(6)}")


def s3_stash(url: str, name: str = "") -> FsspecStash:
    return FsspecStash(f"s3://{BUCKET}/{name or secrets.token_hex(6)}", options=s3_options(url))


class TestRedisStash(StashContract):
    @pytest.fixture
    def stash(self, redis_shared: Any) -> Iterator[Stash]:
        with redis_stash(redis_shared.url) as stash:
            yield stash


class TestSqlStashOnPostgres(StashContract):
    @pytest.fixture
    def stash(self, postgres_shared: Any) -> Iterator[Stash]:
        with sql_stash(postgres_shared.url) as stash:
            yield stash


class TestFsspecStashOnS3(StashContract):
    names: ClassVar[list[str]] = NAMES

    @pytest.fixture
    def stash(self, s3_shared: Any) -> Stash:
        return s3_stash(s3_shared.url)


KINDS: dict[str, tuple[Any, Any]] = {
    "redis": (redis_server, redis_stash),
    "pg": (postgres_server, sql_stash),
    "s3": (s3_server, s3_stash),
}


@pytest.fixture(params=KINDS)
def shared(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """The address of a shared server, and how to make a stash on it."""
    fixture = {"redis": "redis_shared", "pg": "postgres_shared", "s3": "s3_shared"}[request.param]
    return request.getfixturevalue(fixture).url, KINDS[request.param][1]


@pytest.fixture(params=KINDS)
def own(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """A server that the test may kill, and how to make a stash on it."""
    start, make = KINDS[request.param]
    with start() as server:
        yield server, make


@pytest.fixture
def keep() -> Iterator[Callable[[Any], Any]]:
    """Closes at the end what it was called with."""
    with ExitStack() as stack:
        yield stack.enter_context


# ---- many processes --------------------------------------------------------------------------------------------------


def put_once(make: Any, url: str, name: str, number: int) -> bool:
    with make(url, name) as stash:
        return bool(stash.put_if_absent("once", number))


def test_one_of_many_processes_puts_an_absent_item(shared: tuple[str, Any], keep: Callable[[Any], Any]) -> None:
    url, make = shared
    name = secrets.token_hex(6)
    with ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as processes:
        won = list(processes.map(put_once, [make] * 9, [url] * 9, [name] * 9, range(9)))
    assert won.count(True) == 1
    assert keep(make(url, name))["once"] == won.index(True)


class Cubes(ReadOnlyStash):
    def load(self, name: str) -> Any:
        return int(name) ** 3

    def keys(self) -> Iterator[str]:
        return map(str, range(30))


def test_workers_store_what_they_make(
    shared: tuple[str, Any], monkeypatch: pytest.MonkeyPatch, keep: Callable[[Any], Any]
) -> None:
    url, make = shared
    old = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        below = keep(make(url))
        stash = MultiProcessStash(below, Cubes(), workers=2)
        monkeypatch.setattr(type(below), "dump", lambda *_: pytest.fail("the caller stored it"))
        assert dict(stash) == {str(number): number**3 for number in range(30)}
        assert below.fill_mark()
    finally:
        multiprocessing.set_start_method(old, force=True)


def read_in_child(stash: Stash, name: str, queue: Any) -> None:
    queue.put(stash.get(name))


def test_a_forked_child_makes_a_connection_of_its_own(shared: tuple[str, Any], keep: Callable[[Any], Any]) -> None:
    url, make = shared
    stash = keep(make(url))
    stash.dump("a", 1)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=read_in_child, args=(stash, "a", queue))
    child.start()
    assert queue.get(timeout=20) == 1
    child.join()
    assert stash["a"] == 1


def test_hostile_bytes_are_refused(shared: tuple[str, Any], keep: Callable[[Any], Any]) -> None:
    url, make = shared
    name = secrets.token_hex(6)
    evil = pickle.dumps(Path.cwd)

    class Bare:
        name = "pickle"

        def encode(self, value: object) -> bytes:
            return evil

        def decode(self, data: Any) -> Any: ...

        def dump(self, value: object, file: Any) -> None: ...

        def load(self, file: Any) -> Any: ...

    writer = keep(make(url, name))
    writer.codec = Bare()
    writer.dump("a", 1)
    with pytest.raises(CodecError):
        keep(make(url, name))["a"]


def test_a_cache_in_front_sees_changes_where_the_store_can_tell(s3_shared: Any, keep: Callable[[Any], Any]) -> None:
    name = secrets.token_hex(6)
    stash = CacheStash(keep(s3_stash(s3_shared.url, name)))
    other = keep(s3_stash(s3_shared.url, name))
    other.dump("a", 1)
    assert stash["a"] == 1
    assert stash["a"] == 1
    other.dump("a", 2)
    assert stash["a"] == 2


# ---- servers that go away --------------------------------------------------------------------------------------------


def once_it_is_back(call: Callable[[], Any]) -> Any:
    """A server that accepts connections may still be reading its log."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return call()
        except RemoteError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_a_server_that_goes_away_is_a_named_error_and_nothing_acknowledged_is_lost(
    own: tuple[Server, Any], keep: Callable[[Any], Any]
) -> None:
    server, make = own
    name = secrets.token_hex(6)
    stash = keep(make(server.url, name))
    stash.set_many({str(number): number for number in range(20)})
    stash.dump("last", "acknowledged")
    server.kill()
    for call in (lambda: stash.load("3"), lambda: list(stash.keys()), lambda: stash.exists("3")):
        with pytest.raises(UnreachableError) as caught:
            call()
        assert "is the server running" in str(caught.value)
    with pytest.raises((UnreachableError, OutcomeUnknownError)):
        stash.dump("a", 1)
    with pytest.raises((UnreachableError, OutcomeUnknownError)):
        fill(stash, ["x"], int, executor=None, workers=1)
    server.start()
    if make is s3_stash:
        # The mock keeps everything in memory.
        make_bucket(server.url)
        once_it_is_back(lambda: stash.dump("last", "acknowledged"))
    assert once_it_is_back(lambda: stash["last"]) == "acknowledged"
    stash.dump("a", 2)
    assert stash["a"] == 2
    if make is not s3_stash:
        assert len(stash) == 22


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_was_never_there_is_a_named_error(kind: str) -> None:
    pytest.importorskip({"redis": "redis", "pg": "psycopg", "s3": "s3fs"}[kind])
    if kind == "pg":
        pytest.importorskip("sqlalchemy")
    scheme = {"redis": "redis://", "pg": "postgresql+psycopg://", "s3": "http://"}[kind]
    stash = KINDS[kind][1](f"{scheme}127.0.0.1:{free_port()}{'/0' if kind == 'redis' else ''}")
    with pytest.raises(UnreachableError):
        stash.load("a")
    with pytest.raises((UnreachableError, OutcomeUnknownError)):
        stash.dump("a", 1)


def test_passwords_stay_out_of_messages_and_reprs() -> None:
    pytest.importorskip("redis")
    stash = RedisStash(f"redis://me:geheim@127.0.0.1:{free_port()}/0", timeout_s=0.5)
    assert "geheim" not in repr(stash)
    with pytest.raises(UnreachableError) as caught:
        stash.load("a")
    assert "geheim" not in str(caught.value)


def test_a_wrong_password_is_a_named_error(keep: Callable[[Any], Any]) -> None:
    with redis_server() as server:
        if not isinstance(server, Server):
            pytest.skip("this server is not ours to set a password on")
        admin = keep(redis_stash(server.url))
        admin._connection.config_set("requirepass", "right")
        with pytest.raises(UnauthorizedError, match="other credentials"):
            keep(RedisStash(server.url.replace("redis://", "redis://:wrong@"))).load("a")
        with pytest.raises((UnauthorizedError, RejectedError)):
            keep(RedisStash(server.url)).dump("a", 1)
        assert keep(RedisStash(server.url.replace("redis://", "redis://:right@"))).get("a", 7) == 7


def test_a_missing_bucket_is_not_made(s3_shared: Any) -> None:
    stash = FsspecStash("s3://no-such-bucket/x", options=s3_options(s3_shared.url))
    with pytest.raises(RejectedError, match="refused"):
        stash.dump("a", 1)
    assert stash.get("a", 7) == 7


def test_a_library_that_is_not_installed_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(UsageError, match="redis is not installed") as caught:
        RedisStash("redis://127.0.0.1").load("a")
    assert "pip install 'perdure[redis]'" in str(caught.value)
    for table in ("x; drop table y", "X", "", "1a", 'a"b'):
        with pytest.raises(UsageError):
            SqlStash("sqlite://", table)


def test_the_page_on_s3_runs(s3_shared: Any, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "shared-store-on-s3.md").read_text("utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    plain = 'FsspecStash("s3://team-results/features-v3")'
    assert plain in code
    ours = f'FsspecStash("s3://{BUCKET}/{secrets.token_hex(6)}", options={s3_options(s3_shared.url)!r})'
    (tmp_path / "page.py").write_text(code.replace(plain, ours), "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
