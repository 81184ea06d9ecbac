"""Reading a class for what would not replay: clocks, randomness, and other inputs that are not in the journal.

Replay runs every command again, so a command may depend on its arguments and on the state, and on nothing else. What
is read: the commands of a class, and whatever they use of ``self`` and of their own module (``_reading.Reached``).
What is not: queries, static and class methods, unless a command uses them; ``__init__`` of the class itself, whose
outcome is stored as the first snapshot and never computed again; the body of a wrapper.

- An **error** is a call whose answer differs at replay for certain: a clock, randomness. Also a command that is a
  generator or ``async``: calling it runs nothing of it.
- A **warning** is what may differ (I/O, the environment, ``id``, ``hash``, the order of a set), what leaves the
  object (globals, class attributes, threads), a ``cached_property``, and every error that is reached only through
  *another* class which a command constructs: ``WikiPage(...)`` with ``self.modified = datetime.now()`` replays to
  another time and nothing else, and programs written for earlier libraries do it everywhere. The warning names
  ``perdure.clock.now()``.

The rules go by identity, not by spelling: whatever alias ``time.time`` goes by, it is found, and a parameter called
``time`` is none. What no reading can find (a clock behind another module's function, a method of an object that came
as an argument) ``open(..., check=True)`` finds by running.
"""

# ruff: noqa: N802 (ast.NodeVisitor dictates the names)
from __future__ import annotations

import ast
import builtins
import collections
import contextlib
import dataclasses
import datetime
import functools
import inspect
import os
import pathlib
import random
import secrets
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Literal

from ..errors import NotDeterministicError
from ._findings import DeterminismWarning, Finding, Severity
from ._reading import (
    CLASS,
    SELF,
    UNKNOWN,
    MethodSource,
    ScopedVisitor,
    commands_of,
    is_a,
    methods_of,
    reached_from,
)
from ._sets import is_set_display, set_attributes, set_locals


def check_class(cls: type, *, validate: Literal["error", "warn", "off"] = "error", stacklevel: int = 2) -> None:
    """Read ``cls`` and refuse or warn. ``"warn"`` turns errors into warnings, ``"off"`` reads nothing.

    ``stacklevel``: which caller a warning is attributed to; 2 is the caller of this function.

    Raises:
        NotDeterministicError: a command would not replay; the message lists every error. Nothing was opened.
    """
    if validate == "off":
        return
    findings = read_class(cls)
    if errors := [finding for finding in findings if finding.severity == "error" and validate == "error"]:
        lines = "".join(f"\n  {finding}" for finding in errors)
        raise NotDeterministicError(
            f"{cls.__qualname__} would not replay to the same state:{lines}",
            hint='mark methods that change nothing @readonly, or open with validate="warn"',
        )
    for finding in findings:
        warnings.warn(str(finding), DeterminismWarning, stacklevel=stacklevel)


def read_class(cls: type) -> list[Finding]:
    """Return what was found in ``cls``, errors first, each place once. Never raises and runs nothing of ``cls``."""
    direct: dict[object, tuple[str, MethodSource]] = {}
    through: dict[object, tuple[str, MethodSource]] = {}
    classes: dict[type, str] = {}
    findings: list[Finding] = []
    for name, source in _entries(cls).items():
        method = f"{cls.__qualname__}.{name}"
        findings += _refused_form(method, source)
        reached = reached_from(source, cls)
        for places, sources in ((direct, reached.direct), (through, reached.through_objects)):
            for found in sources:
                places.setdefault(found.function.__code__, (method, found))
        for constructed in reached.classes:
            classes.setdefault(constructed, method)
    findings += _unread(cls)
    for method, source in direct.values():
        findings += _read(method, source, cls)
    for code, (method, source) in through.items():
        if code not in direct:
            inside = _read(method, source, source.owner or cls)
            findings += [dataclasses.replace(finding, severity="warning") for finding in inside]
    for constructed, method in classes.items():
        findings += _default_factories(method, constructed)
    findings += _kept_by_queries(cls)
    return sorted(dict.fromkeys(findings), key=lambda finding: (finding.severity, finding.file, finding.line))


