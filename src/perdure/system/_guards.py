"""Proving that an exception left a method before it changed anything, so that nothing has to be brought back.

The *guard* of a method is its leading statements that cannot change state: checks that raise, assertions, local names
for pure expressions. An exception whose traceback leaves the method in its guard leaves the state as it was. The proof
has three parts, and ``left_unchanged`` says ``False`` whenever one is missing, which costs a restore and no data:

1. *The text is the code.* The file is compiled again and compared with the running function, instruction by
   instruction: it may have been edited since it was imported.
2. *The statements are pure.* Calls are of built-ins, of exception classes, and of methods whose names only ask.
3. *The operands are harmless.* ``d[k]`` inserts into a ``defaultdict``, ``x in it`` uses up an iterator,
   ``queue.get()`` takes, a ``cached_property`` stores what it computes. The text does not tell, so each operand of
   such an expression must be a plain path (``self.pages``, ``key``) and is looked at in the frame that raised.

What is assumed: operators, properties and exception constructors of the user's own classes do not change state.
"""

from __future__ import annotations

import ast
import collections
import datetime
import decimal
import enum
import fractions
import functools
import inspect
import string
from dataclasses import dataclass
from types import CodeType, FrameType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Literal

from ._reading import MethodSource, ScopedVisitor, is_a, node_of, own_nodes, tree_of

_Need = Literal["read", "subscripted", "iterated", "called"]


@dataclass
class _Guard:
    lines: frozenset[int]
    needs: frozenset[tuple[tuple[str, ...], _Need]]
    """Paths such as ``("self", "pages")``, each with what the guard does to the value found there."""


def left_unchanged(function: FunctionType, exception: BaseException) -> bool:
    """Tell whether ``exception`` provably left ``function`` before anything could have changed.

    ``function``: the very one that was called, not what it wraps. ``True`` is a proof, ``False`` is "not known".
    To be asked before anything else touches the state. Any thread may call.
    """
    if not is_a(function, FunctionType):
        return False  # a built-in or a wrapper of another make: nothing is known of it
    guard = _guard_of(function)
    traceback = exception.__traceback__
    # The outermost frame is the one of this call; deeper ones of the same function are calls that it made.
    while traceback is not None and traceback.tb_frame.f_code is not function.__code__:
        traceback = traceback.tb_next
    if guard is None or traceback is None or traceback.tb_lineno not in guard.lines:
        return False
    return all(_is_harmless(path, need, traceback.tb_frame) for path, need in guard.needs)


def guard_lines(function: FunctionType) -> frozenset[int] | None:
    """Return the lines of the guard of ``function``, ``None`` where its source cannot be had or trusted."""
    guard = _guard_of(function)
    return None if guard is None else guard.lines


@functools.lru_cache(maxsize=1024)
def _guard_of(function: FunctionType) -> _Guard | None:
    node = node_of(function)
    if not isinstance(node, ast.FunctionDef) or inspect.isgeneratorfunction(function):
        return None
    if not _is_current(function):
        return None
    reader = _GuardReader(function, node)
    reader.block(node.body)
    every = {id(child): child for child in ast.walk(node) if isinstance(child, ast.stmt) and child is not node}
    impure: set[int] = set()
    for child in every.values():
        if id(child) not in reader.pure:
            impure |= _lines(child)
    # A line that a guard shares with another statement (`check(); self.n += 1`) belongs to the other.
    return _Guard(frozenset(reader.lines - impure), frozenset(reader.needs))


def _lines(node: ast.stmt | ast.expr) -> set[int]:
    return set(range(node.lineno, (node.end_lineno or node.lineno) + 1))


# --- whether the text is the code


def _is_current(function: FunctionType) -> bool:
    tree = tree_of(function)
    if tree is None:
        return False
    code = function.__code__
    twins = _codes_in(tree).get((code.co_qualname, code.co_firstlineno), ())
    return len(twins) == 1 and _is_same_code(twins[0], code)


@functools.lru_cache(maxsize=64)
def _codes_in(tree: ast.Module) -> dict[tuple[str, int], list[CodeType]]:
    found: dict[tuple[str, int], list[CodeType]] = {}
    try:
        waiting = [compile(tree, "<source>", "exec", dont_inherit=True)]
    except (SyntaxError, ValueError, RecursionError):
        return found
    while waiting:
        code = waiting.pop()
        found.setdefault((code.co_qualname, code.co_firstlineno), []).append(code)
        waiting += [const for const in code.co_consts if isinstance(const, CodeType)]
    return found


