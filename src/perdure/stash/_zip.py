"""The members of a zip file."""

from __future__ import annotations

import threading
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from perdure.codecs import Codec, get_codec
from perdure.errors import CorruptError, MissingError, StorageError, UsageError
from perdure.limits import RECORD_BYTES_MAX
from perdure.missing import MISSING
from perdure.stash._base import check_name
from perdure.stash._closeable import CloseableStash
from perdure.stash._read_only import ReadOnlyStash


@dataclass(eq=False)
class ZipStash(ReadOnlyStash, CloseableStash):
    """The files in a folder of a zip file, to be read: names are paths below ``root``, values their bytes.

    ``root``: the folder, by default the whole file; "data" means ``data/…`` and never ``database/…``. ``encoding``:
    of members that are text, for example "utf-8". ``codec``: decode the bytes with it. ``item_bytes_max``: refuse a
    member that says it is larger, before unpacking it.
    """

    path: Path
    root: str | None = None
    encoding: str | None = None
    codec: str | Codec | None = field(default=None, kw_only=True)
    item_bytes_max: int = field(default=RECORD_BYTES_MAX, kw_only=True, repr=False)

    _transient: ClassVar[frozenset[str]] = frozenset({"_opened", "_members", "_lock"})

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        if self.encoding is not None and self.codec is not None:
            raise UsageError("encoding= and codec= both say how to read a member", path=self.path, hint="give one")
        super().__post_init__()

    def _reset(self) -> None:
        super()._reset()
        self._opened: zipfile.ZipFile | None = None
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._lock = threading.RLock()

    def _archive(self) -> zipfile.ZipFile:
        with self._lock:
            if self._opened is None:
                try:
                    archive = zipfile.ZipFile(self.path)
                except FileNotFoundError as error:
                    raise MissingError("there is no such zip file", path=self.path) from error
                except zipfile.BadZipFile as error:
                    raise CorruptError(f"not a zip file, or damaged: {error}", path=self.path) from error
                except OSError as error:
                    raise StorageError(f"the zip file cannot be read: {error.strerror}", path=self.path) from error
                self._opened = archive
                root = (self.root or "").strip("/")
                folder = root + "/" if root else ""
                self._members = {
                    info.filename[len(folder) :]: info
                    for info in archive.infolist()
                    if info.filename.startswith(folder) and not info.is_dir()
                }
            return self._opened

    def load(self, name: str) -> Any:
        """The member's bytes, or what codec or encoding make of them; ``None`` where there is none."""
        return ZipStash.get(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """The member's bytes, or what codec or encoding make of them, or ``default``.

        Raises:
            CorruptError: the member is damaged, or is no text of that encoding.
        """
        with self._lock:
            archive = self._archive()
            info = self._members.get(check_name(name), MISSING)
            if info is MISSING:
                return default
            if info.file_size > self.item_bytes_max:
                raise StorageError(
                    f"the member {name!r} has {info.file_size} bytes, at most {self.item_bytes_max} are read",
                    path=self.path,
                    hint="item_bytes_max= takes more",
                )
            try:
                data = archive.read(info)
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise CorruptError(f"the member {name!r} is damaged: {error}", path=self.path) from error
            except (OSError, RuntimeError, NotImplementedError) as error:
                raise StorageError(f"the member {name!r} cannot be read: {error}", path=self.path) from error
        if self.encoding is not None:
            try:
                return data.decode(self.encoding)
            except UnicodeDecodeError as error:
                raise CorruptError(f"the member {name!r} is no text: {error}", path=self.path) from error
        return data if self.codec is None else get_codec(self.codec).decode(data)

    def exists(self, name: str) -> bool:
        """Whether the folder has it."""
        with self._lock:
            self._archive()
            return check_name(name) in self._members

    def keys(self) -> Iterator[str]:
        """The members' paths below ``root``, in the file's order."""
        with self._lock:
            self._archive()
            return iter(tuple(self._members))

    def close(self) -> None:
        """Close the file. The next call opens it again."""
        with self._lock:
            archive, self._opened = self._opened, None
            if archive is not None:
                archive.close()

    @property
    def reaches_workers(self) -> bool:
        """Yes: the file is there for every process of this machine."""
        return True
