"""Opening a dict: one ``Opened`` a path in this process, whatever the number of handles on it."""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from typing import Any, Literal

from perdure.clock import Clock, check_clock
from perdure.codecs import Codec, get_codec
from perdure.engines import is_engine_url
from perdure.errors import LockedError, UsageError
from perdure.fs import Fs, existing_directory
from perdure.journal import Durability
from perdure.limits import KIB
from perdure.machine import Place, open_machine
from perdure.mapping._handed import HandingDict
from perdure.mapping._lines import LinesFraming
from perdure.mapping._lines_snapshots import LinesSnapshotStore, WrongLineError
from perdure.mapping._opened import Opened
from perdure.mapping._reader import Reader
from perdure.mapping._state import DictState
from perdure.mapping._values import values_for

Mode = Literal["w", "r"]
FILE_SIZE_UNIT_BYTES = 64 * KIB
"""``file_size=1000`` is the journal's own size of a segment."""

_opened: dict[str, Opened] = {}
_registry = threading.RLock()


@dataclass
class DictPlace(Place):
    """A ``Place`` whose files are lines of JSON."""

    gzipped: bool = False

    def store(self) -> LinesSnapshotStore:
        assert self.directory is not None
        return LinesSnapshotStore(self.directory, fs=self.fs, gzipped=self.gzipped)


def place_of(
    directory: str,
    *,
    durability: Durability = "everysec",
    file_size: int = 1000,
    gzipped: bool = False,
    clock: Clock | None = None,
    fs: Fs | None = None,
) -> DictPlace:
    """How a dict keeps its files: for whoever opens one without a ``PersistentDict``."""
    return DictPlace(
        directory=directory,
        durability=durability,
        clock=clock,
        fs=fs or Fs(),
        framing=LinesFraming(),
        segment_bytes_max=max(1, file_size) * FILE_SIZE_UNIT_BYTES,
        gzipped=gzipped,
    )


def open_dict(
    path: str | os.PathLike[str],
    init: Any = None,
    *,
    mode: Mode,
    codec: str | Codec,
    durability: Durability,
    sync_at: int,
    gzipped: bool,
    file_size: int,
    clone: bool,
    clock: Clock | None,
    fs: Fs | None,
) -> Opened:
    """The opened dict of a path; the caller adds itself to ``handle_count`` by ``join``. See ``PersistentDict``."""
    if is_engine_url(path):
        raise UsageError("a dict of its own is not kept on an engine", hint="perdure.open(dict, url) is a system there")
    directory = os.path.abspath(os.fspath(path))
    name = os.path.realpath(directory)
    codec = get_codec(codec)
    options = {
        "mode": mode,
        "codec": codec.name,
        "durability": durability,
        "sync_at": sync_at,
        "gzipped": gzipped,
        "file_size": file_size,
        "clone": clone,
    }
    _check_options(options, directory)
    check_clock(clock)
    with _registry:
        found = _opened.get(name)
        if found is not None and found.pid == os.getpid() and not found.closed:
            for option, value in options.items():
                if found.options[option] != value:
                    raise UsageError(
                        f"it is open in this process with {option}={found.options[option]!r}, not {value!r}",
                        path=directory,
                        hint="give the same options, or close it first",
                    )
            found.handle_count += 1
            return found
        place = place_of(directory, durability=durability, file_size=file_size, gzipped=gzipped, clock=clock, fs=fs)
        values = values_for(codec, clone=clone)
        data = None if values.tracked else HandingDict(codec, sync_at)
        opened = Opened(directory, DictState(values, data), options, clock)
        try:
            _connect(opened, place, init, mode)
        except WrongLineError as wrong:
            raise wrong.error from None
        opened.handle_count = 1
        _opened[name] = opened
        return opened


def _connect(opened: Opened, place: DictPlace, init: Any, mode: Mode) -> None:
    assert place.directory is not None
    if mode == "r":
        _refuse_foreign(place.fs, existing_directory(place.directory))
        opened.machine = Reader(opened.state, place)
        opened.report = opened.machine.report
        return
    if os.path.lexists(place.directory) and not os.path.isdir(place.directory):
        raise UsageError("it is a file; a dict lives in a directory of its own", path=place.directory)
    if os.path.isdir(place.directory):
        _refuse_foreign(place.fs, place.directory)
    opened.machine, opened.report = open_machine(opened.state, lambda: opened.initial(init or {}), place)


def _refuse_foreign(fs: Fs, directory: str) -> None:
    names = fs.names(directory)
    if ("0.json" in names or "0.json.gz" in names) and not any(name.startswith("snapshot-") for name in names):
        raise UsageError(
            "tastypy wrote this folder",
            path=directory,
            hint="perdure.mapping.import_tastypy(folder, PersistentDict(another_path)) takes it over",
        )


def _check_options(options: dict[str, Any], directory: str) -> None:
    if options["mode"] not in ("w", "r"):
        raise UsageError(f"mode={options['mode']!r}", path=directory, hint='"w" or "r"')
    if options["durability"] not in ("always", "everysec", "never"):
        raise UsageError(f"durability={options['durability']!r}", hint='one of "always", "everysec", "never"')
    for name in ("sync_at", "file_size"):
        if type(options[name]) is not int or options[name] < 0:
            raise UsageError(f"{name}={options[name]!r}", hint="a whole number that is not negative")


def join(opened: Opened) -> None:
    """One more handle on it."""
    with _registry:
        opened.handle_count += 1


def release(opened: Opened, *, snapshot: bool | None = None) -> None:
    """One handle less; the last one closes it. Raises what closing raises, after letting go."""
    with _registry:
        opened.handle_count -= 1
        if opened.handle_count > 0:
            return
        try:
            opened.close(snapshot=snapshot)
        finally:
            name = os.path.realpath(opened.path)
            if _opened.get(name) is opened:
                del _opened[name]


def release_forgotten(opened: Opened) -> None:
    """``release`` for a handle that nobody closed: called by the collector, at any moment and in any thread, and at
    interpreter exit.
    """
    if opened.pid != os.getpid():
        return
    opened.is_forgotten = opened.handle_count == 1
    # This thread may be in the middle of a change, or others may be, that wait for this one.
    if _registry.acquire(False):
        try:
            if not opened.lock._is_owned() and opened.lock.acquire(False):  # type: ignore[attr-defined]
                try:
                    release(opened, snapshot=False)
                    return
                finally:
                    opened.lock.release()
        finally:
            _registry.release()
    try:
        threading.Thread(target=release, args=(opened,), kwargs={"snapshot": False}, name="perdure-closing").start()
    except RuntimeError:
        # The interpreter is about to exit and starts no threads any more.
        with contextlib.suppress(LockedError):
            release(opened, snapshot=False)


def _after_fork_in_child() -> None:
    global _registry
    _registry = threading.RLock()
    _opened.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