def _is_same_code(one: CodeType, other: CodeType) -> bool:
    return (
        one.co_code == other.co_code
        and one.co_names == other.co_names
        and one.co_varnames == other.co_varnames
        and list(one.co_lines()) == list(other.co_lines())
        and len(one.co_consts) == len(other.co_consts)
        and all(_is_same_const(a, b) for a, b in zip(one.co_consts, other.co_consts, strict=True))
    )


def _is_same_const(one: object, other: object) -> bool:
    if isinstance(one, CodeType) and isinstance(other, CodeType):
        return _is_same_code(one, other)
    return type(one) is type(other) and one == other


# --- reading the guard


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BUILTINS = frozenset(
    id(held)
    for held in (
        len, isinstance, issubclass, abs, int, float, bool, str, repr, type, round, getattr, hasattr, range, callable,
        min, max, sum, sorted, any, all, tuple, list, dict, set, frozenset, zip, enumerate, divmod, ord, chr, bytes,
    )
)  # fmt: skip
_CONSUMERS = frozenset(
    id(held) for held in (min, max, sum, sorted, any, all, tuple, list, dict, set, frozenset, zip, enumerate, bytes)
)
_MAKERS = _CONSUMERS | {id(held) for held in (str, repr, int, float, bool, len, range, ord, chr, abs)} - {
    id(held) for held in (min, max, sum)
}
_ASKING = _words(
    "get keys values items startswith endswith strip lstrip rstrip lower upper title casefold count index find rfind "
    "isdigit isdecimal isnumeric isalpha isalnum isidentifier isspace islower isupper isascii format split rsplit "
    "splitlines join partition rpartition replace removeprefix removesuffix zfill encode decode copy union "
    "intersection difference issubset issuperset isdisjoint is_integer bit_length date time isoformat total_seconds"
)
_ITERATING = _words("join union intersection difference issubset issuperset isdisjoint")
_COMPUTED = (
    ast.Constant, ast.JoinedStr, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.ListComp, ast.SetComp, ast.DictComp,
    ast.GeneratorExp, ast.BinOp, ast.UnaryOp, ast.Compare,
)  # fmt: skip


