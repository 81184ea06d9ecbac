"""Items as objects of an object store, or files of any file system that fsspec knows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from perdure.errors import CodecError, CorruptError, RemoteError, StorageError
from perdure.extras import needed_module
from perdure.fs import Fs, check_private, temporary_name
from perdure.missing import MISSING
from perdure.stash import _items, _names
from perdure.stash._base import check_name
from perdure.stash._disk import reading, writing
from perdure.stash._remote import RemoteStash, remote_error

KEY_CHARACTERS_MAX = 200
SUFFIX = ".item"
_MARK = "filled"  # Without the suffix of items.
_LOCAL = ("file", "local")
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss")
Result = TypeVar("Result")


@dataclass(eq=False)
class FsspecStash(RemoteStash):
    """Items as objects below a URL: ``s3://bucket/folder``, ``gs://…``, ``memory://…``, ``file:///…`` and all that
    fsspec knows.

    An item is as durable as the store makes an object; object stores show it whole or not at all. On a local disk it
    is written as ``DirectoryStash`` does, in a folder in which no other user can write. Names and contents have the
    forms of ``DirectoryStash`` too.

    ``options``: for the file system: ``key``, ``secret``, ``endpoint_url``, ``client_kwargs`` and the like.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, kw_only=True, repr=False)

    # ---- the connection ----------------------------------------------------------------------------------------------

    def _connect(self) -> _Place:
        fsspec = needed_module("fsspec", "fsspec")
        options = dict(self.options)
        # Others write there, too: a remembered listing would hide their items.
        options.setdefault("use_listings_cache", False)
        try:
            system, root = fsspec.core.url_to_fs(self.url, **options)
        except (ImportError, ValueError) as error:
            raise remote_error("rejected", "finding the file system", self.url, error) from error
        protocol = system.protocol if isinstance(system.protocol, str) else system.protocol[0]
        place = _Place(system, root.rstrip("/"), protocol)
        with reading(self.url):
            place.settle()
        return place

    def _disconnect(self, connection: _Place) -> None:
        """Nothing: fsspec shares its file systems among all who ask for the same one."""

    @property
    def reaches_workers(self) -> bool:
        """Yes, but for ``memory://``."""
        return not self._connection.memory

    def _at_border(self, what: str, work: Callable[[_Place], Result], *, writes: bool = False) -> Result:
        place: _Place = self._connection
        try:
            return work(place)
        except (FileNotFoundError, FileExistsError, RemoteError, StorageError):
            raise
        except OSError as error:
            if place.local:
                with writing(self.url) if writes else reading(self.url):
                    raise
            if isinstance(error, PermissionError):
                raise remote_error("unauthorized", what, self.url, error) from error
            raise self._foreign(what, error, writes) from error
        except Exception as error:
            # Each file system raises the errors of the library below it: this is the border where they are mapped.
            raise self._foreign(what, error, writes) from error

    def _foreign(self, what: str, error: Exception, writes: bool) -> RemoteError:
        refused = "refused" in repr(error) or "Could not connect" in str(error)
        return remote_error("unreachable" if refused or not writes else "unknown", what, self.url, error)

    def _store(self, what: str, work: Callable[[_Place], Result]) -> Result:
        place: _Place = self._connection
        try:
            return self._at_border(what, work, writes=True)
        except FileNotFoundError:
            # Somebody has deleted the folder since; where there are no folders, there is no such bucket.
            place.forget_made()
        try:
            return self._at_border(what, work, writes=True)
        except FileNotFoundError as error:
            raise remote_error("rejected", what, self.url, error) from error

    # ---- items -------------------------------------------------------------------------------------------------------

    def load(self, name: str) -> Any:
        """The value; ``None`` where there is none."""
        return FsspecStash.get(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or ``default``.

        Raises:
            CorruptError: the object is damaged or cut off.
            CodecError: it holds what may not be loaded. Nothing of it was run.
            UnreachableError, UnauthorizedError: it cannot be read.
        """
        form = _form(name)
        try:
            data = self._at_border(f"loading {name!r}", lambda place: place.system.cat_file(place.path_of(form)))
        except FileNotFoundError:
            return default
        return self._unpacked(name, form, data)

    def _unpacked(self, name: str, form: str, data: bytes) -> Any:
        path = f"{self.url.rstrip('/')}/{form}{SUFFIX}"
        item = _items.unpack(data, path)
        if item.name is not None and item.name != name:
            raise CorruptError(f"the object says that it holds {item.name!r}, not {name!r}", path=path)
        try:
            return self._codec.decode(item.value)
        except CodecError as error:
            raise _items.undecodable(item, error, path) from error

    def get_many(self, names: Iterable[str]) -> dict[str, Any]:
        """What there is of ``names``, many at a time where the file system can do that."""
        by_form = {_form(name): name for name in names}

        def fetch(place: _Place) -> dict[str, bytes]:
            paths = {place.path_of(form): form for form in by_form}
            found = place.system.cat(list(paths), on_error="return") if paths else {}
            # One that is not there is absent; any other error is an error.
            for result in found.values():
                if isinstance(result, Exception) and not isinstance(result, FileNotFoundError):
                    raise result
            return {paths[path]: data for path, data in found.items() if not isinstance(data, Exception)}

        if len(by_form) == 1:
            return super().get_many(by_form.values())
        found = self._at_border("loading items", fetch)
        return {by_form[form]: self._unpacked(by_form[form], form, data) for form, data in found.items()}

    def exists(self, name: str) -> bool:
        """Whether the store has it."""
        return self._stamp(name) is not MISSING

    def _stamp(self, name: str) -> object:
        form = _form(name)
        try:
            info = self._at_border(f"looking for {name!r}", lambda place: place.info(form))
        except FileNotFoundError:
            return MISSING
        found = {
            key: info[key]
            for key in ("ETag", "etag", "VersionId", "mtime", "created", "ino", "size", "generation")
            if key in info
        }
        return repr(found) if len(found) > 1 else None

    def dump(self, name: str, value: Any) -> None:
        """Store it; see ``Stash.dump``.

        Raises:
            UnreachableError, UnauthorizedError: it was not stored.
            OutcomeUnknownError: nobody knows whether it was; storing it again is harmless.
        """
        form, data = self._packed(name, value)
        self._store(f"storing {name!r}", lambda place: place.put(form + SUFFIX, data))

    def _packed(self, name: str, value: Any) -> tuple[str, bytes]:
        form = _form(name)
        parts = _items.pack(self._encode(name, value), name if _names.is_hashed(form) else None)
        return form, b"".join(parts)

    def set_many(self, items: Mapping[str, Any]) -> None:
        """Store all of them, many at a time where the file system can do that. After an error some may be stored."""
        packed = [self._packed(name, value) for name, value in items.items()]
        self._store("storing items", lambda place: place.put_all(packed))

    def put_if_absent(self, name: str, value: Any) -> bool:
        """Store it unless there is an item of that name; whether it was stored. Of many machines one wins.

        Raises:
            RejectedError: this store cannot promise that.
        """
        form, data = self._packed(name, value)
        try:
            self._store(f"storing {name!r}", lambda place: place.create(form + SUFFIX, data))
        except FileExistsError:
            return False
        return True

    def delete(self, name: str | None = None) -> None:
        """Forget it, or all."""
        if name is None:
            self.clear()
            return
        form = _form(name)
        try:
            self._at_border(f"deleting {name!r}", lambda place: place.remove(form + SUFFIX), writes=True)
        except FileNotFoundError:
            return

    def clear(self) -> None:
        """Forget all items. Objects that are none of the stash's stay."""
        self.set_fill_mark(None)
        for name in tuple(self.keys()):
            self.delete(name)

    def keys(self) -> Iterator[str]:
        """The names as they are now, in no particular order. Objects that are not the stash's own are passed over."""
        try:
            paths = self._at_border("listing the names", lambda place: place.paths())
        except FileNotFoundError:
            return iter(())
        return (name for path in paths if (name := self._name_of(path)) is not None)

    def _name_of(self, path: str) -> str | None:
        form = path.rpartition("/")[2].removesuffix(SUFFIX)
        if not _names.is_hashed(form):
            return _names.decode(form, KEY_CHARACTERS_MAX)
        try:
            data = self._at_border("reading a long name", lambda place: place.system.cat_file(place.path_of(form)))
        except FileNotFoundError:
            return None
        name = _items.unpack(data, path).name
        return name if name is not None and _form(name) == form else None

    def fill_mark(self) -> str | None:
        """See ``Stash.fill_mark``; an object beside the items."""
        try:
            data = self._at_border("asking for the mark", lambda place: place.system.cat_file(f"{place.root}/{_MARK}"))
        except FileNotFoundError:
            return None
        return bytes(data).decode("utf-8", "replace")

    def set_fill_mark(self, text: str | None) -> None:
        """See ``Stash.set_fill_mark``; an object beside the items."""
        if text is not None:
            self._store("setting the mark", lambda place: place.put(_MARK, text.encode()))
            return
        try:
            self._at_border("deleting the mark", lambda place: place.remove(_MARK), writes=True)
        except FileNotFoundError:
            return


def _form(name: str) -> str:
    return _names.encode(check_name(name), KEY_CHARACTERS_MAX)


class _Place:
    """A folder of a file system."""

    def __init__(self, system: Any, root: str, protocol: str) -> None:
        self.system = system
        self.root = root
        self.local = protocol in _LOCAL
        self.memory = protocol == "memory"
        # Object stores have no folders, and making one of theirs could make a bucket.
        self._has_folders = protocol not in _OBJECT_STORES
        self._made = not self._has_folders

    def settle(self) -> None:
        """Before anything on a local disk is believed: a writer may have died between its rename and its sync."""
        if self.local and os.path.isdir(self.root):
            Fs().sync_directory(self.root)
            with suppress(PermissionError):  # A parent that this user may not open was made by somebody else.
                Fs().sync_directory(os.path.dirname(self.root))

    def path_of(self, form: str) -> str:
        return f"{self.root}/{form}{SUFFIX}"

    def info(self, form: str) -> dict[str, Any]:
        info: dict[str, Any] = self.system.info(self.path_of(form))
        return info

    def paths(self) -> list[str]:
        return [path for path in self.system.ls(self.root, detail=False) if path.endswith(SUFFIX)]

    def put(self, file_name: str, data: bytes) -> None:
        path = f"{self.root}/{file_name}"
        self._make()
        if self.local:
            Fs().write_atomically(path, [data])
        else:
            self.system.pipe_file(path, data)

    def put_all(self, packed: list[tuple[str, bytes]]) -> None:
        if self.local or len(packed) < 2:
            for form, data in packed:
                self.put(form + SUFFIX, data)
        else:
            self._make()
            self.system.pipe({self.path_of(form): data for form, data in packed})

    def create(self, file_name: str, data: bytes) -> None:
        """Raises ``FileExistsError`` where there is such an object."""
        path = f"{self.root}/{file_name}"
        self._make()
        if self.local:
            draft = temporary_name(path)
            Fs().write_atomically(draft, [data])
            try:
                Fs().link(draft, path)
                Fs().sync_directory(self.root)
            finally:
                Fs().unlink(draft)
        else:
            self.system.pipe_file(path, data, mode="create")

    def _make(self) -> None:
        if not self._made:
            if self.local:
                fs = Fs()
                fs.make_directory(self.root)
                check_private(fs, self.root)
            else:
                self.system.makedirs(self.root, exist_ok=True)
            self._made = True

    def forget_made(self) -> None:
        self._made = not self._has_folders

    def remove(self, file_name: str) -> None:
        path = f"{self.root}/{file_name}"
        if self.local:
            Fs().unlink(path)
            Fs().sync_directory(self.root)
        else:
            self.system.rm_file(path)
