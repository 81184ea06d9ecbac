"""A disk that fails when it is told to: test your own classes against it.

::

    from perdure.testing import FaultyFs, failing_everywhere

    fs = FaultyFs(fail_at=7, mode="partial", error=errno.ENOSPC)   # the 7th write is half done, then refused
    for fs in failing_everywhere("once", errno.EIO):               # the 1st call fails, in the next turn the 2nd, …
        run_my_program(directory, fs)
        assert not fs.open_fds
        check(directory)
"""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from perdure.fs import DIRECTORY_MODE, FILE_MODE, Fs
from perdure.testing._lost_pages import LostPages
from perdure.testing._wrapping_fs import PRIMITIVES, WrappingFs

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

Mode = Literal["once", "sticky", "full", "partial", "short", "lying", "lying-cached"]

_GROWING = ("open", "write", "mkdir", "link")
_CONCERNS: dict[Mode, tuple[str, ...]] = {
    "once": PRIMITIVES,
    "sticky": PRIMITIVES,
    "full": _GROWING,
    "partial": ("write",),
    "short": ("write",),
    "lying": ("sync",),
    "lying-cached": ("sync",),
}


class Call(NamedTuple):
    """One call of a primitive. ``number``: from 1, over all threads. ``path``: also where a descriptor was given."""

    number: int
    name: str
    path: str
    size_bytes: int = 0


