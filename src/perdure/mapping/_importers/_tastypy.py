"""Folders that tastypy wrote.

``0.json``, ``1.json``, … or the same with ``.gz``: a line per pair, the key, a tab, the value, both JSON. In a key's
text every backslash is doubled.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import msgspec

from perdure.errors import CodecError, CorruptError, MissingError
from perdure.fs import Fs, existing_directory
from perdure.mapping._dict import PersistentDict
from perdure.mapping._importers._report import ImportReport, Pair, take_over
from perdure.mapping._keys import Key, key_from_json

_NAME = re.compile(r"(\d+)\.json(\.gz)?")


def import_tastypy(folder: str | os.PathLike[str], into: PersistentDict) -> ImportReport:
    """Puts what a ``tastypy.POD`` or ``tastypy.Tracker`` kept into a dict, in its order.

    Lines that are not of that form, and files that are missing between others, are passed over and named.

    Raises:
        MissingError: there is no such folder, or it holds no such files.
        CorruptError: a gzipped file is damaged. What stands in those before it has been imported.
    """
    fs = Fs()
    directory = existing_directory(os.fspath(folder))
    found = sorted((int(match[1]), name) for name in fs.names(directory) if (match := _NAME.fullmatch(name)))
    if not found:
        raise MissingError("no tastypy files (0.json, 1.json, …) are here", path=directory)
    return take_over(_pairs(fs, directory, found), into)


def _pairs(fs: Fs, directory: str, found: list[tuple[int, str]]) -> Iterator[Pair]:
    expected = 0
    for position, name in found:
        if position > expected:
            yield _refused(f"{expected}.json", f"the files before {name} are missing")
        expected = position + 1
        path = os.path.join(directory, name)
        data = fs.read_all(path)
        if path.endswith(".gz"):
            try:
                data = zlib.decompress(data, 31)
            except zlib.error as error:
                raise CorruptError(f"the gzipped file is damaged: {error}", path=path) from error
        for number, line in enumerate(data.split(b"\n"), 1):
            if line:
                yield _pair(line, f"{name}, line {number}")


def _pair(line: bytes, place: str) -> Pair:
    key_text, tab, text = line.partition(b"\t")
    if not tab:
        return _refused(place, "no tab stands between key and value")
    try:
        return _key(key_text), _reader(text, place)
    except CodecError as error:
        return _refused(place, error.message)


def _refused(place: str, reason: str) -> Pair:
    def read() -> NoReturn:
        raise CodecError(reason)

    return place, read


def _key(text: bytes) -> Key:
    found: Any
    for form in (text.replace(b"\\\\", b"\\"), text):
        try:
            found = msgspec.json.decode(form)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            continue
        return key_from_json(found)
    raise CodecError(f"the key is not JSON: {text[:80]!r}")


def _reader(text: bytes, place: str) -> Callable[[], object]:
    def read() -> object:
        try:
            return msgspec.json.decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            if b"NaN" in text or b"Infinity" in text:
                raise CodecError(f"{place}: not a finite number") from error
            raise CodecError(f"{place}: the value is not JSON: {error}") from error

    return read
