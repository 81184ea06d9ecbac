"""``@persisted`` and ``PersistedWork``: the three levels, what a failure leaves behind, and bad files."""

from __future__ import annotations

import copy
import dataclasses
import errno
import gc
import os
import pickle
import re
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path
from typing import Any

import pytest

from perdure.codecs import Json
from perdure.errors import CodecError, CorruptError, MissingError, PersistableError, StorageError, WriteError
from perdure.memo import PersistedWork, persisted
from perdure.testing import FaultyFs

SEED_EXAMPLE = """
from pathlib import Path
from perdure import PersistableContainer, PersistedWork, persisted
class SomeClass(PersistableContainer):
    def __init__(self, n):
        self.n = n
        self._counter = PersistedWork(Path('counter.dat'), self, mkdir=True)
    @property
    @persisted('_counter')
    def count(self):
        print('returning count value')
        return self.n * 2
    @property
    @persisted('_notsaved')
    def notsaved(self):
        print('returning unsaved value')
        return self.n * 3

inst = SomeClass(5)
print(sorted(map(str, Path('.').iterdir())))
print(inst.count)
print(sorted(map(str, Path('.').iterdir())))
print(inst.count)
print(inst.notsaved)
print(inst.notsaved)
inst = SomeClass(10)
print(inst.count)
print(inst.notsaved)
"""


class Counted:
    """Every call of ``compute`` counts."""

    def __init__(self, result: object = None) -> None:
        self.calls = 0
        self.result = result

    @persisted("_kept")
    def value(self) -> object:
        """A value."""
        self.calls += 1
        return self.result


def in_file(path: Path, **settings: Any) -> type:
    class InFile:
        calls = 0
        result: object = "computed"

        @property
        @persisted("_kept", path=path, **settings)
        def value(self) -> object:
            type(self).calls += 1
            if isinstance(self.result, Exception):
                raise self.result
            return self.result

    return InFile


# --- documented behaviour ---