def _kept_by_queries(cls: type) -> Iterator[Finding]:
    """``cached_property``: who reads it first stores it in the object, and that is no command."""
    for name, source in methods_of(cls).items():
        if isinstance(source.raw, functools.cached_property):
            what = "is a cached_property, and reading it changes the object without a command"
            method = f"{cls.__qualname__}.{name}"
            yield Finding("warning", "cache", method, source.file, source.line, what, "make it a property")


def _entries(cls: type) -> dict[str, MethodSource]:
    """The commands to start from. A helper (``_name``) that some method uses counts as part of that method only."""
    methods, commands = methods_of(cls), commands_of(cls)
    used = {
        found.function.__code__
        for source in methods.values()
        for found in reached_from(source, cls).direct
        if found is not source
    }
    return {
        name: source
        for name, source in commands.items()
        if not (name.startswith("_") and not name.endswith("__") and source.function.__code__ in used)
    }


def _refused_form(method: str, source: MethodSource) -> list[Finding]:
    function = source.function
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        rule, what = "async", "is async, and calling it runs nothing of it"
    elif inspect.isgeneratorfunction(function):
        rule, what = "generator", "is a generator, and calling it runs nothing of it"
    else:
        return []
    instead = "mark it @readonly if it changes nothing, else make it a plain method"
    return [Finding("error", rule, method, source.file, source.line, what, instead)]


def _unread(cls: type) -> list[Finding]:
    """One warning for all commands without source: what nobody has read must not look as if it had been found good.

    Dunders are left out: those that ``dataclass`` and the like write have no source, and do nothing of their own.
    """
    unread = {name: s for name, s in commands_of(cls).items() if s.node is None and not name.startswith("__")}
    if not unread:
        return []
    first, methods = next(iter(unread.values())), f"{cls.__qualname__}.{', '.join(unread)}"
    what = "has no source that could be read, so nobody has checked whether it replays"
    instead = "put the class into a module, or try it with check=True"
    return [Finding("warning", "unread", methods, first.file, first.line, what, instead)]


def _default_factories(method: str, constructed: type) -> Iterator[Finding]:
    """``modified: datetime = field(default_factory=datetime.now)`` in a dataclass that a command constructs."""
    if not dataclasses.is_dataclass(constructed):
        return
    file, line = "?", 0
    with contextlib.suppress(OSError, TypeError):  # no source
        file, line = inspect.getsourcefile(constructed) or "?", inspect.getsourcelines(constructed)[1]
    for field in dataclasses.fields(constructed):
        owner = getattr(field.default_factory, "__self__", None)
        name = getattr(field.default_factory, "__name__", "")
        rule = _rule_of_class_method(owner, name) if is_a(owner, type) else _rule_of(field.default_factory)
        if rule is not None:
            what = f"constructs {constructed.__qualname__}, whose field {field.name!r} defaults to {rule.what}"
            yield Finding("warning", rule.name, method, file, line, what, rule.replacement)


# --- the rules


@dataclass(frozen=True, slots=True)
class _Rule:
    """``fine_with``: a call with so many arguments is no finding. ``None``: naming the thing is one already."""

    severity: Severity
    name: str
    what: str
    replacement: str
    fine_with: int | None = None


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_NEVER = 1_000
_BEFORE = "do it before the call and pass the result as an argument"
_AFTER = "do it outside the command"
_KEEP = "keep it in the object"


def _clock_rules() -> Iterator[tuple[object, _Rule]]:
    for base in _words("time monotonic perf_counter process_time thread_time clock_gettime"):
        for name in (base, f"{base}_ns"):
            if held := getattr(time, name, None):
                yield held, _Rule("error", "clock", f"time.{name}()", "use perdure.clock.time()")
    for name, arguments in {"localtime": 1, "gmtime": 1, "ctime": 1, "asctime": 1, "strftime": 2}.items():
        of_now = f"time.{name}() of this moment"
        yield getattr(time, name), _Rule("error", "clock", of_now, "give it perdure.clock.time()", arguments)
    yield time.sleep, _Rule("warning", "io", "time.sleep()", _AFTER, _NEVER)


