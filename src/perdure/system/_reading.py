"""Finding the methods of a class, their source, and what they call. Reads; never calls user code, never raises.

Everything here works on the syntax tree of a function's file, found by its name and first line. Where there is none (a
prompt, ``exec``, C), ``node`` is ``None`` and callers do without.

What a name stands for is looked up in the function's real scopes. A parameter called ``time`` is never taken for the
module.
"""

from __future__ import annotations

import ast
import builtins
import enum
import functools
import importlib.util
import inspect
import linecache
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType, FunctionType, ModuleType
from typing import Literal, TypeGuard, TypeVar

from ._decorators import LIFECYCLE_DUNDERS, QUERY_DUNDERS, marks

_T = TypeVar("_T")
Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Kind = Literal["method", "getter", "setter", "deleter", "static", "class", "function"]


class Mark(enum.Enum):
    """What a name stands for, where that is no object that exists before the call."""

    UNKNOWN = enum.auto()  # a local value, or an attribute of one
    SELF = enum.auto()  # the instance
    CLASS = enum.auto()  # its class


UNKNOWN, SELF, CLASS = Mark.UNKNOWN, Mark.SELF, Mark.CLASS

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
_LIBRARY = os.path.dirname(os.__file__)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True, eq=False)
class MethodSource:
    """One function and where it is written.

    ``raw`` is what the class holds (a property, a wrapper); ``function`` the innermost function that it leads to.
    ``owner`` is the class whose body holds it, ``None`` for a function of the module.
    """

    name: str
    kind: Kind
    raw: object
    function: FunctionType
    owner: type | None
    file: str
    line: int
    node: Node | None


@dataclass(frozen=True)
class Reached:
    """Everything of its own module that one method leads to.

    ``direct``: the method, the methods of ``self`` it uses, the functions these call. ``through_objects``: what is
    reached only through other classes that are constructed on the way. ``classes``: those classes.
    """

    direct: tuple[MethodSource, ...]
    through_objects: tuple[MethodSource, ...]
    classes: tuple[type, ...]


def methods_of(cls: type) -> dict[str, MethodSource]:
    """Return every function that a call on an instance can reach, under the name that reaches it.

    A property's setter and deleter stand under ``"name.setter"`` and ``"name.deleter"``. Overridden functions,
    those of ``object``, of the standard library and of C are left out; ``dict`` and the like have none.
    """
    return dict(_methods_of(cls))


def commands_of(cls: type) -> dict[str, MethodSource]:
    """Return those of ``methods_of(cls)`` that are commands: not ``@readonly``, not a getter, no dunder that asks.

    Static and class methods are none either: they have no object to change.
    """
    return {
        name: source
        for name, source in _methods_of(cls).items()
        if source.kind in ("method", "setter", "deleter")
        and name not in QUERY_DUNDERS
        and name not in LIFECYCLE_DUNDERS
        and not marks(source.raw).readonly
    }


def functions_called(method: MethodSource) -> list[MethodSource]:
    """Return the functions of the same module that ``method`` uses, and those that these use, in order of discovery.

    Constructors of the module's classes count; methods of ``self`` do not: they are in ``methods_of`` already.
    """
    reached = _reach(method, {})
    return [source for source in (*reached.direct, *reached.through_objects) if source is not method]


def reached_from(method: MethodSource, cls: type) -> Reached:
    """Return all that a call of ``method`` on an instance of ``cls`` leads to, as far as names tell."""
    return _reach(method, _methods_of(cls))


def node_of(function: FunctionType) -> Node | None:
    """Return the syntax tree of ``function``, with the line numbers of its file, or ``None``."""
    tree = tree_of(function)
    if tree is None:
        return None
    found = _functions_in(tree).get((function.__code__.co_name, function.__code__.co_firstlineno), ())
    return found[0] if len(found) == 1 else None


# --- methods of a class


@functools.lru_cache(maxsize=256)
def _methods_of(cls: type) -> Mapping[str, MethodSource]:
    found: dict[str, MethodSource] = {}
    seen: set[str] = set()
    for owner in inspect.getmro(cls):
        for name, raw in vars(owner).items():
            # A name hides what stands further up, even where it is no function (`__hash__ = None`).
            if name in seen:
                continue
            seen.add(name)
            if not _is_foreign(owner):
                for key, kind, held in _functions_held(name, raw):
                    found[key] = _source(key, kind, held, owner)
    return found


