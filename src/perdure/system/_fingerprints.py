"""A short digest of what each command does, to tell when code has changed under a journal.

The digest covers the command and everything of its own module that it leads to (``_reading.Reached``): a change in a
helper shows in every command that uses it. It is taken from the syntax tree, written out in a form of our own,
because ``ast.dump`` and ``ast.unparse`` differ between Python versions. Comments, formatting, docstrings, type hints
and line numbers leave it as it is, and so does moving to another Python.

Where no source can be found it falls back to the compiled code, tagged with the Python version: there a new Python
looks like a change, which costs a warning and no data.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Final

from ._reading import MethodSource, commands_of, reached_from

FORMAT: Final = b"perdure-fingerprint-1"  # Change it with anything below: old digests then read as changed code.

# Fields that do not change what code does, or that only some Python versions have.
_IGNORED = frozenset({"ctx", "kind", "type_comment", "annotation", "returns", "type_params", "lineno", "simple"})
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def fingerprints(cls: type) -> dict[str, str]:
    """Return 16 hex digits for each command of ``cls``, by its name, in the order of names. Never raises."""
    return {name: _fingerprint(source, cls) for name, source in sorted(commands_of(cls).items())}


def changed_methods(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return the names in ``old`` that are gone from ``new`` or differ there, sorted. An added method is no change."""
    return sorted(name for name, digest in old.items() if new.get(name) != digest)


def _fingerprint(source: MethodSource, cls: type) -> str:
    reached = reached_from(source, cls)
    digest = hashlib.blake2b(FORMAT, digest_size=8)
    # The order of discovery follows the order of statements; the digest must only follow what they are.
    parts = sorted({_written(found) for found in (*reached.direct, *reached.through_objects) if found is not source})
    for part in (_written(source), *parts):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


@functools.lru_cache(maxsize=8192)
def _written(source: MethodSource) -> bytes:
    if source.node is not None:
        text = canonical(source.node)
    else:
        version = ".".join(map(str, sys.version_info[:2]))
        text = f"{sys.implementation.name} {version} {_code_text(source.function.__code__)}"
    return text.encode("utf-8", "surrogatepass")


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