def _random_rules() -> Iterator[tuple[object, _Rule]]:
    for name in _words("uuid1 uuid4 uuid6 uuid7 uuid8"):
        if held := getattr(uuid, name, None):
            yield held, _Rule("error", "randomness", f"uuid.{name}()", "use perdure.uuid4()")
    for name in ("urandom", "getrandom"):
        if held := getattr(os, name, None):
            yield held, _Rule("error", "randomness", f"os.{name}()", "use perdure.rng.randbytes()")
    # What perdure.rng gives can be computed again by whoever reads the journal: right for replay, wrong for a secret.
    for name in ("token_bytes", "token_hex", "token_urlsafe", "choice", "randbelow", "randbits"):
        instead = "make the secret before the call and pass it in"
        yield getattr(secrets, name), _Rule("error", "randomness", f"secrets.{name}()", instead)
    yield random.Random, _Rule("error", "randomness", "random.Random() without a seed", "use perdure.rng", 1)
    yield random.SystemRandom, _Rule("error", "randomness", "random.SystemRandom()", "use perdure.rng", _NEVER)


def _outside_rules() -> Iterator[tuple[object, _Rule]]:
    for name in ("open", "input"):
        yield getattr(builtins, name), _Rule("warning", "io", f"{name}()", _BEFORE, _NEVER)
    yield builtins.id, _Rule("warning", "identity", "id()", "use a number that the object itself keeps", _NEVER)
    yield builtins.hash, _Rule("warning", "hash", "hash()", "use hashlib: it differs per process", _NEVER)
    for name in _words("getenv getcwd getcwdb getpid getppid getlogin getuid cpu_count uname times"):
        if held := getattr(os, name, None):
            yield held, _Rule("warning", "environment", f"os.{name}()", _BEFORE, _NEVER)
    yield os.environ, _Rule("warning", "environment", "os.environ", _BEFORE)
    for name in _words("exists lexists isfile isdir islink getsize getmtime realpath abspath expanduser expandvars"):
        yield getattr(os.path, name), _Rule("warning", "io", f"os.path.{name}()", _BEFORE, _NEVER)
    for kind in (threading.Thread, threading.Timer):
        yield kind, _Rule("warning", "background", f"threading.{kind.__name__}", _AFTER, _NEVER)


# By identity; the thing itself is kept beside its rule, so that no id is ever reused.
_RULES = {id(held): (held, rule) for rules in (_clock_rules, _random_rules, _outside_rules) for held, rule in rules()}

# What is called from these modules. By prefix: `requests.get` lives in `requests.api`.
_IO_MODULES = _words(
    "socket ssl subprocess requests urllib.request urllib3 http.client httpx aiohttp shutil tempfile glob sqlite3 "
    "smtplib ftplib io _io os posix nt fileinput webbrowser"
)
_MODULES = {
    **dict.fromkeys(_IO_MODULES, ("io", _BEFORE)),
    **dict.fromkeys(("platform", "getpass", "pwd"), ("environment", _BEFORE)),
    **dict.fromkeys(("multiprocessing", "concurrent.futures", "asyncio", "_thread"), ("background", _AFTER)),
}
_HARMLESS = _words("fspath fsencode fsdecode strerror StringIO BytesIO Lock lock RLock allocate_lock")
_FILE_METHODS = _words("read_text write_text read_bytes write_bytes iterdir")


