"""``@memo``: what is the same call, what is stored, what comes back."""

from __future__ import annotations

import dataclasses
import inspect
import os
import pickle
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.codecs import Pickle
from perdure.errors import CodecError, PersistableError, StorageError, UsageError
from perdure.memo import MISSING, MemoWarning, memo, persisted

calls: list[object] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


@dataclasses.dataclass
class Point:
    x: int
    y: list[int]


class Error(Exception):
    pass


def again(function: Any, where: Path, **settings: Any) -> Any:
    """The same function in, as it were, another process: nothing is in memory."""
    return memo(where, **settings)(function.__wrapped__)


def make(where: Path, result: Any = None, **settings: Any) -> Any:
    @memo(where, **settings)
    def f(*args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs))
        return result() if callable(result) else (args, kwargs) if result is None else result

    return f


# --- the same call ---


def test_equal_calls_are_one_however_they_are_written(tmp_path: Path) -> None:
    @memo(tmp_path)
    def f(a: int, b: int = 2, *, c: int = 3) -> int:
        calls.append(a)
        return a + b + c

    assert [f(1), f(a=1), f(1, 2), f(b=2, a=1), f(1, c=3)] == [6] * 5
    assert calls == [1]
    assert f.key(1) == f.key(a=1, b=2)
    assert len(f.key(1)) == 40


@pytest.mark.parametrize(
    "values",
    [
        (1, True, 1.0, "1", b"1", (1,), [1], None, complex(1)),
        (0.0, -0.0, 0, False, ""),
        ((1,), (True,), (1.0,)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1}),
        ({1, 2}, frozenset({1, 2}), {1}),
        (Point(1, [2]), Point(1, [3]), {"x": 1, "y": [2]}),
        ("ab", ("a", "b"), ["ab"], [["ab"]]),
    ],
    ids=repr,
)
def test_different_values_are_different_calls(tmp_path: Path, values: tuple[object, ...]) -> None:
    f = make(tmp_path)
    for _ in range(2):
        for value in values:
            got = f(value)[0][0]
            assert (type(got), repr(got)) == (type(value), repr(value))
    assert len(calls) == len(values)


@pytest.mark.parametrize(
    "value",
    [(1, "a"), {"k": [1, {2, 3}]}, Point(1, [2]), {"b", "a", "c"}, [[1], [1]], 10**5000, float("nan")],
    ids=type,
)
def test_keys_depend_on_content_alone(tmp_path: Path, value: object) -> None:
    f = make(tmp_path)
    shared = [1]
    # Written by this test a moment ago.
    assert f.key(value) == f.key(pickle.loads(pickle.dumps(value)))
    assert f.key([shared, shared]) == f.key([[1], [1]])


def test_decorators_without_their_arguments_say_what_they_need() -> None:
    bare: Any = memo
    with pytest.raises(UsageError, match="needs a directory"):
        bare(len)
    bare = persisted
    with pytest.raises(PersistableError, match="needs the name of an attribute"):
        bare(len)


def test_a_call_that_the_function_refuses_raises_its_type_error(tmp_path: Path) -> None:
    @memo(tmp_path)
    def f(a: int) -> int:
        return a

    with pytest.raises(TypeError):
        f()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        f(1, b=2)  # type: ignore[call-arg]


@pytest.mark.parametrize("value", [lambda: 0, threading.Lock(), open], ids=["lambda", "lock", "builtin"])
def test_arguments_without_content_need_a_key(tmp_path: Path, value: object) -> None:
    f = make(tmp_path, result=1)
    if value is open:
        assert f(value) == 1  # by name
        return
    with pytest.raises(CodecError, match="cannot be a key") as caught:
        f(value)
    assert "key=" in (caught.value.hint or "")
    assert make(tmp_path, result=1, key=lambda value: "fixed")(value) == 1


def test_an_argument_that_contains_itself_is_refused(tmp_path: Path) -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(CodecError, match="contain themselves"):
        make(tmp_path)(endless)


def test_a_key_function_decides_what_counts(tmp_path: Path) -> None:
    @memo(tmp_path, key=lambda path, verbose=False: path)
    def f(path: str, verbose: bool = False) -> str:
        calls.append(path)
        return path

    assert (f("a"), f("a", verbose=True), f("b")) == ("a", "a", "b")
    assert calls == ["a", "b"]


class Model:
    def __init__(self, n: int) -> None:
        self.n = n


