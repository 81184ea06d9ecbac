"""What can be called from elsewhere: the public methods of a class, with the types that their hints name."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from perdure.system import kind_of

_SCALARS = frozenset({bool, int, float, str, bytes})
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class ArgumentsError(Exception):
    """The arguments are not those of the method: too many, too few, or of another type."""


@dataclass(frozen=True)
class Parameter:
    """``hint``: the type that a value is checked against and converted to; ``Any`` where msgspec knows none."""

    name: str
    hint: Any
    kind: Any
    default: Any

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty and self.kind not in _VARIADIC

    def convert(self, value: Any, *, text_keys: bool) -> Any:
        """The value as the hint has it. Raises ``msgspec.ValidationError``."""
        hint = self.hint
        if hint is Any or (hint in _SCALARS and type(value) is hint):
            return value
        return msgspec.convert(value, hint, str_keys=text_keys)


@dataclass(frozen=True)
class Method:
    """One public method. ``function``: what runs, with the root first. ``returns``: the hint of its result."""

    name: str
    kind: Literal["command", "query"]
    function: Callable[..., Any]
    parameters: tuple[Parameter, ...] | None
    returns: Any
    doc: str

    @property
    def is_query(self) -> bool:
        return self.kind == "query"

    @functools.cached_property
    def _by_position(self) -> tuple[Parameter, ...] | None:
        """The parameters, where all can be given by position: then binding is counting."""
        plain = self.parameters is not None and all(each.kind in _BY_POSITION for each in self.parameters)
        return self.parameters if plain else None

    @functools.cached_property
    def _required_count(self) -> int:
        return sum(each.required for each in self.parameters or ())

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """Without the instance. Only where ``parameters`` is known."""
        assert self.parameters is not None
        return inspect.Signature(
            [inspect.Parameter(each.name, each.kind, default=each.default) for each in self.parameters]
        )

    def check_shape(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raises ``TypeError``, as the method itself would, where there are too many arguments, or too few."""
        plain = self._by_position
        if self.parameters is None or (
            plain is not None and not kwargs and self._required_count <= len(args) <= len(plain)
        ):
            return
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}() {error}") from None

    def bind(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], *, text_keys: bool = False
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, checked and converted. ``text_keys``: dicts have str keys because the format has no others.

        Raises:
            ArgumentsError: they do not fit.
        """
        if self.parameters is None:
            return tuple(args), dict(kwargs)
        plain = self._by_position
        try:
            if plain is not None and not kwargs and self._required_count <= len(args) <= len(plain):
                pairs = zip(plain, args, strict=False)
                return tuple([each.convert(value, text_keys=text_keys) for each, value in pairs]), {}
            return self._bind_by_name(args, kwargs, text_keys)
        except msgspec.ValidationError as error:
            raise ArgumentsError(f"{self.name}(): {self._offender(args, kwargs, text_keys)}{error}") from error
        except TypeError as error:
            raise ArgumentsError(f"{self.name}(): {error}") from error

    def _bind_by_name(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], text_keys: bool
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        bound = self.signature.bind(*args, **kwargs)
        for each, (name, value) in self._bound(bound):
            if each.kind is inspect.Parameter.VAR_POSITIONAL:
                bound.arguments[name] = tuple(each.convert(item, text_keys=text_keys) for item in value)
            elif each.kind is inspect.Parameter.VAR_KEYWORD:
                bound.arguments[name] = {key: each.convert(item, text_keys=text_keys) for key, item in value.items()}
            else:
                bound.arguments[name] = each.convert(value, text_keys=text_keys)
        # As they were given, so that a method with defaults sees the same call as at home.
        count = len(args)
        if not kwargs:
            return bound.args, {}
        flat = bound.args
        if len(flat) == count and not bound.kwargs.keys() - kwargs.keys():
            return flat, dict(bound.kwargs)
        names = list(bound.arguments)
        given = {name: bound.arguments[name] for name in names[count:] if name in kwargs}
        return flat[:count], {**given, **{key: value for key, value in bound.kwargs.items() if key in kwargs}}

    def _bound(self, bound: inspect.BoundArguments) -> Iterator[tuple[Parameter, tuple[str, Any]]]:
        by_name = {each.name: each for each in self.parameters or ()}
        return iter([(by_name[name], (name, value)) for name, value in bound.arguments.items()])

    def _offender(self, args: Sequence[Any], kwargs: Mapping[str, Any], text_keys: bool) -> str:
        """Which argument does not fit, for the message."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError:
            return ""
        for each, (name, value) in self._bound(bound):
            if each.kind not in _VARIADIC:
                try:
                    each.convert(value, text_keys=text_keys)
                except msgspec.ValidationError:
                    return f"{name}: "
        return ""


@functools.lru_cache(maxsize=64)
def methods_of(cls: type) -> Mapping[str, Method]:
    """The public methods of a class by name, its own and those of its bases, in the order of their definition.

    Not in it: names that begin with an underscore, attributes and properties, static and class methods, and whatever
    a proxy has beside its class.
    """
    found: dict[str, Method] = {}
    seen: set[str] = set()
    for base in cls.__mro__:
        if base is object:
            continue
        for name, raw in base.__dict__.items():
            if name in seen:
                continue
            seen.add(name)
            if not name.startswith("_") and (kind := kind_of(cls, name, raw)) is not None:
                function = getattr(cls, name)
                parameters, returns = _parameters(function)
                doc = inspect.getdoc(function) or ""
                found[name] = Method(name, kind, function, parameters, returns, doc)
    return found


def _parameters(function: Callable[..., Any]) -> tuple[tuple[Parameter, ...] | None, Any]:
    """Those behind the instance; ``None`` for C functions that do not tell. And the hint of the result."""
    try:
        declared = list(inspect.signature(function).parameters.values())[1:]
    except (ValueError, TypeError):
        return None, Any
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:
        # A hint may name what is only imported for the type checker, or be any expression at all.
        hints = {}
    parameters = tuple(
        Parameter(each.name, _known(hints.get(each.name, Any)), each.kind, each.default) for each in declared
    )
    return parameters, _known(hints.get("return", Any))


def _known(hint: Any) -> Any:
    """A hint that msgspec can check; ``Any`` for the others."""
    if hint is Any or hint is object:
        return Any
    try:
        msgspec.convert(_NOTHING, hint)
    except msgspec.ValidationError:
        return hint
    except Exception:
        # Not supported: unions with classes of the user's own, callables, names that cannot be resolved.
        return Any
    return hint


class _Nothing:
    """Fits no type."""


_NOTHING = _Nothing()
