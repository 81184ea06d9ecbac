"""Directories for the command line to look into."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import perdure

# Not read for determinism: one of the methods is there to be found by `verify`.
_OPTIONS = {"snapshot": "manual", "keep_history": True, "validate": "off"}


def open_wiki(app: Any, directory: Path, **options: Any) -> Any:
    return perdure.open(app.module.Wiki, str(directory), **{**_OPTIONS, **options})


def make_wiki(app: Any, directory: Path, **options: Any) -> str:
    """Every kind of command, and a snapshot in between; returns the digest of the state at the end."""
    wiki = open_wiki(app, directory, **options)
    wiki.create("Home", "Welcome")
    wiki.create("é[b]", "x" * 200)
    with contextlib.suppress(ValueError):
        wiki.fail()
    wiki.put(app.module.Page("Second", "made outside"), when=1.5)
    perdure.control(wiki).take_snapshot()
    with contextlib.suppress(KeyError):
        wiki.guarded()
    wiki.edit("Home", "Hello")
    wiki.extend(b"bytes", float("nan"), [1, [2]], {"k": (1, 2)}, {3, 4})
    perdure.control(wiki).take_snapshot()
    digest = perdure.control(wiki).digest()
    perdure.control(wiki).close()
    return digest


def tree(directory: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of change of each file, and of the folders."""
    found = {}
    for path in [directory, *directory.rglob("*")]:
        data = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (data, path.stat().st_mtime_ns)
    return found


def damage(directory: Path, marker: bytes = b"Hello") -> None:
    """Flips a bit of the journal where it says ``marker``."""
    for path in directory.glob("journal-*"):
        data = bytearray(path.read_bytes())
        position = data.find(marker)
        if position >= 0:
            data[position] ^= 1
            path.write_bytes(data)
            return
    raise AssertionError(f"no segment says {marker!r}")
