"""Directory trees in memory and on disk."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from perdure.fs import DIRECTORY_MODE, FILE_MODE, TEMPORARY_MARK
from perdure.testing.crashsim._changes import Tree

_RANDOM_PART = re.compile(re.escape(TEMPORARY_MARK) + "[0-9a-f]{16}")


def read_tree(directory: str) -> Tree:
    """Path below the directory → content, or ``None`` for a directory."""
    found: Tree = {}
    for place, directories, files in os.walk(directory):
        prefix = os.path.relpath(place, directory)
        prefix = "" if prefix == "." else prefix + "/"
        for name in directories:
            found[prefix + name] = None
        for name in files:
            with open(os.path.join(place, name), "rb") as file:
                found[prefix + name] = file.read()
    return found


def write_tree(tree: Tree, directory: str) -> None:
    """Replaces the directory."""
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory, DIRECTORY_MODE)
    for path in sorted(tree):
        content = tree[path]
        whole = os.path.join(directory, path)
        if content is None:
            os.mkdir(whole, DIRECTORY_MODE)
            continue
        fd = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        try:
            os.write(fd, content)
        finally:
            os.close(fd)


def digest_of(tree: Tree, *promises: int) -> bytes:
    """Equal for trees that differ in the random parts of temporary names only."""
    total = hashlib.blake2b(repr(promises).encode(), digest_size=12)
    named = (
        (_RANDOM_PART.sub(TEMPORARY_MARK, path), content is None, content or b"") for path, content in tree.items()
    )
    for path, is_directory, content in sorted(named):
        total.update(f"{path}\0{is_directory}\0{len(content)}\0".encode())
        total.update(content)
    return total.digest()


@contextmanager
def workspace() -> Iterator[str]:
    """A directory that is gone afterwards; in memory where the system has such a place."""
    memory = "/dev/shm"
    parent = memory if os.path.isdir(memory) and os.access(memory, os.W_OK) else None
    directory = os.path.realpath(tempfile.mkdtemp(prefix="perdure-crashsim-", dir=parent))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