def _is_foreign(owner: type) -> bool:
    """Whether ``owner`` comes with Python. By its file, too: a user's own ``profile.py`` is no part of it."""
    if not owner.__flags__ & _HEAP_TYPE:
        return True
    if owner.__module__ == "builtins" or owner.__module__.partition(".")[0] not in sys.stdlib_module_names:
        return False
    return str(getattr(sys.modules.get(owner.__module__), "__file__", None) or _LIBRARY).startswith(_LIBRARY)


def _functions_held(name: str, raw: object) -> Iterator[tuple[str, Kind, FunctionType]]:
    candidates: list[tuple[str, Kind, object]] = [(name, "method", raw)]
    if isinstance(raw, property):
        candidates = [
            (name, "getter", raw.fget),
            (f"{name}.setter", "setter", raw.fset),
            (f"{name}.deleter", "deleter", raw.fdel),
        ]
    elif isinstance(raw, staticmethod):
        candidates = [(name, "static", raw.__func__)]
    elif isinstance(raw, classmethod):
        candidates = [(name, "class", raw.__func__)]
    elif isinstance(raw, functools.cached_property):
        candidates = [(name, "getter", raw.func)]
    elif isinstance(raw, functools.partialmethod):
        candidates = [(name, "method", raw.func)]
    elif isinstance(raw, functools.singledispatchmethod):
        keys = {kind: name if kind is object else f"{name}[{kind.__name__}]" for kind in raw.dispatcher.registry}
        candidates = [(keys[kind], "method", held) for kind, held in raw.dispatcher.registry.items()]
    for key, kind, held in candidates:
        if (function := innermost(held)) is not None:
            yield key, kind, function


def innermost(held: object) -> FunctionType | None:
    """Return the function at the end of a chain of wrappers, or ``None`` where there is none in Python."""
    seen: set[int] = set()
    while not is_a(held, type) and id(held) not in seen:
        seen.add(id(held))
        # Statically, because what a module holds may be a proxy that wakes up at any question.
        inner = inspect.getattr_static(held, "__wrapped__", None)
        if inner is None:
            return held if is_a(held, FunctionType) else None
        held = inner
    return None


def is_a(held: object, kind: type[_T]) -> TypeGuard[_T]:
    """``isinstance`` without asking the object for its ``__class__``, which a proxy answers by running code."""
    return issubclass(type(held), kind)


@functools.lru_cache(maxsize=8192)
def _source(name: str, kind: Kind, held: FunctionType, owner: type | None) -> MethodSource:
    raw = held if owner is None else vars(owner).get(name.partition(".")[0].partition("[")[0], held)
    if isinstance(raw, property):
        raw = {"getter": raw.fget, "setter": raw.fset, "deleter": raw.fdel}[kind]
    code = held.__code__
    return MethodSource(name, kind, raw, held, owner, code.co_filename, code.co_firstlineno, node_of(held))


# --- source of a function


def tree_of(function: FunctionType) -> ast.Module | None:
    """Return the syntax tree of the whole file that ``function`` was read from, or ``None``."""
    linecache.checkcache(function.__code__.co_filename)  # It may have been edited and reloaded.
    lines = linecache.getlines(function.__code__.co_filename, function.__globals__)
    return _parse("".join(lines)) if lines else None


