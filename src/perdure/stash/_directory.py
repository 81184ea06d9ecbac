"""Items as files in a directory."""

from __future__ import annotations

import os
import stat as stat_modes
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from perdure.errors import CodecError, CorruptError, UsageError
from perdure.fs import FILE_MODE, TEMPORARY_MARK, Fs, check_private, is_own_temporary, temporary_name
from perdure.missing import MISSING
from perdure.stash import _items, _names
from perdure.stash._base import check_name
from perdure.stash._coded import CodedStash
from perdure.stash._disk import reading, writing

FILL_MARK = ".perdure-filled"
TEMPORARY_KEPT_S = 24 * 3600
"""A temporary file older than this was left by a writer that died: no write takes so long."""
_NAME_IN_TAIL_BYTES = 4096


@dataclass(eq=False)
class DirectoryStash(CodedStash):
    """Each item a file: any number of processes and threads may read and write at once.

    A value is visible only when it is whole, and durable when ``dump`` returns: it is written beside its place,
    synced, renamed, and the directory is synced. What a crash leaves at each step: a temporary file that a later
    writer deletes; or the old value; or the new one.

    ``path``: the directory; it is made, private to you, with the first item. ``pattern``: of the files' names, with
    ``{name}`` where the item's name goes in a form that no name can leave the directory with and no two names share
    (see ``key_to_path``). ``durability``: "always", or "never": as visible and whole after a crash of the program,
    maybe gone after a power cut. ``private``: refuse a directory in which other users can write.
    """

    path: Path
    pattern: str = "{name}.dat"
    durability: Literal["always", "never"] = field(default="always", kw_only=True)
    private: bool = field(default=True, kw_only=True, repr=False)
    fs: Fs | None = field(default=None, kw_only=True, repr=False)

    _transient: ClassVar[frozenset[str]] = CodedStash._transient | {"_prepared", "_settled"}
    _prepared: ClassVar[bool] = False
    _settled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        before, placeholder, after = self.pattern.partition("{name}")
        refused = any(part in self.pattern for part in ("/", "\0", TEMPORARY_MARK)) or before.startswith(".")
        if not placeholder or "{name}" in after or refused:
            raise UsageError(
                f"pattern={self.pattern!r} must hold {{name}} once, no slash, and no dot at its beginning",
                hint='for example "{name}.dat"',
            )
        if self.durability not in ("always", "never"):
            raise UsageError(f"durability={self.durability!r}", hint='"always" or "never"')
        self._before, self._after = before, after
        self._characters_max = _names.FILE_NAME_BYTES_MAX - _names.TEMPORARY_BYTES - len((before + after).encode())
        if self._characters_max < 100:
            raise UsageError(f"pattern={self.pattern!r} leaves too little room for names")
        self._fs = self.fs or Fs()
        super().__post_init__()

    # ---- where an item is --------------------------------------------------------------------------------------------

    def key_to_path(self, name: str) -> Path:
        """The file of an item, whether it is there or not.

        Lower-case ASCII letters, digits and ``- _ . = @ + ,`` stand for themselves, all else is percent-encoded, and a
        very long name becomes its beginning and a hash.
        """
        return Path(self._path_of(name))

    def _path_of(self, name: str) -> str:
        form = _names.encode(check_name(name), self._characters_max)
        return f"{self.path}{os.sep}{self._before}{form}{self._after}"

    def _form_in(self, file_name: str) -> str | None:
        """What stands in a file's name in the place of ``{name}``; ``None`` where the file is none of ours."""
        size = len(self._before) + len(self._after)
        if len(file_name) <= size or not (file_name.startswith(self._before) and file_name.endswith(self._after)):
            return None
        return None if is_own_temporary(file_name) else file_name[len(self._before) : len(file_name) - len(self._after)]

    # ---- reading -----------------------------------------------------------------------------------------------------

    def load(self, name: str) -> Any:
        """The value; ``None`` where there is none.

        Raises:
            CorruptError: the file is damaged or cut off.
            CodecError: it holds what may not be loaded. Nothing of it was run.
            StorageError: it cannot be read.
        """
        return self._read(name, None)

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or ``default``. Raises like ``load``."""
        return self._read(name, default)

    def _settle(self) -> None:
        """Once per process, before anything is believed: a writer may have died between its rename and its sync."""
        try:
            with reading(self.path):
                directory = os.path.abspath(self.path)
                self._fs.sync_directory(directory)
                # The directory's own name as well; a parent that this user may not open was made by somebody else.
                with suppress(PermissionError):
                    self._fs.sync_directory(os.path.dirname(directory))
        except FileNotFoundError:
            return
        vars(self)["_settled"] = True

    def _read(self, name: str, default: Any) -> Any:
        path = self._path_of(name)
        if not self._settled:
            self._settle()
        try:
            with reading(path):
                data = self._fs.read_all(path)
        except FileNotFoundError:
            return default
        item = _items.unpack(data, path)
        if item.name is not None and item.name != name:
            raise CorruptError(f"the file says that it holds {item.name!r}, not {name!r}", path=path)
        try:
            return self._codec.decode(item.value)
        except CodecError as error:
            raise _items.undecodable(item, error, path) from error

    def exists(self, name: str) -> bool:
        """Whether the file is there."""
        path = self._path_of(name)
        if not self._settled:
            self._settle()
        with reading(path):
            return self._fs.exists(path)

    def keys(self) -> Iterator[str]:
        """The names as they are now, in no particular order. Files that are not the stash's own are passed over."""
        if not self._settled:
            self._settle()
        try:
            with reading(self.path):
                file_names = self._fs.names(str(self.path))
        except FileNotFoundError:
            return iter(())
        return (name for file_name in file_names if (name := self._name_in(file_name)) is not None)

    def _name_in(self, file_name: str) -> str | None:
        form = self._form_in(file_name)
        if form is None:
            return None
        if not _names.is_hashed(form):
            return _names.decode(form, self._characters_max)
        path = f"{self.path}{os.sep}{file_name}"
        try:
            with reading(path):
                name = self._name_at_end_of(path)
        except FileNotFoundError:
            return None
        return name if name is not None and _names.encode(name, self._characters_max) == form else None

    def _name_at_end_of(self, path: str) -> str | None:
        fd = self._fs.open_for_reading(path)
        try:
            size = self._fs.size(fd)
            wanted = min(size, _NAME_IN_TAIL_BYTES)
            needed, name = _items.name_in_tail(self._fs.read_range(fd, size - wanted, wanted))
            if wanted < needed <= size:
                needed, name = _items.name_in_tail(self._fs.read_range(fd, size - needed, needed))
            return name
        finally:
            self._fs.close(fd)

    def _stamp(self, name: str) -> object:
        path = self._path_of(name)
        try:
            with reading(path):
                found = self._fs.stat(path)
        except FileNotFoundError:
            return MISSING
        # Each write makes a new file, so the inode differs even where the clock stands still.
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size

    @property
    def reaches_workers(self) -> bool:
        """Yes: the directory is there for every process of this machine."""
        return True

    # ---- writing -----------------------------------------------------------------------------------------------------

    def dump(self, name: str, value: Any) -> None:
        """Store it; see ``Stash.dump``."""
        path = self._path_of(name)
        self._write(path, self._parts(name, value))

    def _parts(self, name: str, value: Any) -> list[bytes]:
        form = _names.encode(name, self._characters_max)
        return _items.pack(self._encode(name, value), name if _names.is_hashed(form) else None)

    def _write(self, path: str, parts: list[bytes]) -> None:
        durable = self.durability == "always"
        with writing(path):
            self._prepare()
            try:
                self._fs.write_atomically(path, parts, durable=durable)
            except FileNotFoundError:
                # Somebody has deleted the directory since.
                vars(self)["_prepared"] = False
                self._prepare()
                self._fs.write_atomically(path, parts, durable=durable)

    def set_many(self, items: Mapping[str, Any]) -> None:
        """Store all of them, with one sync of the directory at the end. After an error some may be stored."""
        encoded = [(self._path_of(name), self._parts(name, value)) for name, value in items.items()]
        if not encoded:
            return
        durable = self.durability == "always"
        with writing(self.path):
            self._prepare()
            for path, parts in encoded:
                self._draft(path, parts, lambda draft, path=path: self._fs.rename(draft, path))  # type: ignore[misc]
            if durable:
                self._fs.sync_directory(str(self.path))

    def put_if_absent(self, name: str, value: Any) -> bool:
        """Store it unless there is an item of that name; whether it was stored. Of many processes one wins."""
        path = self._path_of(name)
        parts = self._parts(name, value)
        with writing(path):
            self._prepare()
            try:
                self._draft(path, parts, lambda draft: self._fs.link(draft, path), keep_draft=False)
            except FileExistsError:
                return False
            if self.durability == "always":
                self._fs.sync_directory(str(self.path))
        return True

    def _draft(self, path: str, parts: list[bytes], publish: Callable[[str], None], *, keep_draft: bool = True) -> None:
        """Writes a temporary file, syncs it, and hands its name to ``publish``."""
        draft = temporary_name(path)
        fd = self._fs.create(draft)
        try:
            try:
                for part in parts:
                    self._fs.write_all(fd, part)
                if self.durability == "always":
                    self._fs.sync(fd)
            finally:
                self._fs.close(fd)
            publish(draft)
        except BaseException:
            with suppress(OSError):
                self._fs.unlink(draft)
            raise
        if not keep_draft:
            with suppress(OSError):
                self._fs.unlink(draft)

    def _prepare(self) -> None:
        """Makes the directory, once per process, and tidies up what dead writers left."""
        if self._prepared:
            return
        directory = str(self.path)
        self._fs.make_directory(directory)
        if self.private:
            check_private(self._fs, directory)
        self._remove_old_temporaries(directory)
        vars(self)["_prepared"] = True

    def _remove_old_temporaries(self, directory: str) -> None:
        temporaries = [name for name in self._fs.names(directory) if is_own_temporary(name)]
        if not temporaries:
            return
        # Other writers are at work here: only what is old by the file system's own clock belongs to nobody.
        ages_ns = {}
        for name in temporaries:
            with suppress(OSError):
                found = self._fs.stat(os.path.join(directory, name))
                if stat_modes.S_ISREG(found.st_mode) and stat_modes.S_IMODE(found.st_mode) == FILE_MODE:
                    ages_ns[name] = found.st_mtime_ns
        newest_ns = max([self._fs.stat(directory).st_mtime_ns, *ages_ns.values()])
        for name, at_ns in ages_ns.items():
            if newest_ns - at_ns > TEMPORARY_KEPT_S * 1_000_000_000:
                with suppress(OSError):
                    self._fs.unlink(os.path.join(directory, name))

    def delete(self, name: str | None = None) -> None:
        """Forget the item, or all; durably, where the stash is durable."""
        if name is None:
            self.clear()
            return
        path = self._path_of(name)
        with writing(path):
            if self._unlink(path):
                self._sync_names()

    def clear(self) -> None:
        """Forget all items. The directory stays, and so does every file in it that is none of the stash's."""
        self.set_fill_mark(None)
        names = tuple(self.keys())
        with writing(self.path):
            for name in names:
                self._unlink(self._path_of(name))
            if names:
                self._sync_names()

    def _unlink(self, path: str) -> bool:
        try:
            self._fs.unlink(path)
        except FileNotFoundError:
            return False
        return True

    def _sync_names(self) -> None:
        if self.durability == "always":
            self._fs.sync_directory(str(self.path))

    # ---- the note that a fill has come to its end --------------------------------------------------------------------

    def _mark_path(self) -> str:
        # No item has this name: forms of names do not begin with a dot. Each pattern has a mark of its own.
        form = "" if self.pattern == "{name}.dat" else "-" + _names.encode(self.pattern, 100)
        return f"{self.path}{os.sep}{FILL_MARK}{form}"

    def fill_mark(self) -> str | None:
        """See ``Stash.fill_mark``; a file in the directory."""
        path = self._mark_path()
        if not self._settled:
            self._settle()
        try:
            with reading(path):
                return self._fs.read_all(path).decode("utf-8", "replace")
        except FileNotFoundError:
            return None

    def set_fill_mark(self, text: str | None) -> None:
        """See ``Stash.set_fill_mark``; a file in the directory, durable when this returns."""
        path = self._mark_path()
        if text is not None:
            with writing(path):
                self._prepare()
                self._make_all_durable()
                self._fs.write_atomically(path, [text.encode()])
            return
        with writing(path):
            if self._unlink(path):
                self._sync_names()

    def _make_all_durable(self) -> None:
        """Before the mark: a power cut must not keep the mark and lose an item, whoever has written that, in whatever
        mode.
        """
        if self.durability != "always":
            for name in tuple(self.keys()):
                try:
                    fd = self._fs.open_for_reading(self._path_of(name))
                except FileNotFoundError:
                    continue
                try:
                    self._fs.sync(fd)
                finally:
                    self._fs.close(fd)
        self._fs.sync_directory(str(self.path))
