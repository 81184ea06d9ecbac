import asyncio
import functools
import inspect
import itertools

import pytest

from perdure.system._decorators import Marks, abort_exception, marks, readonly, unlocked

NAMES = {readonly: "readonly", unlocked: "unlocked", abort_exception: "abort_exception"}


@pytest.mark.parametrize("decorate", NAMES)
def test_the_same_function_comes_back_with_its_mark(decorate):
    def method(self):
        return 1

    assert decorate(method) is method
    assert marks(method) == Marks(**{NAMES[decorate]: True})


def test_plain_method_has_no_marks():
    assert marks(lambda self: None) == Marks(readonly=False, unlocked=False, abort_exception=False)


@pytest.mark.parametrize("order", list(itertools.permutations(NAMES)))
def test_marks_stack_in_any_order(order):
    def method(self): ...

    for decorate in order:
        decorate(method)
    assert marks(method) == Marks(True, True, True)


def test_property_is_marked_from_above_and_from_below():
    class Wiki:
        @readonly
        @property
        def above(self):
            return 1

        @property
        @unlocked
        def below(self):
            return 2

        @below.setter
        @abort_exception
        def below(self, value): ...

    assert isinstance(vars(Wiki)["above"], property)
    assert Wiki().above == 1
    assert marks(vars(Wiki)["above"]) == Marks(readonly=True)
    assert marks(vars(Wiki)["below"]) == Marks(unlocked=True)
    assert marks(vars(Wiki)["below"].fset) == Marks(abort_exception=True)


def test_static_class_and_cached_methods_are_marked_from_both_sides():
    class Wiki:
        @readonly
        @staticmethod
        def a(): ...

        @classmethod
        @readonly
        def b(cls): ...

        @readonly
        @functools.cached_property
        def c(self):
            return 3

        def d(self, n):
            return n

        e = readonly(functools.partialmethod(d, 5))

    assert all(marks(vars(Wiki)[name]).readonly for name in "abce")
    assert marks(Wiki().b).readonly
    assert Wiki().c == 3
    assert Wiki().e() == 5


def test_marks_are_seen_through_wrappers():
    def traced(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args)

        return wrapper

    @unlocked
    @traced
    @readonly
    @functools.lru_cache
    def method(self): ...

    assert marks(method) == Marks(readonly=True, unlocked=True)


def test_bound_method_has_the_marks_of_its_function():
    class Wiki:
        @readonly
        def titles(self): ...

    assert marks(Wiki().titles).readonly


def test_async_and_generator_methods_stay_what_they_are():
    @readonly
    async def later(self):
        return 7

    @readonly
    def each(self):
        yield 1

    assert inspect.iscoroutinefunction(later)
    assert asyncio.run(later(None)) == 7
    assert inspect.isgeneratorfunction(each)
    assert list(each(None)) == [1]
    assert marks(later).readonly
    assert marks(each).readonly


def test_override_without_the_decorator_is_not_marked():
    class Wiki:
        @readonly
        def titles(self): ...

    class Loud(Wiki):
        def titles(self): ...

    assert not marks(Loud.titles).readonly


@pytest.mark.parametrize("value", [3, "text", property(), len])
def test_what_cannot_be_marked_is_refused(value):
    with pytest.raises(TypeError, match="method was expected"):
        readonly(value)


def test_wrapper_chain_in_a_circle_ends():
    def method(): ...

    method.__wrapped__ = method
    assert marks(method) == Marks()