class _GuardReader:
    """Collects the pure statements at the top of a function, and what their operands must turn out to be."""

    def __init__(self, function: FunctionType, node: ast.FunctionDef) -> None:
        source = MethodSource("", "function", function, function, None, "", 0, node)
        self._names = ScopedVisitor(source)
        self._locals = {arg.arg for arg in _arguments(node)}
        stored = [n.id for n in own_nodes(node) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)]
        self._locals.update(stored)
        for child in own_nodes(node):
            if isinstance(child, (ast.Global, ast.Nonlocal)):
                self._locals.difference_update(child.names)
        # Only a name with one value can be looked at afterwards for what it was before.
        times = collections.Counter([*stored, *(arg.arg for arg in _arguments(node))])
        self._settled = {name for name in self._locals if times[name] == 1}
        self._comprehended: list[set[str]] = []
        self.pure: set[int] = set()
        self.lines: set[int] = set()
        self.needs: set[tuple[tuple[str, ...], _Need]] = set()

    def block(self, body: list[ast.stmt]) -> bool:
        """Take in the pure statements at the start of ``body``; tell whether all of them are."""
        return all(self._statement(statement) for statement in body)

    def _statement(self, node: ast.stmt) -> bool:
        needs = set(self.needs)
        if isinstance(node, ast.If):
            if not self._is_pure(node.test):
                self.needs = needs
                return False
            # The branches are read one by one: each starts with nothing changed.
            self.lines |= _lines(node.test)
            self.pure.add(id(node))
            whole = [self.block(node.body), self.block(node.orelse)]
            return all(whole)
        if not self._is_pure_statement(node):
            self.needs = needs
            return False
        self.lines |= _lines(node)
        self.pure.add(id(node))
        return True

    def _is_pure_statement(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Pass):
            return True
        if isinstance(node, ast.Expr):
            return self._is_pure(node.value)
        if isinstance(node, ast.Assert):
            return self._is_pure(node.test) and self._is_pure(node.msg)
        if isinstance(node, ast.Return):
            return self._is_pure(node.value)
        if isinstance(node, ast.Raise):
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            return self._is_exception_class(raised) and self._is_pure(node.exc) and self._is_pure(node.cause)
        if isinstance(node, ast.AnnAssign):
            return self._is_local(node.target) and self._is_pure(node.value)
        if isinstance(node, ast.Assign):
            return all(self._is_local(target) for target in node.targets) and self._is_pure(node.value)
        return False

    def _is_local(self, target: ast.expr) -> bool:
        return isinstance(target, ast.Name) and target.id in self._locals

    def _is_exception_class(self, node: ast.expr | None) -> bool:
        held = self._resolve(node)
        return isinstance(held, type) and issubclass(held, BaseException)

    def _resolve(self, node: ast.expr | None) -> object:
        path = _path(node)
        if node is None or path is None or path[0] in self._locals or self._is_comprehended(path[0]):
            return None
        return self._names.resolve(node)

    def _is_comprehended(self, name: str) -> bool:
        return any(name in names for names in self._comprehended)

    # --- expressions

    def _is_pure(self, node: ast.expr | None) -> bool:
        if node is None or isinstance(node, (ast.Constant, ast.Name)):
            return True
        if isinstance(node, ast.Attribute):
            if node.attr in ("__name__", "__qualname__") and isinstance(node.value, ast.Call):
                return self._resolve(node.value.func) is type and self._is_pure(node.value)
            return self._is_exception_class(node) or self._need(node, "read")
        if isinstance(node, ast.Subscript):
            return self._need(node.value, "subscripted") and self._is_pure(node.slice)
        if isinstance(node, ast.Call):
            return self._is_pure_call(node)
        if isinstance(node, ast.Compare):
            contained = [
                c for op, c in zip(node.ops, node.comparators, strict=True) if isinstance(op, (ast.In, ast.NotIn))
            ]
            return self._all_pure(node) and all(self._need(operand, "iterated") for operand in contained)
        if isinstance(node, ast.BinOp):
            # `"%(name)s" % mapping` is a subscript in disguise.
            return self._all_pure(node) and (not isinstance(node.op, ast.Mod) or self._need(node.right, "subscripted"))
        if isinstance(node, ast.Starred):
            return self._need(node.value, "iterated")
        if isinstance(node, ast.NamedExpr):
            return self._is_local(node.target) and self._is_pure(node.value)
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            return self._is_pure_comprehension(node)
        return isinstance(node, _TRANSPARENT) and self._all_pure(node)

    def _all_pure(self, node: ast.expr) -> bool:
        return all(self._is_pure(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr))

    def _is_pure_comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> bool:
        targets = [n for generator in node.generators for n in ast.walk(generator.target)]
        self._comprehended.append({n.id for n in targets if isinstance(n, ast.Name)})
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        parts += [condition for generator in node.generators for condition in generator.ifs]
        pure = (
            all(isinstance(n, (ast.Name, ast.Tuple, ast.expr_context)) for n in targets)
            and not any(generator.is_async for generator in node.generators)
            and all(self._need(generator.iter, "iterated") for generator in node.generators)
            and all(self._is_pure(part) for part in parts)
        )
        self._comprehended.pop()
        return pure

    def _is_pure_call(self, node: ast.Call) -> bool:
        held = self._resolve(node.func)
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        if any(keyword.arg in (None, "key") for keyword in node.keywords):
            return False  # key= calls whatever it is given; ** asks a mapping of unknown make
        if held is getattr or held is hasattr:
            named = node.args[1] if len(node.args) > 1 else None
            if not (isinstance(named, ast.Constant) and isinstance(named.value, str)):
                return False
            read = ast.Attribute(node.args[0], named.value, ast.Load())
            return self._need(read, "read") and all(self._is_pure(argument) for argument in arguments)
        if not all(self._is_pure(argument) for argument in arguments):
            return False
        if id(held) in _BUILTINS:
            return id(held) not in _CONSUMERS or all(self._need(argument, "iterated") for argument in arguments)
        if self._is_exception_class(node.func):
            return True
        if not isinstance(node.func, ast.Attribute) or node.func.attr not in _ASKING:
            return False
        if node.func.attr == "format" and not _is_plain_format(node.func.value):
            return False
        iterated = node.args if node.func.attr in _ITERATING else []
        return self._need(node.func.value, "called") and all(self._need(each, "iterated") for each in iterated)

    def _need(self, node: ast.expr, need: _Need) -> bool:
        """Note that ``node`` must turn out harmless for ``need``; tell whether that can be found out, or is sure."""
        path = _path(node)
        if path is not None:
            known = path[0] in self._settled or path[0] not in self._locals
            if not known or self._is_comprehended(path[0]):
                return len(path) == 1 and need == "read"
            self.needs.add((path, need))
            return True
        if need == "read" and isinstance(node, ast.Attribute):
            return False  # an attribute of who knows what may be a cached_property
        return self._is_pure(node) and self._is_new(node)

    def _is_new(self, node: ast.expr) -> bool:
        """Whether the value was made by the expression itself, so that no use of it can change the state."""
        if not isinstance(node, ast.Call):
            return isinstance(node, _COMPUTED)
        if isinstance(node.func, ast.Attribute):
            return node.func.attr in _ASKING and node.func.attr != "get"
        return id(self._resolve(node.func)) in _MAKERS