def _rule_of(held: object) -> _Rule | None:
    """The rule for an object, by what it is. Runs nothing of it."""
    if known := _RULES.get(id(held)):
        return known[1]
    kind = type(held)
    plain = issubclass(kind, (FunctionType, BuiltinFunctionType, MethodType, type)) or "cython" in kind.__name__
    name = str(getattr(held, "__name__", "")) if plain else ""
    # random.random is a method of a hidden random.Random, and numpy.random.rand of its like.
    generator = getattr(held, "__self__", held) if plain else held
    kind = type(generator)
    if issubclass(kind, random.Random) and kind.__module__.partition(".")[0] != "perdure":
        same = f"perdure.rng.{name}()" if name and hasattr(random.Random, name) else "perdure.rng"
        spelled = f"random.{name}()" if name else "a random.Random of the module"
        return _Rule("error", "randomness", spelled, f"use {same}")
    if kind.__module__.startswith("numpy.random") and not issubclass(kind, type):
        spelled = f"numpy.random.{name}()" if name else "a generator of the module"
        return _Rule("error", "randomness", spelled, "use perdure.rng, or a generator seeded from it")
    module = getattr(held, "__module__", None) if plain else None
    return _rule_of_module(held, name, module) if isinstance(module, str) and name not in _HARMLESS else None


def _rule_of_module(held: object, name: str, module: str) -> _Rule | None:
    if module.startswith("numpy.random") and name in ("default_rng", "RandomState"):
        return _Rule("error", "randomness", f"numpy.random.{name}() without a seed", "seed it from perdure.rng", 1)
    if is_a(held, type) and issubclass(held, BaseException):
        return None
    for outer, (rule, replacement) in _MODULES.items():
        if module == outer or module.startswith(outer + "."):
            shown = "os" if module in ("posix", "nt") else module
            return _Rule("warning", rule, f"{shown}.{name}()", replacement, _NEVER)
    return None


def _rule_of_class_method(owner: type, name: str) -> _Rule | None:
    if issubclass(owner, datetime.date):
        if issubclass(owner, datetime.datetime) and name in ("now", "utcnow", "today"):
            same = "utcnow" if name == "utcnow" else "now"
            return _Rule("error", "clock", f"datetime.datetime.{name}()", f"use perdure.clock.{same}()")
        if name == "today":
            return _Rule("error", "clock", "datetime.date.today()", "use perdure.clock.today()")
    outside = issubclass(owner, pathlib.PurePath) and name in ("cwd", "home")
    return _Rule("warning", "environment", f"pathlib.Path.{name}()", _BEFORE) if outside else None


# --- reading one function

_MUTATORS = _words(
    "append extend insert remove pop popitem clear update setdefault add discard sort reverse appendleft popleft "
    "extendleft rotate subtract"
)
_CONTAINERS = (list, dict, set, bytearray, collections.deque)
_ORDERED = (list, tuple, enumerate, iter, zip, map, filter)
_UNORDERED = (sorted, set, frozenset, sum, min, max, any, all, len)
_SET_METHODS = _words("union intersection difference symmetric_difference copy")


def _read(method: str, source: MethodSource, cls: type) -> list[Finding]:
    reader = _Reader(method, source, set_attributes(cls))
    reader.walk()
    return reader.findings