class FaultyFs(WrappingFs):
    """The machine's file system, with faults. Any thread may call.

    ``calls``: every primitive call so far, failed ones too. ``open_fds``: descriptor → path of all that are open, so
    that a leak is seen. ``fired``: the call that failed first, or ``None``: the program made fewer calls than that.
    """

    def __init__(
        self,
        *,
        fail_at: int = 0,
        mode: Mode = "once",
        error: int = errno.EIO,
        of: Collection[str] | None = None,
        short_writes: bool = False,
        before: Callable[[Call], None] | None = None,
        inner: Fs | None = None,
    ) -> None:
        """Nothing fails without ``fail_at``.

        ``fail_at``: which call fails, from 1, counting only the calls ``of`` these primitives (by default all that
        ``mode`` concerns; for ``"full"`` those that take room). ``error``: the errno of the ``OSError``.

        ``mode``:

        - ``"once"``: this call fails and does nothing; all later ones work. A failing ``close`` still closes, as on
          Linux.
        - ``"sticky"``: so does every later call of the same primitive.
        - ``"full"``: everything that grows fails from here on, after half of a write, until ``make_room()``. Pass
          ``error=errno.ENOSPC`` or ``errno.EDQUOT``.
        - ``"partial"``: half of this write is done, then it fails.
        - ``"short"``: half of this write is done, and it says so without an error.
        - ``"lying"``: this sync fails, what was not yet synced of the file is gone (zeros), and later syncs report
          success: what Linux does.
        - ``"lying-cached"``: the same, but the lost bytes can still be read until the program calls ``forget_cached``
          on the file, or the test calls ``drop_caches()``: what Linux does while the pages stay in memory.

        ``short_writes``: every write takes only half. ``before``: called with each call before it is made; may raise,
        or wait.
        """
        super().__init__(inner)
        self.fail_at: int = fail_at
        self.mode: Mode = mode
        self.error = error
        self.short_writes = short_writes
        self.calls: list[Call] = []
        self.counts: Counter[str] = Counter()
        self.open_fds: dict[int, str] = {}
        self.fired: Call | None = None
        self._of = frozenset(_CONCERNS[mode] if of is None else of)
        if unknown := self._of - set(PRIMITIVES):
            raise ValueError(f"not primitives of Fs: {', '.join(sorted(unknown))}")
        self._before = before
        self._counted = 0
        self._is_full = False
        self._lock = threading.Lock()
        self._unsynced = LostPages()

    # ---- what a test may do in between

    def make_room(self) -> None:
        """Somebody deleted something: what grows works again."""
        self._is_full = False

    def heal(self) -> None:
        """Nothing fails from here on."""
        self.make_room()
        self.fail_at = 0
        self.fired = None

    def drop_caches(self) -> None:
        """Makes what ``"lying-cached"`` lost unreadable everywhere, as memory pressure or a reboot would."""
        self._unsynced.lose_all()

    def close_leaked(self) -> dict[int, str]:
        """Closes whatever is open, and returns what that was."""
        leaked, self.open_fds = self.open_fds, {}
        for fd in leaked:
            self.inner.close(fd)
        return leaked

    # ---- the decision

    def _fails(self, name: str, path: str, size_bytes: int = 0, *, grows: bool = False) -> bool:
        """Records a call and says whether it is to fail."""
        with self._lock:
            call = Call(len(self.calls) + 1, name, path, size_bytes)
            self.calls.append(call)
            self.counts[name] += 1
            fails = self._decide(call, grows)
        if self._before is not None:
            self._before(call)
        return fails

    def _decide(self, call: Call, grows: bool) -> bool:
        if self.fired is not None:
            if self.mode == "sticky":
                return call.name == self.fired.name
            return self._is_full and grows
        if not self.fail_at or call.name not in self._of or (self.mode == "full" and not grows):
            return False
        self._counted += 1
        if self._counted < self.fail_at:
            return False
        self.fired = call
        self._is_full = self.mode == "full"
        return True

    def _check(self, name: str, path: str, *, grows: bool = False) -> None:
        if self._fails(name, path, grows=grows):
            raise self._refusal(path)

    def _refusal(self, path: str) -> OSError:
        return OSError(self.error, os.strerror(self.error), path)

    def _path(self, fd: int) -> str:
        return self.open_fds.get(fd, f"descriptor {fd}")

    # ---- primitives

    def open(self, path: str, flags: int, mode: int = FILE_MODE) -> int:
        self._check("open", path, grows=bool(flags & os.O_CREAT) and not os.path.lexists(path))
        fd = self.inner.open(path, flags, mode)
        self.open_fds[fd] = os.path.abspath(path)
        return fd

    def close(self, fd: int) -> None:
        path = self._path(fd)
        fails = self._fails("close", path)
        self.open_fds.pop(fd, None)
        self.inner.close(fd)
        if fails:
            raise self._refusal(path)

    def write(self, fd: int, data: ReadableBuffer) -> int:
        path = self._path(fd)
        whole = memoryview(data)
        fails = self._fails("write", path, len(whole), grows=True)
        half = whole[: len(whole) // 2]
        if fails and self.mode != "short":
            if half and self.mode in ("partial", "full"):
                self._really_write(fd, half)
            raise self._refusal(path)
        return self._really_write(fd, half if half and (fails or self.short_writes) else data)

    def _really_write(self, fd: int, data: ReadableBuffer) -> int:
        if not self.mode.startswith("lying"):
            return self.inner.write(fd, data)
        start = self._unsynced.position(fd)
        taken = self.inner.write(fd, data)
        self._unsynced.note(fd, self._path(fd), start, taken)
        return taken

    def read_at(self, fd: int, size_bytes: int, offset: int) -> bytes:
        self._check("read_at", self._path(fd))
        return self.inner.read_at(fd, size_bytes, offset)

    def sync(self, fd: int) -> None:
        path = self._path(fd)
        fails = self._fails("sync", path)
        if fails:
            self._unsynced.sync_failed(fd)
            if self.mode == "lying":
                self._unsynced.lose_all()
            raise self._refusal(path)
        self.inner.sync(fd)
        self._unsynced.synced(fd)

    def sync_names(self, directory_fd: int) -> None:
        self._check("sync_names", self._path(directory_fd))
        self.inner.sync_names(directory_fd)

    def truncate(self, fd: int, size_bytes: int) -> None:
        self._check("truncate", self._path(fd))
        self.inner.truncate(fd, size_bytes)

    def rename(self, source: str, target: str) -> None:
        self._check("rename", source)
        self.inner.rename(source, target)
        source, target = os.path.abspath(source), os.path.abspath(target)
        self.open_fds.update({fd: target for fd, path in self.open_fds.items() if path == source})
        self._unsynced.renamed(source, target)

    def link(self, source: str, target: str) -> None:
        self._check("link", source, grows=True)
        self.inner.link(source, target)

    def unlink(self, path: str) -> None:
        self._check("unlink", path)
        self.inner.unlink(path)

    def mkdir(self, path: str, mode: int = DIRECTORY_MODE) -> None:
        self._check("mkdir", path, grows=True)
        self.inner.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        self._check("rmdir", path)
        self.inner.rmdir(path)

    def names(self, directory: str) -> list[str]:
        self._check("names", directory)
        return self.inner.names(directory)

    def stat(self, path: str) -> os.stat_result:
        self._check("stat", path)
        return self.inner.stat(path)

    def touch(self, path: str) -> None:
        self._check("touch", path)
        self.inner.touch(path)

    def size(self, fd: int) -> int:
        self._check("size", self._path(fd))
        return self.inner.size(fd)

    def forget_cached(self, fd: int) -> None:
        self._check("forget_cached", self._path(fd))
        self._unsynced.lose(fd)
        self.inner.forget_cached(fd)

    def lock(self, fd: int) -> None:
        self._check("lock", self._path(fd))
        self.inner.lock(fd)


def failing_everywhere(
    mode: Mode = "once", error: int = errno.EIO, *, of: Collection[str] | None = None, inner: Callable[[], Fs] = Fs
) -> Iterator[FaultyFs]:
    """One file system per turn of a loop: it fails at the first call, then at the second, and so on.

    The loop ends with the first turn whose body made fewer calls than that. What a turn left open is closed behind it.
    """
    fail_at = 0
    while True:
        fail_at += 1
        fs = FaultyFs(fail_at=fail_at, mode=mode, error=error, of=of, inner=inner())
        try:
            yield fs
        finally:
            fs.close_leaked()
        if fs.fired is None:
            return