_TRANSPARENT = (
    ast.BoolOp, ast.UnaryOp, ast.IfExp, ast.JoinedStr, ast.FormattedValue, ast.Tuple, ast.List, ast.Set, ast.Dict,
    ast.Slice,
)  # fmt: skip


def _arguments(node: ast.FunctionDef) -> list[ast.arg]:
    args = node.args
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    return [arg for arg in every if arg is not None]


def _path(node: ast.expr | None) -> tuple[str, ...] | None:
    """``self.pages`` as ``("self", "pages")``; ``None`` for anything but names and attributes."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        if node.attr.startswith("__"):
            return None  # the compiler may have spelled it otherwise
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else None


def _is_plain_format(node: ast.expr) -> bool:
    """Whether ``node.format(...)`` only formats: ``"{0[key]}"`` and ``"{0.name}"`` look into their arguments."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return False
    try:
        names = [name or "" for _, name, spec, _ in string.Formatter().parse(node.value) if "{" not in (spec or "")]
        nested = any("{" in (spec or "") for _, _, spec, _ in string.Formatter().parse(node.value))
    except ValueError:
        return True  # raises, and nothing else
    return not nested and not any("." in name or "[" in name for name in names)


# --- looking at the operands

_PLAIN: frozenset[type] = frozenset(
    (
        str, bytes, bytearray, int, float, bool, complex, type(None), dict, list, tuple, set, frozenset, range,
        collections.OrderedDict, collections.Counter, collections.defaultdict, collections.deque,
        datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, fractions.Fraction,
    )
)  # fmt: skip
_FAILED = object()
_ASSUMED = object()


def _is_harmless(path: tuple[str, ...], need: _Need, frame: FrameType) -> bool:
    value = _value_at(path, frame)
    if value is _FAILED:
        return False
    if need == "read":
        return True
    if value is _ASSUMED:
        return False
    kind = type(value)
    if need == "subscripted":
        return kind in _PLAIN and kind is not collections.defaultdict
    if need == "called":
        return kind in _PLAIN
    return not hasattr(kind, "__next__")


def _value_at(path: tuple[str, ...], frame: FrameType) -> object:
    """What stands at ``path``, found without running anything.

    ``_ASSUMED``: behind a property, or not there at all, where looking changes nothing. ``_FAILED``: looking may.
    """
    name, *attributes = path
    value: object
    if name in frame.f_locals:
        value = frame.f_locals[name]
    elif name in frame.f_code.co_varnames or name in frame.f_code.co_cellvars:
        return None  # not assigned yet, so the expression has not run
    else:
        value = frame.f_globals.get(name, _ASSUMED)
    for attribute in attributes:
        if value is _FAILED or value is _ASSUMED:
            return _FAILED
        value = _attribute_of(value, attribute)
    return value


def _attribute_of(value: object, attribute: str) -> object:
    kind = type(value)
    if issubclass(kind, ModuleType):
        return vars(value).get(attribute, _FAILED)
    if issubclass(kind, type):
        # A metaclass may compute attributes; that of enums is known.
        if issubclass(kind, enum.EnumMeta):
            return _ASSUMED
        return _ASSUMED if kind is type and inspect.getattr_static(value, attribute, None) is not None else _FAILED
    if inspect.getattr_static(kind, "__getattribute__") is not object.__getattribute__ and kind not in _PLAIN:
        return _FAILED
    by_class = inspect.getattr_static(kind, attribute, _FAILED)
    if isinstance(by_class, (MemberDescriptorType, GetSetDescriptorType)):
        try:
            held: object = by_class.__get__(value, kind)
        except AttributeError:
            return _FAILED
        return held
    if isinstance(by_class, property):
        return _ASSUMED
    if isinstance(by_class, functools.cached_property):
        return _FAILED  # what it stored may have been stored by this very guard
    own: dict[str, object] = getattr(value, "__dict__", {})
    if attribute in own:
        return own[attribute]
    if by_class is _FAILED:
        return _FAILED
    return _ASSUMED if hasattr(type(by_class), "__get__") else by_class
