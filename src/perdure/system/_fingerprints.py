"""A short digest of what each command does, to tell when code has changed under a journal.

The digest covers the command and everything of its own module that it leads to (``_reading.Reached``): a change in a
helper shows in every command that uses it. ``perdure.syntax`` says what leaves it as it is; so does moving to another
Python. What comes with Python, like the members that ``Enum`` puts into a class, does not count.

Where no source can be found the compiled code counts: there a new Python looks like a change, which costs a warning and
no data.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Mapping
from typing import Final

from perdure.syntax import text_of

from ._reading import MethodSource, commands_of, reached_from

FORMAT: Final = b"perdure-fingerprint-1"  # Change it with anything below: old digests then read as changed code.

_LIBRARY = os.path.dirname(os.__file__)


def fingerprints(cls: type) -> dict[str, str]:
    """Return 16 hex digits for each command of ``cls``, by its name, in the order of names. Never raises."""
    commands = sorted(commands_of(cls).items())
    return {name: _fingerprint(source, cls) for name, source in commands if not _comes_with_python(source)}


def changed_methods(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return the names in ``old`` that are gone from ``new`` or differ there, sorted. An added method is no change."""
    return sorted(name for name, digest in old.items() if new.get(name) != digest)


def _fingerprint(source: MethodSource, cls: type) -> str:
    reached = reached_from(source, cls)
    digest = hashlib.blake2b(FORMAT, digest_size=8)
    # The order of discovery follows the order of statements; the digest must only follow what they are.
    others = [found for found in (*reached.direct, *reached.through_objects) if found is not source]
    parts = sorted({_written(found) for found in others if not _comes_with_python(found)})
    for part in (_written(source), *parts):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _comes_with_python(source: MethodSource) -> bool:
    module = source.function.__module__ or ""
    return module.partition(".")[0] in sys.stdlib_module_names and source.file.startswith(_LIBRARY)


@functools.lru_cache(maxsize=8192)
def _written(source: MethodSource) -> bytes:
    return text_of(source.function, source.node, source.owner).encode("utf-8", "surrogatepass")
