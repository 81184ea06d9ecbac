"""Folders that tastypy wrote.

``0.json``, ``1.json``, … or the same with ``.gz``: a line per pair, the key, a tab, the value, both JSON. In a key's
text every backslash is doubled.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator

import msgspec

from perdure.errors import CodecError, CorruptError, MissingError
from perdure.fs import Fs, existing_directory
from perdure.mapping._dict import PersistentDict
from perdure.mapping._importers._report import ImportReport, Pair, take_over

_NAME = re.compile(r"(\d+)\.json(\.gz)?")


def import_tastypy(folder: str | os.PathLike[str], into: PersistentDict) -> ImportReport:
    """Puts what a ``tastypy.POD`` or ``tastypy.Tracker`` kept into a dict, in its order.

    Raises:
        MissingError: there is no such folder, or it holds no such files.
        CorruptError: a line is not of that form, or a gzipped file is damaged; file and line are named. What stands
        before it has been imported.
    """
    fs = Fs()
    directory = existing_directory(os.fspath(folder))
    found = sorted((int(match[1]), name) for name in fs.names(directory) if (match := _NAME.fullmatch(name)))
    if not found:
        raise MissingError("no tastypy files (0.json, 1.json, …) are here", path=directory)
    return take_over(_pairs(fs, [os.path.join(directory, name) for _, name in found]), into)


def _pairs(fs: Fs, paths: list[str]) -> Iterator[Pair]:
    for path in paths:
        data = fs.read_all(path)
        if path.endswith(".gz"):
            try:
                data = zlib.decompress(data, 31)
            except zlib.error as error:
                raise CorruptError(f"the gzipped file is damaged: {error}", path=path) from error
        for number, line in enumerate(data.split(b"\n"), 1):
            if line:
                key, tab, value = line.partition(b"\t")
                if not tab:
                    raise CorruptError(f"line {number}: no tab stands between key and value", path=path)
                yield _key(key, path, number), _reader(value, path, number)


def _key(text: bytes, path: str, number: int) -> str:
    for form in (text.replace(b"\\\\", b"\\"), text):
        try:
            return msgspec.json.decode(form, type=str)
        except (msgspec.MsgspecError, ValueError):
            continue
    raise CorruptError(f"line {number}: the key is not JSON text: {text[:80]!r}", path=path)


def _reader(text: bytes, path: str, number: int) -> Callable[[], object]:
    def read() -> object:
        try:
            return msgspec.json.decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            if text in (b"NaN", b"Infinity", b"-Infinity") or b"NaN" in text or b"Infinity" in text:
                raise CodecError(f"{path}, line {number}: not a finite number") from error
            raise CorruptError(f"line {number}: the value is not JSON: {error}", path=path) from error

    return read