def test_methods_count_by_class_or_where_asked_by_instance(tmp_path: Path) -> None:
    class ByClass(Model):
        def f(self, x: int) -> int:
            calls.append(x)
            return self.n * x

    by_class, by_instance, by_key = (
        memo(tmp_path / str(number), **settings)(_as_method(ByClass.f, f"Model.f{number}"))
        for number, settings in enumerate([{}, {"key": "instance"}, {"key": lambda self, x: (self.n, x)}])
    )
    for method in (by_class, by_instance, by_key):
        bound = method.__get__(Model(2))
        assert (bound(3), bound(3)) == (6, 6)
    assert by_class.__get__(Model(5))(3) == 6
    assert by_instance.__get__(Model(5))(3) == 15
    assert by_key.__get__(Model(5))(3) == 15
    assert len(calls) == 5
    assert by_class.__get__(Model(1)).peek(3) == 6
    assert by_class.__get__(Model(1)).forget(3)
    assert by_class.__get__(Model(1)).peek(3) is MISSING
    assert by_class.__get__(Model(1)).key(3) == by_class.__get__(Model(9)).key(3)


def _as_method(function: Any, qualname: str) -> Any:
    """As if it stood in a class at the top of the module."""

    def method(self: Any, x: int) -> int:
        return function(self, x)

    method.__qualname__ = qualname
    return method


# --- what comes back ---


@pytest.mark.parametrize(
    "value", [None, 0, "text", (1, (2, frozenset({3}))), [1, [2]], {"a": {1}}, Point(1, [2])], ids=repr
)
def test_results_come_back_from_memory_and_from_disk(tmp_path: Path, value: object) -> None:
    f = make(tmp_path, result=lambda: value)
    assert [f(1), f(1), again(f, tmp_path)(1)] == [value] * 3
    assert len(calls) == 1


def test_no_caller_sees_what_another_did_to_its_result(tmp_path: Path) -> None:
    f = make(tmp_path, result=lambda: [1])
    for _ in range(4):
        got = f(1)
        assert got == [1]
        got.append(2)
    assert len(calls) == 1


def test_a_miss_returns_what_a_hit_returns(tmp_path: Path) -> None:
    f = make(tmp_path, result=lambda: (1, 2), codec="json", version=1)
    assert f(1) == f(1)
    assert again(f, tmp_path, codec="json", version=1)(1) == f(1)


def test_what_cannot_be_stored_is_returned_with_a_warning(tmp_path: Path) -> None:
    f = make(tmp_path, result=lambda: threading.Lock)
    with pytest.warns(MemoWarning, match="cannot be stored"):
        assert f(1) is threading.Lock
    with pytest.warns(MemoWarning):
        f(1)
    assert len(calls) == 2


def test_exceptions_are_results_only_where_asked(tmp_path: Path) -> None:
    def fail() -> None:
        raise Error("broken", len(calls))

    plain = make(tmp_path / "plain", result=fail)
    for _ in range(2):
        with pytest.raises(Error):
            plain(1)
    assert len(calls) == 2
    for exceptions in (True, Error, (ValueError, Error)):
        calls.clear()
        kept = make(tmp_path / repr(exceptions), result=fail, exceptions=exceptions, allow=[Error])
        for ask in (kept, kept, again(kept, tmp_path / repr(exceptions), exceptions=exceptions, allow=[Error])):
            with pytest.raises(Error, match="broken") as caught:
                ask(1)
            assert caught.value.args == ("broken", 1)
        assert len(calls) == 1
    other = make(tmp_path / "other", result=fail, exceptions=ValueError)
    with pytest.raises(Error):
        other(1)
    assert other.info().entries == 0


def test_a_result_that_needs_itself_is_an_error_and_no_deadlock(tmp_path: Path) -> None:
    @memo(tmp_path)
    def f(n: int) -> int:
        return f(n)

    with pytest.raises(PersistableError, match="needs itself"):
        f(1)

    @memo(tmp_path)
    def fib(n: int) -> int:
        calls.append(n)
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert fib(20) == 6765
    assert len(calls) == 21


# --- looking and forgetting ---


def test_peek_forget_clear_info(tmp_path: Path) -> None:
    f = make(tmp_path, result=lambda: 7)
    assert f.peek(1) is MISSING
    assert not f.forget(1)
    assert (f(1), f(2), f(1), f.peek(1)) == (7, 7, 7, 7)
    info = f.info()
    assert (info.hits, info.misses, info.entries) == (1, 2, 2)
    assert info.size_bytes > 0
    assert f.forget(1)
    assert f.peek(1) is MISSING
    f(1)
    assert len(calls) == 3
    f.clear()
    assert f.info().entries == 0
    assert (f(1), len(calls)) == (7, 4)
    assert f.__name__ == "f"
    assert inspect.signature(f).parameters.keys() == {"args", "kwargs"}


def test_what_another_process_forgets_is_noticed_within_a_second(tmp_path: Path) -> None:
    f = make(tmp_path, result=lambda: 7)
    other = again(f, tmp_path)
    assert (f(1), f(1), other(1)) == (7, 7, 7)
    assert other.forget(1)
    deadline = time.monotonic() + 10
    while len(calls) == 1 and time.monotonic() < deadline:
        f(1)
        time.sleep(0.05)
    assert len(calls) == 2


