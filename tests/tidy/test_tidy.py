"""The house rules, executed. Each rule reads one parsed file and names what it finds; each is shown to be able to."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "perdure"
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

# The only door to the disk, and the two that stand outside it: the command line reads what people hand it, and the
# faulty file system of `testing` has to reach the real one.
DISK_DOORS = ("fs.py", "cli/", "testing/")
DISK_CALLS = {
    "open", "io.open", "os.open", "os.fdopen", "os.fsync", "os.fdatasync", "os.sync", "os.rename", "os.renames",
    "os.replace", "os.unlink", "os.remove", "os.truncate", "os.ftruncate", "fcntl.flock", "fcntl.lockf", "fcntl.fcntl",
    "shutil.move", "shutil.rmtree",
}  # fmt: skip
PICKLE_READERS = {"load", "loads", "Unpickler", "_Unpickler"}
CODE_RUNNERS = {"eval", "exec", "os.system", "os.popen"}


@dataclass(frozen=True)
class File:
    """One source file: ``name`` is its path below src/perdure, with forward slashes."""

    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.name)

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def imported(self) -> dict[str, str]:
        """Local name → dotted origin, so that neither ``import os as o`` nor ``from os import fsync`` hides a call."""
        origins = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    origins[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    origins[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        return origins

    def origin(self, node: ast.expr) -> str | None:
        """The dotted name that an expression such as ``os.fsync`` stands for; None for anything else."""
        if isinstance(node, ast.Name):
            return self.imported.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            left = self.origin(node.value)
            return f"{left}.{node.attr}" if left else None
        return None

    def names_used(self) -> Iterator[tuple[int, str]]:
        """Line and dotted origin of every loaded name, called or handed on; annotations aside, which do nothing."""
        annotations = {
            part
            for node in ast.walk(self.tree)
            for field in ("annotation", "returns")
            if isinstance(annotation := getattr(node, field, None), ast.expr)
            for part in ast.walk(annotation)
        }
        for node in ast.walk(self.tree):
            if (
                isinstance(node, ast.Name | ast.Attribute)
                and isinstance(node.ctx, ast.Load)
                and node not in annotations
            ):
                if origin := self.origin(node):
                    yield node.lineno, origin

    def has_comment(self, first: int, last: int) -> bool:
        """Whether a line between ``first`` and ``last`` (from 1, inclusive) carries a comment that says something."""
        return any(
            re.search(r"#\s*(?!noqa|type:|pragma|fmt:)\w", line) for line in self.lines[max(first - 1, 0) : last]
        )


# --- the rules ---


def file_length(file: File) -> Iterator[str]:
    """A file of more than 500 lines holds a second concept."""
    if len(file.lines) > FILE_LINES_MAX:
        yield f"{file.name}: {len(file.lines)} lines, at most {FILE_LINES_MAX}"


def function_length(file: File) -> Iterator[str]:
    """A function fits a screen: 70 lines, decorators aside."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count = (node.end_lineno or node.lineno) - node.lineno + 1
            if count > FUNCTION_LINES_MAX:
                yield f"{file.name}:{node.lineno}: {node.name} has {count} lines, at most {FUNCTION_LINES_MAX}"