class _Reader(ScopedVisitor):
    def __init__(self, method: str, source: MethodSource, set_attributes: frozenset[str]) -> None:
        super().__init__(source)
        self.findings: list[Finding] = []
        self._method = method
        self._set_attributes = set_attributes
        self._set_locals = set_locals(source)
        self._order_is_lost: set[ast.AST] = set()  # expressions whose order nobody sees

    def _report(self, node: ast.AST, rule: _Rule) -> None:
        place = (
            ""
            if self.source.owner is not None and self._method.endswith(f".{self.source.name}")
            else (f" in {self.function.__qualname__}")
        )
        line = getattr(node, "lineno", self.source.line)
        found = (self._method, self.source.file, line, f"{rule.what}{place}", rule.replacement)
        self.findings.append(Finding(rule.severity, rule.name, *found))

    def visit_Name(self, node: ast.Name | ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load):
            base = self.resolve(node.value) if isinstance(node, ast.Attribute) else None
            rule = _rule_of_class_method(base, getattr(node, "attr", "")) if is_a(base, type) else None
            rule = rule or _rule_of(self.resolve(node))
            if rule is not None and rule.fine_with is None:
                self._report(node, rule)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.visit_Name(node)
        if not isinstance(node.ctx, ast.Load):
            self._stored(node)
        self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._stored(node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        held = self.resolve(node.func)
        rule = _rule_of(held)
        given = len(node.args) + len(node.keywords)
        starred = any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords)
        if rule is not None and rule.fine_with is not None and given < rule.fine_with:
            if not starred or rule.fine_with == _NEVER:
                self._report(node, rule)
        if isinstance(node.func, ast.Attribute):
            self._called_on(node, node.func)
        if held is next and node.args and hasattr(type(self.resolve(node.args[0])), "__next__"):
            self._report(node, _Rule("warning", "global", f"advances {ast.unparse(node.args[0])}", _KEEP))
        if _among(held, _UNORDERED):
            self._order_is_lost.update(node.args)
            for argument in node.args:
                if isinstance(argument, ast.Call) and _among(self.resolve(argument.func), _ORDERED):
                    self._order_is_lost.update(argument.args)
        elif _among(held, _ORDERED):
            self._iterated(node.args, node)
        self.generic_visit(node)

    def _called_on(self, node: ast.Call, func: ast.Attribute) -> None:
        base, shown = self.resolve(func.value), ast.unparse(func.value)
        if func.attr in _MUTATORS and issubclass(type(base), _CONTAINERS):
            self._report(node, _Rule("warning", "global", f"changes {shown}, which is outside the object", _KEEP))
        elif func.attr in _FILE_METHODS and base is UNKNOWN:
            self._report(node, _Rule("warning", "io", f".{func.attr}()", _BEFORE))
        if func.attr in ("join", "extend", "fromkeys"):
            self._iterated(node.args, node)
        elif func.attr == "pop" and not node.args and self._is_set(func.value):
            self._report(node, _Rule("warning", "set-order", "pop() of a set", "take min() or sorted() of it"))

    # --- state outside the object

    def visit_Global(self, node: ast.Global) -> None:
        self._report(node, _Rule("warning", "global", f"global {', '.join(node.names)}", _KEEP))

    def _stored(self, node: ast.Attribute | ast.Subscript) -> None:
        root: ast.expr = node.value
        while isinstance(root, (ast.Attribute, ast.Subscript)) and self.resolve(root) is not CLASS:
            root = root.value
        held = self.resolve(root)
        if held is not UNKNOWN and held is not SELF:
            self._report(
                node, _Rule("warning", "global", f"changes {ast.unparse(node)}, which is outside the object", _KEEP)
            )

    # --- the order of sets

    def visit_For(self, node: ast.For) -> None:
        self._iterated([node.iter], node)
        self.generic_visit(node)

    def visit_Starred(self, node: ast.Starred) -> None:
        if isinstance(node.ctx, ast.Load):
            self._iterated([node.value], node)
        self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, (ast.ListComp, ast.DictComp, ast.GeneratorExp)) and node not in self._order_is_lost:
            self._iterated([generator.iter for generator in node.generators], node)
        super().generic_visit(node)

    def _iterated(self, iterated: list[ast.expr], by: ast.AST) -> None:
        for each in iterated:
            if by not in self._order_is_lost and each not in self._order_is_lost and self._is_set(each):
                what = f"depends on the order of the set {ast.unparse(each)}"
                self._report(each, _Rule("warning", "set-order", what, f"use sorted({ast.unparse(each)})"))

    def _is_set(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return node.id in self._set_locals
        if isinstance(node, ast.Attribute):
            return node.attr in self._set_attributes and self.resolve(node.value) is SELF
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)):
            return self._is_set(node.left) or self._is_set(node.right)
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr in _SET_METHODS:
                return self._is_set(node.func.value)
            return _among(self.resolve(node.func), (set, frozenset)) and bool(node.args)
        return is_set_display(node)


def _among(held: object, known: tuple[object, ...]) -> bool:
    """``in`` by identity: an object of the module may have an ``==`` of its own."""
    return any(held is each for each in known)