def test_functions_and_versions_do_not_meet(tmp_path: Path) -> None:
    def g(x: int) -> str:
        return "g"

    f = make(tmp_path, result=lambda: "f")
    assert (f(1), memo(tmp_path)(g)(1)) == ("f", "g")
    newer = again(f, tmp_path, version=2)
    newer(1)
    assert len(calls) == 2
    assert newer.key(1) != f.key(1)


def test_files_are_private_and_named_by_digests(tmp_path: Path) -> None:
    f = make(tmp_path / "cache")
    f("../../etc/passwd", "\0", "x" * 10_000)
    (folder,) = (tmp_path / "cache").iterdir()
    (entry,) = folder.iterdir()
    assert entry.name == f.key("../../etc/passwd", "\0", "x" * 10_000) + ".entry"
    assert len(folder.name) == 40
    assert folder.stat().st_mode & 0o777 == 0o700
    assert entry.stat().st_mode & 0o777 == 0o600


def test_a_directory_in_which_others_may_write_is_refused(tmp_path: Path) -> None:
    f = make(tmp_path)
    f(1)
    (folder,) = tmp_path.iterdir()
    folder.chmod(0o777)
    with pytest.raises(StorageError, match="others may write"):
        again(f, tmp_path)(1)
    assert len(calls) == 1


def test_wrong_declarations_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(PersistableError, match="only once"):

        @memo(tmp_path)
        def yields() -> Any:
            yield 1

    with pytest.raises(PersistableError, match="no function"):
        memo(tmp_path)(len)
    with pytest.raises(PersistableError, match="on_code_change"):
        memo(tmp_path, on_code_change="maybe")  # type: ignore[arg-type]


def test_a_memo_pickles_by_name() -> None:
    # Written by this test a moment ago.
    assert pickle.loads(pickle.dumps(at_top)) is at_top


@memo("unused")
def at_top() -> int:
    return 1


# --- age and size ---


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def time_ns(self) -> int:
        return int(self.now_s * 1e9)


def test_results_expire_also_in_memory(tmp_path: Path) -> None:
    clock = Clock()
    f = make(tmp_path, result=lambda: len(calls), expire_s=0.2, clock=clock)
    assert (f(1), f(1)) == (1, 1)
    clock.now_s += 0.3
    time.sleep(0.25)  # what is in memory is believed until it expires on the monotonic clock
    assert (f(1), f(1)) == (2, 2)
    clock.now_s += 0.3
    assert again(f, tmp_path, expire_s=0.2, clock=clock)(1) == 3
    assert again(f, tmp_path, clock=clock)(1) == 3, "without expire_s age does not count"


def test_results_from_the_future_are_expired(tmp_path: Path) -> None:
    clock = Clock()
    f = make(tmp_path, result=lambda: len(calls), expire_s=10, clock=clock)
    assert f(1) == 1
    clock.now_s -= 100_000
    later = again(f, tmp_path, expire_s=10, clock=clock)
    assert (later(1), later(1)) == (2, 2)


def test_the_size_is_bounded_and_the_least_recently_used_go_first(tmp_path: Path) -> None:
    f = make(tmp_path, result=lambda: b"x" * 10_000, size_bytes_max=100_000)
    for number in range(9):
        f(number)
        os.utime(f"{f.info().directory}/{f.key(number)}.entry", (number, number))
    used = again(f, tmp_path, size_bytes_max=100_000)
    used(0)  # read from disk: now the youngest
    used(100), used(101)
    assert used.info().size_bytes <= 100_000
    assert used.peek(0) is not MISSING
    assert used.peek(1) is MISSING
    assert used.peek(101) is not MISSING


# --- other codecs and numbers of threads ---


def test_a_result_of_another_codec_is_a_miss(tmp_path: Path) -> None:
    f = make(tmp_path, result=lambda: [1], codec="json")
    f(1)
    assert again(f, tmp_path)(1) == [1]
    assert len(calls) == 2


def test_classes_of_elsewhere_are_allowed_by_name_or_by_word(tmp_path: Path) -> None:
    f = make(tmp_path, result=lambda: inspect.signature(len), codec=Pickle(unrestricted=True))
    assert f(1) == f(1)
    assert len(calls) == 1


def test_threads_share_one_computation(tmp_path: Path) -> None:
    def slow() -> int:
        time.sleep(0.05)
        return 5

    f = make(tmp_path, result=slow)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(f, [1, 2] * 8)) == [5] * 16
    assert len(calls) == 2


def test_the_package_and_the_decorator_share_a_name() -> None:
    names = set(sys.modules["perdure.memo"].__all__) - {"memo"}
    assert {
        name for name in names if getattr(perdure.memo, name) is getattr(sys.modules["perdure.memo"], name)
    } == names