def broad_except(file: File) -> Iterator[str]:
    """Catching everything is no way to go on. To tidy up, and end by raising, is fine; anything else says why.

    The comment stands on the ``except`` line, or between it and the first statement.
    """
    for node in ast.walk(file.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        names = {file.origin(kind) if kind else "everything" for kind in kinds}
        if not names & {"everything", "Exception", "BaseException"}:
            continue
        if all(isinstance(statement, ast.Pass | ast.Continue) or is_ellipsis(statement) for statement in node.body):
            yield f"{file.name}:{node.lineno}: every error is swallowed"
        elif not ends_by_raising(node) and not file.has_comment(node.lineno, node.body[0].lineno):
            yield f"{file.name}:{node.lineno}: every error is caught and no comment says why"


def printing(file: File) -> Iterator[str]:
    """A library does not print; the command line does."""
    if file.name.startswith("cli/") or file.name == "cli.py":
        return
    for line, origin in file.names_used():
        if origin == "print":
            yield f"{file.name}:{line}: print outside the command line"


def unfinished(file: File) -> Iterator[str]:
    """What is not finished is not merged with a note that says so."""
    for number, line in enumerate(file.lines, 1):
        if re.search(r"\b(TODO|FIXME|XXX)\b", line):
            yield f"{file.name}:{number}: {line.strip()}"


def docstrings(file: File) -> Iterator[str]:
    """Every file says what it is for, and so does every public class and function of a public file.

    What a private file (``_name.py``) defines is public when its package exports it: see the test of exported names.
    """
    if not ast.get_docstring(file.tree):
        yield f"{file.name}: no docstring"
    private_file = any(part.startswith("_") and part != "__init__.py" for part in file.name.split("/"))
    if not private_file:
        yield from undocumented(file, file.tree)


def disk(file: File) -> Iterator[str]:
    """Only ``fs`` opens, syncs, renames, removes and locks."""
    if file.name.startswith(DISK_DOORS):
        return
    for line, origin in file.names_used():
        if origin in DISK_CALLS:
            yield f"{file.name}:{line}: {origin} outside fs.py"


def unpickling(file: File) -> Iterator[str]:
    """Every unpickling stands with its reason, on its line or the one above."""
    for line, origin in file.names_used():
        module, _, name = origin.rpartition(".")
        if module in ("pickle", "_pickle", "cloudpickle", "dill", "marshal") and name in PICKLE_READERS:
            if not file.has_comment(line - 1, line):
                yield f"{file.name}:{line}: {origin} without its reason"


def running_code(file: File) -> Iterator[str]:
    """Text never becomes code."""
    for line, origin in file.names_used():
        if origin.removeprefix("builtins.") in CODE_RUNNERS:
            yield f"{file.name}:{line}: {origin}"


RULES: list[Callable[[File], Iterator[str]]] = [
    file_length,
    function_length,
    broad_except,
    printing,
    unfinished,
    docstrings,
    disk,
    unpickling,
    running_code,
]


def is_ellipsis(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def ends_by_raising(handler: ast.ExceptHandler) -> bool:
    """Whether the same error goes on, or another one that carries it (``from error``)."""
    last = handler.body[-1]
    if not isinstance(last, ast.Raise):
        return False
    return last.exc is None or (isinstance(last.cause, ast.Name) and last.cause.id == handler.name)


def undocumented(file: File, scope: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, ast.If | ast.Try | ast.ExceptHandler):
            yield from undocumented(file, node)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            overload = any(ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list)
            if not node.name.startswith("_") and not overload and not ast.get_docstring(node):
                yield f"{file.name}:{node.lineno}: {node.name} has no docstring"


# --- applied to the source ---


def source_files() -> list[File]:
    paths = sorted(SOURCE.rglob("*.py"))
    return [File(path.relative_to(SOURCE).as_posix(), path.read_text("utf-8")) for path in paths]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_source_keeps_the_rule(rule: Callable[[File], Iterator[str]]) -> None:
    findings = [finding for file in source_files() for finding in rule(file)]
    assert not findings, f"{rule.__doc__}\n" + "\n".join(findings)


def test_every_exported_name_has_a_docstring() -> None:
    findings = []
    for path in sorted(SOURCE.rglob("__init__.py")):
        name = ".".join(("perdure", *path.parent.relative_to(SOURCE).parts))
        try:
            package = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] == "perdure":
                raise
            # The package needs an extra that is not installed here.
            continue
        for export in getattr(package, "__all__", ()):
            value = getattr(package, export)
            # Type aliases and constants are documented where they are defined, in a form that cannot be asked for.
            if (inspect.isclass(value) or inspect.isroutine(value)) and not value.__doc__:
                findings.append(f"{name}.{export}")
    assert not findings, "exported without a docstring:\n" + "\n".join(findings)


def test_package_ships_its_types() -> None:
    assert (SOURCE / "py.typed").exists()


# --- each rule can fail, and lets the allowed pass ---

LONG_BODY = "\n".join("    x = 1" for _ in range(FUNCTION_LINES_MAX))

BAD = [
    (file_length, "a.py", "x = 1\n" * (FILE_LINES_MAX + 1)),
    (function_length, "a.py", f"def f():\n{LONG_BODY}\n"),
    (broad_except, "a.py", "try:\n    f()\nexcept:\n    pass  # why not\n"),
    (broad_except, "a.py", "try:\n    f()\nexcept Exception:\n    pass\n"),
    (broad_except, "a.py", "try:\n    f()\nexcept (KeyError, BaseException):\n    ...\n"),
    (broad_except, "a.py", "try:\n    f()\nexcept Exception as error:\n    log(error)\n"),
    (broad_except, "a.py", "try:\n    f()\nexcept Exception as e:\n    raise Other from None\n"),
    (broad_except, "a.py", "try:\n    f()\nexcept Exception:  # noqa: BLE001\n    log()\n"),
    (printing, "journal/_file.py", "print('hello')\n"),
    (printing, "a.py", "show = print\n"),
    (unfinished, "a.py", "x = 1  # TODO: sync\n"),
    (docstrings, "a.py", "x = 1\n"),
    (docstrings, "a.py", '"""A."""\ndef f(): ...\n'),
    (docstrings, "journal/_file.py", "def f(): ...\n"),
    (docstrings, "journal/__init__.py", '"""J."""\ndef f(): ...\n'),
    (docstrings, "a.py", '"""A."""\nif True:\n    class C: ...\n'),
    (disk, "journal/_file.py", "open('f')\n"),
    (disk, "a.py", "import os\nos.fsync(3)\n"),
    (disk, "a.py", "import os as o\no.replace('a', 'b')\n"),
    (disk, "a.py", "from os import rename as move\nmove('a', 'b')\n"),
    (disk, "a.py", "import os\nsync = os.fdatasync\n"),
    (disk, "a.py", "from fcntl import flock\nflock(1, 2)\n"),
    (unpickling, "a.py", "import pickle\npickle.loads(b'')\n"),
    (unpickling, "a.py", "import pickle\nclass U(pickle.Unpickler): ...\n"),
    (unpickling, "a.py", "from pickle import load as read\n\nread(f)  # noqa: S301\n"),
    (running_code, "a.py", "eval('1')\n"),
    (running_code, "a.py", "import builtins\nbuiltins.exec('x = 1')\n"),
    (running_code, "a.py", "from os import system\nsystem('ls')\n"),
]

GOOD = [
    (file_length, "a.py", "x = 1\n" * FILE_LINES_MAX),
    (function_length, "a.py", f"@cache\n@wraps\ndef f():\n{LONG_BODY}".rpartition("\n")[0]),
    (broad_except, "a.py", "try:\n    f()\nexcept KeyError:\n    pass\n"),
    (broad_except, "a.py", "try:\n    f()\nexcept BaseException:\n    undo()\n    raise\n"),
    (broad_except, "a.py", "try:\n    f()\nexcept Exception as e:\n    raise Other from e\n"),
    (broad_except, "a.py", "try:\n    f()\nexcept Exception as e:\n    # A job may raise anything.\n    keep(e)\n"),
    (printing, "cli/_info.py", "print('hello')\n"),
    (printing, "a.py", '"""Never print( here."""\n'),
    (unfinished, "a.py", "todo_keys = []\n"),
    (docstrings, "journal/_file.py", '"""F."""\ndef f(): ...\n'),
    (docstrings, "a.py", '"""A."""\n@overload\ndef g(): ...\n'),
    (docstrings, "a.py", '"""A."""\ndef _f(): ...\nclass C:\n    """C."""\n    def m(self): ...\n'),
    (disk, "fs.py", "import os\nos.fsync(3)\n"),
    (disk, "a.py", "from perdure import fs\nfs.open('f')\nself.open('f')\nperdure.open(Wiki)\n"),
    (disk, "a.py", "def open(target): ...\n"),
    (unpickling, "a.py", "import pickle\n# Written by this process a moment ago.\npickle.loads(b'')\n"),
    (unpickling, "a.py", "import pickle\ndef f(u: pickle.Unpickler) -> type[pickle.Unpickler]: ...\n"),
    (unpickling, "a.py", "import json\njson.loads('1')\n"),
    (running_code, "a.py", "self.exec('x')\nre.compile('x')\n"),
]


@pytest.mark.parametrize(("rule", "name", "text"), BAD)
def test_rule_finds_what_it_forbids(rule: Callable[[File], Iterator[str]], name: str, text: str) -> None:
    assert list(rule(File(name, text)))


@pytest.mark.parametrize(("rule", "name", "text"), GOOD)
def test_rule_lets_the_allowed_pass(rule: Callable[[File], Iterator[str]], name: str, text: str) -> None:
    assert not list(rule(File(name, text)))


def test_every_rule_is_shown_to_fail_and_to_pass() -> None:
    assert {rule for rule, _, _ in BAD} == {rule for rule, _, _ in GOOD} == set(RULES)


# --- the checks of conftest.py can fail, too ---


def test_leaks_are_found_and_reasons_are_demanded(pytester: pytest.Pytester) -> None:
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text("utf-8"))
    pytester.makeini("[pytest]\nmarkers =\n    leaky(reason): x\n    crash: x\n    root: x\n")
    pytester.makepyfile(
        textwrap.dedent("""
        import os, threading, time, pytest

        kept = []

        def test_fd_left_open():
            kept.append(os.open("/", os.O_RDONLY))

        def test_thread_left_running():
            threading.Thread(target=time.sleep, args=(8,), name="straggler").start()

        @pytest.mark.leaky("to see that it may")
        def test_excused():
            kept.append(os.open("/", os.O_RDONLY))

        @pytest.mark.leaky()
        def test_excused_without_a_reason(): ...

        def test_clean(tmp_path):
            with open(tmp_path / "f", "w"): ...
            thread = threading.Thread(target=time.sleep, args=(0.1,))
            thread.start()
        """)
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=4, errors=3)
    result.stdout.fnmatch_lines(["*file descriptors left open: * → /*", "*threads left running: straggler*"])
