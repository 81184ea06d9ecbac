"""Blobs at any place that fsspec reaches: S3, GCS, Azure, a shared directory."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, unquote

from perdure.errors import MissingError, StorageError
from perdure.extras import needed_module
from perdure.limits import GIB, MIB

_PART_BYTES = 4 * MIB


class FsspecBlobs:
    """See ``Blobs``. Names are quoted into one flat folder."""

    bytes_max = 1024 * GIB

    def __init__(self, url: str) -> None:
        """``url``: as fsspec has it, a folder. Raises ``UsageError`` where its library is not installed."""
        self._files, self._folder = needed_module("fsspec.core", "fsspec").url_to_fs(url)
        self._url = url

    def _path(self, key: str) -> str:
        return posixpath.join(self._folder, quote(key, safe=""))

    def put(self, key: str, chunks: Iterable[bytes]) -> None:
        """See ``Blobs.put``: under another name first, where the place has no whole writes of its own."""
        path = self._path(key)
        try:
            self._files.makedirs(self._folder, exist_ok=True)
            with self._files.transaction, self._files.open(path, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
        except OSError as error:
            raise StorageError(f"the snapshot location refused: {error}", path=self._url) from error

    def get(self, key: str) -> Iterator[bytes]:
        """See ``Blobs.get``."""
        self._files.invalidate_cache()
        try:
            with self._files.open(self._path(key), "rb") as file:
                while part := file.read(_PART_BYTES):
                    yield part
        except FileNotFoundError:
            raise MissingError("there is no such blob", path=self._path(key)) from None
        except OSError as error:
            raise StorageError(f"the snapshot location does not answer: {error}", path=self._url) from error

    def keys(self, prefix: str) -> list[str]:
        """See ``Blobs.keys``."""
        self._files.invalidate_cache()
        try:
            paths: list[Any] = self._files.ls(self._folder, detail=False)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(f"the snapshot location does not answer: {error}", path=self._url) from error
        names = [unquote(posixpath.basename(str(path).rstrip("/"))) for path in paths]
        return sorted(name for name in names if name.startswith(prefix))

    def delete(self, key: str) -> None:
        """See ``Blobs.delete``."""
        try:
            self._files.rm_file(self._path(key))
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"the snapshot location refused: {error}", path=self._url) from error

    def close(self) -> None:
        """See ``Blobs.close``."""
