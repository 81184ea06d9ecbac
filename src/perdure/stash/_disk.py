"""The one border where errors of the disk become errors of the tree."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from perdure.errors import Outcome, StorageError, WriteError

_HINTS = {
    errno.ENOSPC: "make room on the disk and try again",
    errno.EDQUOT: "make room within your quota and try again",
    errno.EACCES: "let this user write in the directory, or choose another one",
    errno.EPERM: "let this user write in the directory, or choose another one",
    errno.EROFS: "this file system is mounted read-only",
    errno.ELOOP: "a symbolic link stands where a file belongs; remove it",
    errno.EMFILE: "too many files are open: close some, or raise the limit (ulimit -n)",
}


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Raises ``WriteError`` for what the disk refuses. After an I/O error nobody knows what arrived."""
    try:
        yield
    except OSError as error:
        outcome: Outcome = "unknown" if error.errno == errno.EIO else "not-written"
        raise WriteError(
            f"the disk refused the item: {error.strerror or error}",
            outcome=outcome,
            path=path,
            hint=_HINTS.get(error.errno or 0, "what was there before is there still" if outcome != "unknown" else None),
        ) from error


class reading:  # noqa: N801 - used like the function above
    """Raises ``StorageError`` for what the disk refuses; a file that is not there stays ``FileNotFoundError``."""

    # A class, because a generator costs as much as a tenth of reading a small item.
    __slots__ = ("_path",)

    def __init__(self, path: str | Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise StorageError(
                f"the item cannot be read: {error.strerror or error}",
                path=self._path,
                hint=_HINTS.get(error.errno or 0),
            ) from error