@functools.lru_cache(maxsize=64)
def _parse(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None  # edited since it was imported, or no Python at all


@functools.lru_cache(maxsize=64)
def _functions_in(tree: ast.Module) -> dict[tuple[str, int], list[Node]]:
    found: dict[tuple[str, int], list[Node]] = {}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            # A code object starts at its first decorator, a node at its `def`.
            first_line = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found.setdefault((node.name, first_line), []).append(node)
        elif isinstance(node, ast.Lambda):
            found.setdefault(("<lambda>", node.lineno), []).append(node)
    return found


# --- names


class ScopedVisitor(ast.NodeVisitor):
    """Walks one function and knows, at each place, what a name stands for."""

    def __init__(self, source: MethodSource) -> None:
        self.source = source
        self.function = source.function
        self._scopes: list[dict[str, object]] = []
        self._closure = _closure(self.function)

    def walk(self) -> None:
        """Visit the body and the defaults of the function. Decorators ran long ago and are no part of a call."""
        node = self.source.node
        if node is None:
            return
        self._visit_all(_defaults(node))
        scope = _bindings(node, self.function)
        first = next((argument.arg for argument in (*node.args.posonlyargs, *node.args.args)), None)
        if first is not None and self.source.owner is not None and self.source.kind != "static":
            rebound = any(isinstance(n, ast.Name) and n.id == first and _stores(n) for n in ast.walk(node))
            if not rebound:
                scope[first] = CLASS if self.source.kind == "class" else SELF
        self._visit_scope(scope, node.body if isinstance(node.body, list) else [node.body])

    def resolve(self, node: ast.expr) -> object:
        """Return the object that ``node`` stands for, without running anything, or a mark."""
        if isinstance(node, ast.Name):
            return self._lookup(node.id)
        if isinstance(node, ast.Attribute):
            base = self.resolve(node.value)
            if is_a(base, ModuleType):
                return vars(base).get(node.attr, UNKNOWN)
            if base is SELF and node.attr == "__class__":
                return CLASS
            if is_a(base, type):
                return inspect.getattr_static(base, node.attr, UNKNOWN)
        if isinstance(node, ast.Call) and self.resolve(node.func) is type and len(node.args) == 1:
            return CLASS if self.resolve(node.args[0]) is SELF else UNKNOWN
        return UNKNOWN

    def _lookup(self, name: str) -> object:
        for scope in reversed(self._scopes):
            if name in scope:
                return scope[name]
        if name in self._closure:
            return self._closure[name]
        if name in self.function.__globals__:
            return self.function.__globals__[name]
        return vars(builtins).get(name, UNKNOWN)

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, _SCOPES):
            outside = [*node.bases, *node.keywords] if isinstance(node, ast.ClassDef) else _defaults(node)
            self._visit_all([*getattr(node, "decorator_list", ()), *outside])
            body = [node.body] if isinstance(node, ast.Lambda) else node.body
            self._visit_scope(_bindings(node, self.function), body)
        elif isinstance(node, ast.AnnAssign):
            self._visit_all([node.target, *([node.value] if node.value else [])])  # a hint is not run
        elif isinstance(node, _COMPREHENSIONS):
            targets = [n for generator in node.generators for n in ast.walk(generator.target)]
            scope: dict[str, object] = {n.id: UNKNOWN for n in targets if isinstance(n, ast.Name)}
            self._visit_scope(scope, ast.iter_child_nodes(node))
        else:
            super().generic_visit(node)

    def _visit_scope(self, scope: dict[str, object], body: Iterable[ast.AST]) -> None:
        self._scopes.append(scope)
        self._visit_all(body)
        self._scopes.pop()

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)


def _closure(function: FunctionType) -> dict[str, object]:
    held: dict[str, object] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            held[name] = cell.cell_contents
        except ValueError:
            held[name] = UNKNOWN  # not assigned yet
    return held


def _defaults(node: Node) -> list[ast.expr]:
    return [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]


def _stores(node: ast.Name) -> bool:
    return isinstance(node.ctx, (ast.Store, ast.Del))


def _bindings(scope: Node | ast.ClassDef, function: FunctionType) -> dict[str, object]:
    """The names that belong to ``scope`` itself. Imports in the body are followed, anything else is UNKNOWN."""
    bound: dict[str, object] = {}
    elsewhere: set[str] = set()
    if not isinstance(scope, ast.ClassDef):
        args = scope.args
        every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
        bound.update({arg.arg: UNKNOWN for arg in every if arg is not None})
    for node in own_nodes(scope):
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            elsewhere.update(node.names)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for name, value in _imported(node, function):
                bound[name] = value if bound.get(name, value) is value else UNKNOWN
        else:
            bound.update(dict.fromkeys(_names_bound_by(node), UNKNOWN))
    return {name: value for name, value in bound.items() if name not in elsewhere}


def _names_bound_by(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id] if _stores(node) else []
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler, ast.MatchAs, ast.MatchStar)
    if isinstance(node, named):
        return [node.name] if node.name else []
    if isinstance(node, ast.MatchMapping):
        return [node.rest] if node.rest else []
    return []


def own_nodes(scope: Node | ast.ClassDef) -> Iterator[ast.AST]:
    """Yield the nodes inside ``scope``, in order, without what belongs to functions and classes defined in it."""
    waiting: list[ast.AST] = list(scope.body) if isinstance(scope.body, list) else [scope.body]
    waiting.reverse()
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, _SCOPES):
            continue
        if isinstance(node, _COMPREHENSIONS):
            # Of a comprehension, only what `:=` binds belongs to the function around it.
            waiting += [n.target for n in ast.walk(node) if isinstance(n, ast.NamedExpr)]
            continue
        waiting += reversed(list(ast.iter_child_nodes(node)))


