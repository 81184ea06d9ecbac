"""Hypothesis strategies: values that can be stored, and sequences of commands on a class."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from perdure.errors import UsageError

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["Call", "commands", "storable_values"]


class Call(NamedTuple):
    """One call of a method. ``call(obj)`` makes it."""

    method: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}

    def __call__(self, obj: Any) -> Any:
        return getattr(obj, self.method)(*self.args, **self.kwargs)


def _strategies() -> Any:
    try:
        from hypothesis import strategies
    except ImportError as error:
        raise UsageError("this needs Hypothesis", hint="pip install hypothesis") from error
    return strategies


def storable_values(*, plain: bool = False) -> SearchStrategy[Any]:
    """Values that perdure can store, nested a few levels deep.

    ``plain``: only what the codecs "json" and "msgpack" take as well.

    Raises:
        UsageError: Hypothesis is not installed.
    """
    st = _strategies()
    text = st.text(st.characters(exclude_categories=["Cs"]))
    scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | text
    scalars |= st.floats(allow_nan=False, allow_infinity=False)
    if not plain:
        scalars |= st.integers() | st.binary() | st.datetimes() | st.dates() | st.timedeltas() | st.uuids()
        scalars |= st.decimals(allow_nan=False) | st.fractions() | st.complex_numbers(allow_nan=False)

    def containers(inner: Any) -> Any:
        found = st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4)
        if not plain:
            keys = st.integers() | text | st.dates()
            found |= st.tuples(inner, inner) | st.dictionaries(keys, inner, max_size=4) | st.sets(keys, max_size=4)
            found |= st.frozensets(keys, max_size=4)
        return found

    values: SearchStrategy[Any] = st.recursive(scalars, containers, max_leaves=12)
    return values


def commands(
    cls: type, arguments: Mapping[str, Mapping[str, Any]] | None = None, *, max_size: int = 20
) -> SearchStrategy[list[Call]]:
    """Lists of calls of the public methods that ``cls`` defines, queries included. ::

        @given(commands(Wiki, {"create_page": {"name": st.text()}}))
        def test_a_wiki_replays(calls):
            with perdure.open(Wiki, perdure.MEMORY) as wiki:
                for call in calls:
                    call(wiki)
                assert_replayable(wiki)

    ``arguments``: for a method, the strategy of each parameter. Others come from the type hints and, where there is
    none, from ``storable_values()``; parameters with a default are left out at times.

    Raises:
        UsageError: Hypothesis is not installed, or ``cls`` has no method to call.
    """
    st = _strategies()
    given = arguments or {}
    names = [
        name
        for name in dir(cls)
        if not name.startswith("_") and inspect.isfunction(inspect.getattr_static(cls, name, None))
    ]
    if not names:
        raise UsageError(f"{cls.__qualname__} has no public method")
    calls: SearchStrategy[list[Call]] = st.lists(
        st.one_of([_call(st, cls, name, given.get(name, {})) for name in names]), max_size=max_size
    )
    return calls


def _call(st: Any, cls: type, name: str, given: Mapping[str, Any]) -> Any:
    function = getattr(cls, name)
    hints = inspect.get_annotations(function, eval_str=False)
    required: dict[str, Any] = {}
    optional: dict[str, Any] = {}
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        strategy = given.get(parameter.name)
        if strategy is None:
            strategy = _from_hint(st, cls, function, parameter.name, hints)
        (required if parameter.default is parameter.empty else optional)[parameter.name] = strategy
    return st.fixed_dictionaries(required, optional=optional).map(lambda kwargs: Call(name, (), kwargs))


def _from_hint(st: Any, cls: type, function: Any, name: str, hints: Mapping[str, Any]) -> Any:
    if name in hints:
        try:
            return st.from_type(typing.get_type_hints(function)[name])
        except (NameError, TypeError):
            pass  # A name that exists for type checkers only says nothing here.
    return storable_values()