def test_the_documented_example_runs_with_only_the_import_changed(tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(SEED_EXAMPLE)
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == textwrap.dedent("""\
        ['example.py']
        returning count value
        10
        ['counter.dat', 'example.py']
        10
        returning unsaved value
        15
        15
        10
        returning unsaved value
        30
        """)


def test_the_result_is_computed_once_per_instance() -> None:
    one, two = Counted(1), Counted(2)
    assert (one.value(), one.value(), two.value()) == (1, 1, 2)
    assert one.calls == two.calls == 1


def test_none_is_a_result() -> None:
    owner = Counted(None)
    assert owner.value() is None
    assert owner.value() is None
    assert owner.calls == 1


def test_a_stored_none_is_a_result(tmp_path: Path) -> None:
    kind = in_file(tmp_path / "none.dat")
    kind.result = None
    assert kind().value is None
    assert kind().value is None
    assert kind.calls == 1


def test_a_decorated_function_keeps_name_and_doc() -> None:
    assert Counted.value.__name__ == "value"
    assert Counted.value.__doc__ == "A value."
    assert Counted.value.__qualname__ == "Counted.value"


def test_the_file_outlives_the_instance_and_serves_the_next(tmp_path: Path) -> None:
    kind = in_file(tmp_path / "r.dat")
    assert kind().value == "computed"
    kind.result = "other"
    assert kind().value == "computed"
    assert kind.calls == 1
    assert (tmp_path / "r.dat").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["r.dat"]


def test_global_results_are_shared_by_instances_but_not_by_classes() -> None:
    class Base:
        calls = 0

        @persisted("_shared", cache_global=True)
        def value(self) -> list[int]:
            type(self).calls += 1
            return [1]

    class Derived(Base):
        calls = 0

    assert Base().value() is Base().value()
    assert Derived().value() is not Base().value()
    assert (Base.calls, Derived.calls) == (1, 1)
    instance = Base()
    kept = instance.value()
    instance._shared.clear_global()  # type: ignore[attr-defined]
    assert instance.value() is kept
    assert Base().value() is not kept


def test_set_is_set_clear(tmp_path: Path) -> None:
    kind = in_file(tmp_path / "r.dat")
    instance = kind()
    assert instance.value == "computed"
    assert instance._kept.is_set()
    instance._kept.set("by hand")
    assert instance.value == "by hand"
    assert kind().value == "computed"
    instance._kept.clear()
    assert not instance._kept.is_set()
    assert not (tmp_path / "r.dat").exists()
    assert instance.value == "computed"
    assert kind.calls == 2


def test_an_initial_value_is_there_from_the_start() -> None:
    class Owner:
        def __init__(self) -> None:
            self._kept = PersistedWork("kept", self, initial_value=9)

        @persisted("_kept")
        def value(self) -> int:
            raise AssertionError

    assert Owner().value() == 9


def test_a_work_can_be_called_itself() -> None:
    owner = Counted(4)
    owner._kept = PersistedWork("kept", owner)  # type: ignore[attr-defined]
    assert owner._kept() == 4  # type: ignore[attr-defined]
    assert owner.value() == 4
    assert owner.calls == 1

    work = PersistedWork("free", owner)
    work.worker = lambda: 7
    assert work() == 7
    with pytest.raises(PersistableError, match="nothing computes 'lonely'"):
        PersistedWork("lonely", owner)()


def test_a_subclass_may_do_the_work() -> None:
    class Seven(PersistedWork):
        def __do_work__(self, *args: object, **kwargs: object) -> int:
            return 7

    owner = Counted()
    assert Seven("seven", owner)() == 7


def test_arguments_of_the_first_call_reach_the_function() -> None:
    class Owner:
        @persisted("_kept")
        def value(self, x: int, *, y: int = 0) -> tuple[int, int]:
            return x, y

    owner = Owner()
    assert owner.value(1, y=2) == (1, 2)
    assert owner.value(3) == (1, 2)


# --- declared wrongly ---


def test_wrong_declarations_are_refused_at_once() -> None:
    with pytest.raises(PersistableError, match="would hide"):

        class Hidden:
            @persisted("value")
            def value(self) -> None: ...

    with pytest.raises(PersistableError, match="only once"):

        class Yields:
            @persisted("_value")
            def value(self) -> Any:
                yield 1

    with pytest.raises(PersistableError, match="only once"):

        class Awaits:
            @persisted("_value")
            async def value(self) -> None: ...

    with pytest.raises(PersistableError, match="no function"):
        persisted("_value")(property(lambda self: 1))  # type: ignore[arg-type]


def test_an_attribute_that_is_something_else_is_named() -> None:
    owner = Counted()
    owner._kept = 5  # type: ignore[attr-defined]
    with pytest.raises(PersistableError, match=r"Counted\._kept holds a int"):
        owner.value()


def test_a_result_that_needs_itself_is_an_error_and_no_deadlock() -> None:
    class Owner:
        @property
        @persisted("_a")
        def a(self) -> int:
            return self.b

        @property
        @persisted("_b")
        def b(self) -> int:
            return self.a

        @property
        @persisted("_fine")
        def fine(self) -> int:
            return 1

        @property
        @persisted("_user")
        def user(self) -> int:
            return self.fine + 1

    owner = Owner()
    with pytest.raises(PersistableError, match=r"Owner\._a needs itself"):
        owner.a
    assert owner.user == 2


# --- kinds of owners ---


def test_slots_frozen_dataclasses_and_delegating_owners() -> None:
    class Slotted:
        __slots__ = ("_kept",)

        @persisted("_kept")
        def value(self) -> list[int]:
            return [1]

    class NoRoom:
        __slots__ = ()

        @persisted("_kept")
        def value(self) -> int:
            return 1

    @dataclasses.dataclass(frozen=True)
    class Frozen:
        n: int

        @persisted("_kept")
        def value(self) -> int:
            return self.n

    class Delegating:
        def __init__(self, to: object) -> None:
            self.to = to

        def __getattr__(self, name: str) -> object:
            return getattr(self.to, name)

        @persisted("_kept")
        def value(self) -> str:
            return "own"

    slotted = Slotted()
    assert slotted.value() is slotted.value()
    with pytest.raises(PersistableError, match="no room"):
        NoRoom().value()
    assert Frozen(3).value() == 3
    counted = Counted("other")
    counted.value()
    assert Delegating(counted).value() == "own"


def test_a_copied_owner_has_the_result_and_its_own_future() -> None:
    owner = Counted("x")
    owner.value()
    twin = copy.copy(owner)
    assert twin.value() == "x"
    twin._kept.clear()  # type: ignore[attr-defined]
    assert owner._kept.is_set()  # type: ignore[attr-defined]
    assert twin.value() == "x"
    assert (owner.calls, twin.calls) == (1, 2)


def test_a_plain_owner_can_be_pickled_with_its_result() -> None:
    owner = Counted("x")
    owner.value()
    # Written by this test a moment ago.
    back = pickle.loads(pickle.dumps(owner))
    assert back.value() == "x"
    assert back.calls == 1


def test_an_owner_goes_without_the_collector() -> None:
    owner = Counted(1)
    owner.value()
    seen = weakref.ref(owner)
    gc.disable()
    try:
        del owner
        assert seen() is None
    finally:
        gc.enable()


# --- what a failure leaves behind ---


def test_a_raising_worker_leaves_nothing_behind(tmp_path: Path) -> None:
    kind = in_file(tmp_path / "r.dat")
    kind.result = ValueError("no")
    instance = kind()
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            instance.value
    assert os.listdir(tmp_path) == []
    kind.result = "yes"
    assert instance.value == "yes"
    assert kind.calls == 3


def test_a_missing_directory_is_named_before_anything_is_computed(tmp_path: Path) -> None:
    kind = in_file(tmp_path / "no" / "r.dat")
    with pytest.raises(MissingError, match="mkdir=True") as caught:
        kind().value
    assert caught.value.path == str(tmp_path / "no")
    assert kind.calls == 0
    made = in_file(tmp_path / "yes" / "deep" / "r.dat", mkdir=True)
    assert made().value == "computed"
    assert (tmp_path / "yes").stat().st_mode & 0o777 == 0o700


def test_what_a_killed_writer_left_goes_with_the_next_result(tmp_path: Path) -> None:
    own, other = tmp_path / f"r.dat.tmp-{'a' * 16}", tmp_path / f"other.dat.tmp-{'b' * 16}"
    foreign = tmp_path / "r.dat.tmp-mine"
    for path in (own, other, foreign):
        path.touch()
    assert in_file(tmp_path / "r.dat")().value == "computed"
    assert [path.exists() for path in (own, other, foreign)] == [False, True, True]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_where_nothing_can_be_saved_nothing_is_computed(tmp_path: Path, code: int) -> None:
    fs = FaultyFs(fail_at=2, of=["open"], mode="sticky", error=code)  # the first open looks for the file
    kind = in_file(tmp_path / "r.dat", fs=fs)
    with pytest.raises(WriteError, match="not computed"):
        kind().value
    assert kind.calls == 0
    assert not fs.open_fds


def test_a_full_disk_costs_no_second_computation(tmp_path: Path) -> None:
    fs = FaultyFs(fail_at=1, of=["write"], mode="full", error=errno.ENOSPC)
    kind = in_file(tmp_path / "r.dat", fs=fs)
    instance = kind()
    for _ in range(2):
        with pytest.raises(WriteError, match="cannot be saved") as caught:
            instance.value
        assert caught.value.path == str(tmp_path / "r.dat")
        fs.fail_at, fs.fired = 1, None  # full again, once the lock file is there
        fs.make_room()
        assert not (tmp_path / "r.dat").exists()
    fs.heal()
    assert instance.value == "computed"
    assert kind.calls == 1
    assert in_file(tmp_path / "r.dat")().value == "computed"
    assert os.listdir(tmp_path) == ["r.dat"]


def test_a_file_system_without_locks_still_serves(tmp_path: Path) -> None:
    fs = FaultyFs(fail_at=1, of=["lock"], mode="sticky", error=errno.ENOLCK)
    assert in_file(tmp_path / "r.dat", fs=fs)().value == "computed"
    assert not fs.open_fds


def test_what_cannot_be_stored_is_refused_with_the_file_named(tmp_path: Path) -> None:
    kind = in_file(tmp_path / "r.dat")
    kind.result = lambda: None
    with pytest.raises(CodecError, match=r"r\.dat"):
        kind().value
    assert os.listdir(tmp_path) == []


# --- bad files ---


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch hacked",)


@pytest.mark.parametrize("keep", ["half", "one flipped bit", "empty", "text"])
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, keep: str) -> None:
    path = tmp_path / "r.dat"
    in_file(path)().value
    whole = path.read_bytes()
    damaged = {
        "half": whole[: len(whole) // 2],
        "one flipped bit": whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:],
        "empty": b"",
        "text": b"hello",
    }[keep]
    path.write_bytes(damaged)
    kind = in_file(path)
    with pytest.raises(CorruptError, match=re.escape(str(path))):
        kind().value
    assert kind.calls == 0
    assert path.read_bytes() == damaged


def test_an_empty_file_counts_as_absent_where_asked(tmp_path: Path) -> None:
    path = tmp_path / "r.dat"
    path.touch()
    assert in_file(path, recover_empty=True)().value == "computed"
    assert in_file(path)().value == "computed"


def test_a_hostile_pickle_is_refused_without_running_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "r.dat"
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(CodecError, match=r"r\.dat") as caught:
        in_file(path)().value
    assert caught.value.path == str(path)
    assert os.listdir(tmp_path) == ["r.dat"]


def test_a_bare_pickle_as_zensols_writes_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.dat"
    path.write_bytes(pickle.dumps({"a": [1, 2]}))
    assert in_file(path)().value == {"a": [1, 2]}


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(pickle.dumps(1))
    (tmp_path / "r.dat").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match=r"r\.dat"):
        in_file(tmp_path / "r.dat")().value


def test_another_codec_writes_what_it_says(tmp_path: Path) -> None:
    kind = in_file(tmp_path / "r.json", codec=Json())
    kind.result = {"a": [1]}
    assert kind().value == {"a": [1]}
    assert b'{"a":[1]}' in (tmp_path / "r.json").read_bytes()
    assert kind().value == {"a": [1]}
    assert kind.calls == 1
