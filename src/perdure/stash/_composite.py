"""Items of which the parts lie in several directories, so that a few of them can be loaded without the rest."""

from __future__ import annotations

import copy
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from perdure.errors import CodecError, CorruptError, StorageError, UsageError
from perdure.fs import Fs, check_private
from perdure.missing import MISSING, Missing
from perdure.stash._coded import CodedStash
from perdure.stash._directory import DirectoryStash
from perdure.stash._disk import writing
from perdure.stash._names import encode

ROOT = "items"
_TRIES = 8


@dataclass(eq=False)
class DirectoryCompositeStash(CodedStash):
    """Each item an object with a dict in its attribute ``attribute_name``; the dict's entries are kept apart, in
    groups.

    ``path``: the directory. ``groups``: sets of keys of the dict; each group is a directory of its own. What no group
    names is kept with the item. ``load_keys``: only these keys are in the dict that is loaded, and only the groups that
    hold one of them are read.

    The parts are written first, under a name that nothing refers to yet; then the item, which refers to them, takes
    the old one's place in one step; then the old parts are deleted. So a crash leaves the old item or the new one,
    and at worst parts that nothing refers to (``remove_orphans``). The caller's object is copied, never touched.
    """

    path: Path
    groups: Sequence[Collection[str]] = ()
    attribute_name: str = ""
    load_keys: Collection[str] | None = None
    pattern: str = "{name}.dat"
    durability: Literal["always", "never"] = field(default="always", kw_only=True)
    fs: Fs | None = field(default=None, kw_only=True, repr=False)

    _transient: ClassVar[frozenset[str]] = CodedStash._transient | {"_items", "_parts", "_settled"}
    _settled: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.path = Path(self.path)
        if not self.attribute_name.isidentifier():
            raise UsageError(f"attribute_name={self.attribute_name!r}", hint="the attribute that holds the dict")
        self.groups = tuple(frozenset(group) for group in self.groups)
        seen: set[str] = set()
        for group in self.groups:
            if not group or seen & set(group):
                raise UsageError("the groups must not be empty and must not share keys")
            seen |= set(group)
        super().__post_init__()

    def _reset(self) -> None:
        super()._reset()
        self._items = self._directory(ROOT)
        self._parts = {self._name_of(group): self._directory(self._name_of(group)) for group in self.groups}

    def _directory(self, name: str) -> DirectoryStash:
        return DirectoryStash(
            self.path / name, self.pattern, durability=self.durability, codec=self.codec, allow=self.allow,
            package=self.package, fs=self.fs,
        )  # fmt: skip

    @staticmethod
    def _name_of(group: Collection[str]) -> str:
        return encode("group-" + "-".join(sorted(group)), 120)

    def _part_key(self, version: str, name: str) -> str:
        return f"{version}.{name}"

    # ---- writing -----------------------------------------------------------------------------------------------------

    def dump(self, name: str, value: Any) -> None:
        """Store an object whose attribute holds a dict. The object stays as it is."""
        content = getattr(value, self.attribute_name, MISSING)
        if not isinstance(content, Mapping):
            raise UsageError(f"the item {name!r} has no dict in its attribute {self.attribute_name!r}")
        self._settle()
        version = secrets.token_hex(8)
        rest = dict(content)
        present: list[str] = []
        for group in self.groups:
            part = {key: rest.pop(key) for key in content if key in group}
            if part:
                directory = self._name_of(group)
                self._parts[directory].dump(self._part_key(version, name), part)
                present.append(directory)
        bare = copy.copy(value)
        # Past the class's own __setattr__, which may refuse: a frozen dataclass is an item like any other.
        object.__setattr__(bare, self.attribute_name, None)
        old = self._replaced(name)
        self._items.dump(
            name, {"version": version, "parts": present, "rest": rest, "order": list(content), "item": bare}
        )
        self._delete_parts(name, old)

    def _settle(self) -> None:
        """Once per process: the name of the directory that holds the others must be durable, too, whoever made it."""
        if not self._settled:
            fs = self.fs or Fs()
            with writing(self.path):
                fs.make_directory(str(self.path))
                check_private(fs, str(self.path))
            vars(self)["_settled"] = True

    def _replaced(self, name: str) -> dict[str, Any] | Missing:
        """What is stored, for deleting its parts. A damaged item can be replaced and deleted all the same: its parts
        are orphans then.
        """
        try:
            return self._stored(name)
        except (CorruptError, CodecError):
            return MISSING

    def _stored(self, name: str) -> dict[str, Any] | Missing:
        stored = self._items.get(name, MISSING)
        if stored is not MISSING and not _is_composite(stored):
            raise CorruptError(
                f"the item {name!r} is none of a composite", path=self.path, hint="delete it and make it anew"
            )
        found: dict[str, Any] | Missing = stored
        return found

    def _delete_parts(self, name: str, stored: dict[str, Any] | Missing) -> None:
        if stored is MISSING:
            return
        for directory in stored["parts"]:
            # What cannot be deleted is referred to by nothing: harmless.
            with suppress(StorageError):
                if directory in self._parts:
                    self._parts[directory].delete(self._part_key(stored["version"], name))

    def delete(self, name: str | None = None) -> None:
        """Forget the item, or all."""
        if name is None:
            self.clear()
            return
        old = self._replaced(name)
        self._items.delete(name)
        self._delete_parts(name, old)

    def clear(self) -> None:
        """Forget all items, and parts that nothing refers to."""
        self._items.clear()
        for parts in self._parts.values():
            parts.clear()

    def remove_orphans(self) -> int:
        """Delete parts that an interrupted ``dump`` left, and say how many. Not while others write here."""
        wanted = set()
        for name in tuple(self._items.keys()):
            stored = self._stored(name)
            if stored is MISSING:
                continue
            wanted |= {(directory, self._part_key(stored["version"], name)) for directory in stored["parts"]}
        count = 0
        for directory, parts in self._parts.items():
            for key in tuple(parts.keys()):
                if (directory, key) not in wanted:
                    parts.delete(key)
                    count += 1
        return count

    # ---- reading -----------------------------------------------------------------------------------------------------

    def load(self, name: str) -> Any:
        """The object, its dict filled again; ``None`` where there is none."""
        return DirectoryCompositeStash.get(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """The object, its dict filled again, or ``default``."""
        if not self._settled and self.path.is_dir():
            self._settle()
        for _ in range(_TRIES):
            stored = self._stored(name)
            if stored is MISSING:
                return default
            item = self._assemble(name, stored)
            if item is not MISSING:
                return item
            # A part is gone: the item was replaced between the two readings. Then it refers to other parts by now.
            again = self._stored(name)
            if not isinstance(again, Missing) and again["version"] == stored["version"]:
                break
        raise CorruptError(f"parts of the item {name!r} are missing", path=self.path, hint="delete it and make it anew")

    def _assemble(self, name: str, stored: dict[str, Any]) -> Any:
        content = dict(stored["rest"])
        wanted = None if self.load_keys is None else frozenset(self.load_keys)
        for directory in stored["parts"]:
            group = next((group for group in self.groups if self._name_of(group) == directory), None)
            if group is None:
                raise CorruptError(
                    f"the item {name!r} has parts in {directory}, which is none of the groups", path=self.path,
                    hint="give the groups with which it was stored",
                )  # fmt: skip
            if wanted is not None and wanted.isdisjoint(group):
                continue
            part = self._parts[directory].get(self._part_key(stored["version"], name), MISSING)
            if part is MISSING:
                return MISSING
            content.update(part)
        order = stored["order"] if wanted is None else [key for key in stored["order"] if key in wanted]
        ordered = {key: content[key] for key in order if key in content}
        object.__setattr__(stored["item"], self.attribute_name, ordered)
        return stored["item"]

    def exists(self, name: str) -> bool:
        """Whether there is an item of that name."""
        return self._items.exists(name)

    def keys(self) -> Iterator[str]:
        """The names, in no particular order."""
        return self._items.keys()

    def fill_mark(self) -> str | None:
        """See ``Stash.fill_mark``; a file beside the items."""
        return self._items.fill_mark()

    def set_fill_mark(self, text: str | None) -> None:
        """See ``Stash.set_fill_mark``; a file beside the items."""
        self._items.set_fill_mark(text)

    @property
    def reaches_workers(self) -> bool:
        """Yes: the directory is there for every process of this machine."""
        return True

    def _stamp(self, name: str) -> object:
        return self._items._stamp(name)


def _is_composite(stored: object) -> bool:
    """Whether these are the fields that ``dump`` writes; the codec lets any value through."""
    if not isinstance(stored, dict) or not stored.keys() >= {"version", "parts", "rest", "order", "item"}:
        return False
    parts, order = stored["parts"], stored["order"]
    return (
        isinstance(stored["version"], str)
        and isinstance(parts, list)
        and all(isinstance(part, str) for part in parts)
        and isinstance(stored["rest"], dict)
        and isinstance(order, list)
    )