def _imported(node: ast.Import | ast.ImportFrom, function: FunctionType) -> Iterator[tuple[str, object]]:
    """The names that an import statement binds. What was not imported before is not imported for this."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            full = alias.name if alias.asname else alias.name.partition(".")[0]
            yield alias.asname or full, sys.modules.get(full, UNKNOWN)
        return
    name = "." * node.level + (node.module or "")
    try:
        full = importlib.util.resolve_name(name, str(function.__globals__.get("__package__") or ""))
    except (ImportError, ValueError):
        full = ""
    module = sys.modules.get(full)
    for alias in node.names:
        value = vars(module).get(alias.name, UNKNOWN) if module is not None else UNKNOWN
        yield alias.asname or alias.name, value


# --- what a function leads to


@dataclass
class _Uses:
    functions: list[FunctionType] = field(default_factory=list)
    classes: list[type] = field(default_factory=list)
    own: list[str] = field(default_factory=list)  # attributes of self
    parents: list[str] = field(default_factory=list)  # attributes of super()
    others: list[str] = field(default_factory=list)  # attributes of anything else


class _UseVisitor(ScopedVisitor):
    def __init__(self, source: MethodSource) -> None:
        super().__init__(source)
        self.uses = _Uses()

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._note(self.resolve(node))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        base = self.resolve(node.value)
        if base is SELF or base is CLASS:
            accessor = {ast.Store: ".setter", ast.Del: ".deleter"}.get(type(node.ctx), "")
            self.uses.own.append(node.attr + accessor)
        elif isinstance(node.value, ast.Call) and self.resolve(node.value.func) is super:
            self.uses.parents.append(node.attr)
        elif is_a(base, type) or is_a(base, ModuleType):
            held = self.resolve(node)
            self._note(held.__func__ if is_a(held, staticmethod) or is_a(held, classmethod) else held)
        else:
            self.uses.others.append(node.attr)
        self.generic_visit(node)

    def _note(self, held: object) -> None:
        module = self.function.__module__
        if is_a(held, type):
            if held.__module__ == module:
                self.uses.classes.append(held)
        elif (function := innermost(held)) is not None and function.__module__ == module:
            self.uses.functions.append(function)


@functools.lru_cache(maxsize=8192)
def _uses_of(source: MethodSource) -> _Uses:
    visitor = _UseVisitor(source)
    visitor.walk()
    return visitor.uses


def _reach(start: MethodSource, methods: Mapping[str, MethodSource]) -> Reached:
    direct, classes, others = _follow([(start, methods)], set())
    through: list[MethodSource] = []
    known = {source.function.__code__ for source in direct}
    pending = list(classes)
    # A class met on the way brings its constructor and methods; these may bring more, so this goes round.
    while True:
        entries = [
            (source, members)
            for kept in pending
            for members in [_methods_of(kept)]
            for name, source in members.items()
            if source.function.__code__ not in known and (name in _CONSTRUCTORS or name in others)
        ]
        if not entries:
            return Reached(tuple(direct), tuple(through), tuple(pending))
        found, more_classes, more_names = _follow(entries, known)
        through += found
        known |= {source.function.__code__ for source in found}
        others |= more_names
        pending += [kept for kept in more_classes if kept not in pending]


_CONSTRUCTORS = frozenset({"__init__", "__new__", "__post_init__"})


def _follow(
    entries: Iterable[tuple[MethodSource, Mapping[str, MethodSource]]], known: set[CodeType]
) -> tuple[list[MethodSource], list[type], set[str]]:
    found: dict[CodeType, MethodSource] = {}
    classes: dict[type, None] = {}
    others: set[str] = set()
    waiting = list(entries)
    while waiting:
        source, methods = waiting.pop(0)
        if source.function.__code__ in found or source.function.__code__ in known:
            continue
        found[source.function.__code__] = source
        uses = _uses_of(source)
        others.update(uses.others)
        classes.update(dict.fromkeys(uses.classes))
        waiting += [(methods[name], methods) for name in uses.own if name in methods]
        waiting += [(parent, methods) for name in uses.parents for parent in _parents(source.owner, name)]
        waiting += [(_source(function.__qualname__, "function", function, None), {}) for function in uses.functions]
    return list(found.values()), list(classes), others


def _parents(owner: type | None, name: str) -> Iterator[MethodSource]:
    """The methods that ``super().name`` in ``owner`` can mean. Every base is taken: siblings may come between."""
    for base in inspect.getmro(owner)[1:] if owner is not None else ():
        raw = vars(base).get(name)
        if raw is not None and not _is_foreign(base):
            for key, kind, held in _functions_held(name, raw):
                yield _source(key, kind, held, base)
