"""Giving back what a result holds: objects that are told when they are no longer needed.

Memory on a graphics card, connections and caches should go when their user is done, not when the collector comes by.
``Deallocatable`` is the base class of what can be told so, ``dealloc`` tells it at the end of a block, and ``resource``
hands a method something that was made for this one call.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import sys
import traceback
from abc import ABC
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, ClassVar, Concatenate, Generic, NamedTuple, ParamSpec, Self, TypeVar

from perdure.errors import PersistableError

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
S = TypeVar("S")

_recursive: contextvars.ContextVar[bool] = contextvars.ContextVar("perdure_dealloc_recursive", default=False)


class _Allocation(NamedTuple):
    instance: Deallocatable
    stack: str


class Deallocatable(ABC):  # noqa: B024 - there is nothing that a subclass must do
    """An object with something to give back. Subclasses extend ``deallocate``, and call ``super().__init__()``.

    While ``Deallocatable.ALLOCATION_TRACKING`` is true, every instance that is made is held, with the place where that
    was, until it is deallocated: that is how those are found that nobody deallocates.
    """

    ALLOCATION_TRACKING: ClassVar[bool] = False
    PRINT_TRACE: ClassVar[bool] = False
    _ALLOCATIONS: ClassVar[dict[int, _Allocation]] = {}

    def __init__(self) -> None:
        super().__init__()
        self._track_allocation()

    def _track_allocation(self) -> None:
        if Deallocatable.ALLOCATION_TRACKING:
            stack = "".join(traceback.format_stack(sys._getframe(2)))
            Deallocatable._ALLOCATIONS[id(self)] = _Allocation(self, stack)

    def deallocate(self) -> None:
        """Give back what this instance holds. May be called more than once."""
        self._mark_deallocated()

    def _mark_deallocated(self, obj: object = None) -> None:
        """Report ``obj`` (by default this instance) no longer, whether or not it was deallocated."""
        Deallocatable._ALLOCATIONS.pop(id(self if obj is None else obj), None)

    @staticmethod
    def _try_deallocate(obj: object, recursive: bool = False) -> bool:
        """Deallocate ``obj`` if it can be; with ``recursive``, also the members of lists, tuples, sets and dicts.

        Returns whether anything was deallocated.
        """
        return _deallocate_graph(obj, recursive or _recursive.get(), set())

    def _deallocate_attribute(self, attrib: str) -> bool:
        """Deallocate an attribute of this instance and remove it. Returns whether there was something to do."""
        found: object = vars(self).get(attrib)
        done = self._try_deallocate(found)
        if done:
            object.__delattr__(self, attrib)
        return done

    def _deallocate_attributes(self, attribs: Iterable[str]) -> int:
        """``_deallocate_attribute`` for each. Returns for how many there was something to do."""
        return sum(self._deallocate_attribute(attrib) for attrib in attribs)

    @classmethod
    def undeallocated(cls) -> list[Deallocatable]:
        """The tracked instances of this class that have not been deallocated, oldest first."""
        return [found.instance for found in list(cls._ALLOCATIONS.values()) if isinstance(found.instance, cls)]

    @classmethod
    def _num_deallocations(cls) -> int:
        """How many tracked instances have not been deallocated."""
        return len(cls._ALLOCATIONS)

    @classmethod
    def _print_undeallocated(cls, include_stack: bool = False, only_counts: bool = False, fail: bool = False) -> None:
        """Write to standard output what has not been deallocated: one line each, or one per class with its count.

        ``include_stack``: with the place where each was made.

        Raises:
            PersistableError: with ``fail``, if there is any.
        """
        found = [found for found in list(cls._ALLOCATIONS.values()) if isinstance(found.instance, cls)]
        if only_counts:
            counts = Counter(_class_name(type(each.instance)) for each in found)
            lines = [f"{name}: {count}\n" for name, count in sorted(counts.items())]
        else:
            with_stack = include_stack or cls.PRINT_TRACE
            lines = [each.instance._deallocate_str() + "\n" + (each.stack if with_stack else "") for each in found]
        sys.stdout.write("".join(lines))
        if fail and found:
            raise PersistableError(f"{len(found)} objects have not been deallocated")

    print_undeallocated = _print_undeallocated

    @classmethod
    def _deallocate_all(cls) -> None:
        """Deallocate everything that is tracked and has not been, and track it no longer."""
        while cls._ALLOCATIONS:
            for found in list(cls._ALLOCATIONS.values()):
                cls._ALLOCATIONS.pop(id(found.instance), None)
                found.instance.deallocate()

    @classmethod
    def assert_dealloc(cls) -> None:
        """Raise ``PersistableError`` if anything that is tracked has not been deallocated."""
        left = cls.undeallocated()
        if left:
            names = ", ".join(each._deallocate_str() for each in left[:10])
            raise PersistableError(f"{len(left)} objects have not been deallocated: {names}")

    def _deallocate_str(self) -> str:
        """How this instance is called in such reports. Not its ``repr``, which may compute something."""
        return f"{_class_name(type(self))} at {id(self):#x}"


def _class_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _deallocate_graph(obj: object, recursive: bool, seen: set[int]) -> bool:
    if isinstance(obj, Deallocatable):
        obj.deallocate()
        return True
    if not recursive or id(obj) in seen:
        return False
    seen.add(id(obj))
    members: Iterable[object]
    if isinstance(obj, Mapping):
        members = list(obj.values())
    elif isinstance(obj, list | tuple | set | frozenset):
        members = list(obj)
    else:
        return False
    # All of them, where any() over a generator would stop at the first.
    return sum(_deallocate_graph(member, recursive, seen) for member in members) > 0


class dealloc(Generic[T]):  # noqa: N801 - reads as a verb
    """Deallocates an object at the end of a block, also when the block raises::

        with dealloc(lambda: Corpus("some/path")) as corpus:
            return corpus.words()

    ``inst``: a ``Deallocatable``, or a callable that makes one. ``track``: track allocations meanwhile (what a callable
    makes included) and write what was not deallocated to standard output, with stacks if ``include_stack``.

    Raises:
        PersistableError: there is nothing that could be deallocated. Nothing happened.
    """

    def __init__(self, inst: T | Callable[[], T], track: bool = False, include_stack: bool = False) -> None:
        if not isinstance(inst, Deallocatable) and not callable(inst):
            raise PersistableError(
                f"{_class_name(type(inst))} cannot be deallocated",
                hint="its class has to extend Deallocatable; or give a function that makes such an object",
            )
        self._given = inst
        self._track = track
        self._include_stack = include_stack
        self._tracked_before = False
        self._instance: object = None

    def __enter__(self) -> T:
        self._tracked_before = Deallocatable.ALLOCATION_TRACKING
        if self._track:
            Deallocatable.ALLOCATION_TRACKING = True
        try:
            made: Any = self._given if isinstance(self._given, Deallocatable) else self._given()  # type: ignore[operator]
        except BaseException:
            Deallocatable.ALLOCATION_TRACKING = self._tracked_before
            raise
        self._instance = made
        result: T = made
        return result

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            Deallocatable._try_deallocate(self._instance)
            if self._track:
                Deallocatable._print_undeallocated(self._include_stack)
        finally:
            self._instance = None
            Deallocatable.ALLOCATION_TRACKING = self._tracked_before


class dealloc_recursive:  # noqa: N801 - reads as a verb
    """Within the block, in this thread or task, whatever is deallocated takes the members of its containers along."""

    def __init__(self) -> None:
        self._token: contextvars.Token[bool] | None = None

    def __enter__(self) -> Self:
        self._token = _recursive.set(True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _recursive.reset(self._token)
            self._token = None


class resource:  # noqa: N801 - a decorator
    """Hands a method something that was made for this one call, and takes it back afterwards, also when it raises::

        class CrudManager:
            def _create_connection(self):
                return sqlite3.connect(":memory:")

            def _dispose_connection(self, conn):
                conn.close()

            @resource("_create_connection", "_dispose_connection")
            def commit_work(self, conn, obj):
                conn.execute(...)

        CrudManager().commit_work(obj)

    Any thread may call: each call has its own.
    """

    def __init__(self, create_method_name: str, destroy_method_name: str) -> None:
        self._create = create_method_name
        self._destroy = destroy_method_name

    def __call__(self, fn: Callable[Concatenate[S, Any, P], R]) -> Callable[Concatenate[S, P], R]:
        @functools.wraps(fn)
        def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            with made(self) as resource_made:
                return fn(self, resource_made, *args, **kwargs)

        @contextlib.contextmanager
        def made(owner: S) -> Iterator[Any]:
            resource_made = getattr(owner, self._create)()
            try:
                yield resource_made
            finally:
                getattr(owner, self._destroy)(resource_made)

        return wrapper
