"""The text of a function: what it does, written the same on every Python from 3.11.

Taken from the syntax tree, in a form of our own: ``ast.dump`` and ``ast.unparse`` differ between Python versions.
Comments, formatting, docstrings, type hints and line numbers leave it as it is.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
from collections.abc import Iterator
from types import CodeType, FunctionType

# Fields that do not change what code does, or that only some Python versions have.
_IGNORED = frozenset({"ctx", "kind", "type_comment", "annotation", "returns", "type_params", "lineno", "simple"})
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_MADE_BY_DATACLASS = frozenset(
    "__init__ __repr__ __eq__ __lt__ __le__ __gt__ __ge__ __hash__ __setattr__ __delattr__ __replace__ __getstate__ "
    "__setstate__".split()
)


def text_of(function: FunctionType, node: ast.AST | None, owner: type | None) -> str:
    """What ``function`` does. ``node``: its syntax tree, if it was found; ``owner``: the class that holds it, if any.

    Methods that ``@dataclass`` and ``namedtuple`` make have no source, and each Python makes them otherwise: of them
    counts what the class says of its fields. Where else there is no tree it is the compiled code, tagged with Python's
    version.
    """
    if node is not None:
        return canonical(node)
    if owner is not None and function.__code__.co_filename == "<string>":
        if dataclasses.is_dataclass(owner) and function.__name__ in _MADE_BY_DATACLASS:
            return _fields_text(owner)
        if issubclass(owner, tuple) and (function.__module__ or "").startswith("namedtuple_"):
            return (
                f"{owner.__qualname__} {getattr(owner, '_fields', ())} {sorted(getattr(owner, '_field_defaults', ()))}"
            )
    if function.__qualname__.startswith("__create_fn__.<locals>.") and function.__code__.co_filename == "<string>":
        return "dataclass"  # Under a wrapper; another of its methods says what the fields are.
    version = ".".join(map(str, sys.version_info[:2]))
    return f"{sys.implementation.name} {version} {_code_text(function.__code__)}"


def canonical(node: ast.AST) -> str:
    """Write a syntax tree as text that is equal on every Python from 3.11 and for every way to lay out the code."""
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__}:{_constant(node.value)}"
    if isinstance(node, ast.JoinedStr):
        return f"JoinedStr({','.join(_joined(node))})"
    fields = []
    for name, value in ast.iter_fields(node):
        if name in _IGNORED:
            continue
        written = _field(node, name, value)
        if written:
            fields.append(f"{name}={written}")
    return f"{type(node).__name__}({','.join(fields)})"


def _field(owner: ast.AST, name: str, value: object) -> str:
    """An absent field and an empty one are both written as nothing: versions differ in which they have."""
    if isinstance(value, list):
        items = value
        if name == "body":
            items = _without_docstring(owner, value)
        if name in ("body", "orelse", "finalbody"):
            items = [item for item in items if not isinstance(item, ast.Pass)]
        return f"[{','.join(_item(item) for item in items)}]" if items else ""
    if value is None:
        return ""
    if name == "format_spec" and isinstance(value, ast.JoinedStr) and not list(_joined(value)):
        return ""
    return _item(value)


def _item(value: object) -> str:
    return canonical(value) if isinstance(value, ast.AST) else repr(value)


def _without_docstring(owner: ast.AST, body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if (
        isinstance(owner, (*_FUNCTIONS, ast.ClassDef))
        and isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        return body[1:]
    return body


def _joined(node: ast.JoinedStr) -> Iterator[str]:
    """The parts of an f-string. Neighbouring texts are one and empty ones none: versions differ in how they cut."""
    text = ""
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += str(part.value)
            continue
        if text:
            yield f"str:{text!a}"
        text = ""
        yield canonical(part)
    if text:
        yield f"str:{text!a}"


def _constant(value: object) -> str:
    if isinstance(value, str):
        # Which characters repr() escapes follows the Unicode tables of the Python version.
        return ascii(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return hex(value)  # repr() refuses more than 4300 digits
    return repr(value)


def _fields_text(cls: type) -> str:
    """What a data class and its bases say of their fields: decorators, names, defaults, in order."""
    return ";".join(_own_fields_text(base) for base in cls.__mro__ if "__dataclass_fields__" in vars(base))


def _own_fields_text(cls: type) -> str:
    try:
        node = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError, SyntaxError, ValueError, IndexError):
        node = None
    if not isinstance(node, ast.ClassDef):
        return f"{cls.__qualname__} {list(vars(cls)['__dataclass_fields__'])}"
    said = [*node.decorator_list, *(each for each in node.body if isinstance(each, ast.AnnAssign | ast.Assign))]
    return f"{cls.__qualname__} {','.join(map(canonical, said))}"


def _code_text(code: CodeType) -> str:
    consts = ",".join(_const_text(const) for const in code.co_consts)
    return f"{code.co_name} {code.co_code.hex()} [{consts}] {code.co_names} {code.co_varnames}"


def _const_text(const: object) -> str:
    if isinstance(const, CodeType):
        return _code_text(const)
    if isinstance(const, tuple):
        return f"({','.join(_const_text(item) for item in const)})"
    if isinstance(const, frozenset):
        return f"{{{','.join(sorted(_const_text(item) for item in const))}}}"
    return f"{type(const).__name__}:{_constant(const)}"
