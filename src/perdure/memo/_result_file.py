"""The file of one result: the third of the three levels."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perdure.codecs import Codec
from perdure.errors import CodecError, CorruptError, MissingError, StorageError, WriteError
from perdure.fs import TEMPORARY_MARK, Fs, is_own_temporary
from perdure.memo._lease import Lease
from perdure.memo._sealed import is_sealed, seal, unseal
from perdure.missing import MISSING, Missing

NO_LOCKS_ERRNOS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems say that have no locks."""


class ResultFile:
    """Reads and writes it; knows nothing of who computes it. Any thread may call.

    ``mkdir``: make missing directories. ``recover_empty``: a file of no bytes counts as absent.
    """

    def __init__(self, path: Path, codec: Codec, fs: Fs, *, mkdir: bool, recover_empty: bool) -> None:
        self._path = path
        self._codec = codec
        self._fs = fs
        self._mkdir = mkdir
        self._recover_empty = recover_empty

    def read(self) -> Any | Missing:
        """The result, or ``MISSING`` where there is no file.

        Raises:
            CorruptError: the file is damaged, or was never a result.
            CodecError: it holds something that the codec does not allow; that was not looked up.
            StorageError: it cannot be read. All of them name the file and leave it as it is.
        """
        try:
            data = self._fs.read_all(str(self._path))
        except FileNotFoundError:
            return MISSING
        except OSError as error:
            raise StorageError(f"the result cannot be read: {error.strerror}", path=self._path) from error
        if not data and self._recover_empty:
            return MISSING
        return self._decode(data)

    def _decode(self, data: bytes) -> Any:
        content = unseal(data)
        if content is None:
            # Files that zensols wrote are bare pickles. They are read, by the same restricted codec.
            if is_sealed(data) or self._codec.name != "pickle" or not data.startswith(b"\x80"):
                what = "the file is empty" if not data else "the file is damaged, or holds no result"
                hint = "recover_empty=True takes an empty file for none; " if not data else ""
                raise CorruptError(what, path=self._path, hint=f"{hint}delete it to have the result computed again")
            content = memoryview(data)
        try:
            return self._codec.decode(content)
        except CodecError as error:
            hint = error.hint or "delete it to have the result computed again"
            raise CodecError(error.message, path=self._path, hint=hint) from error

    def write(self, result: object) -> None:
        """Store ``result`` durably, in place of what was there. Whoever reads meanwhile sees the old one or the new.

        Raises:
            CodecError: it cannot be stored.
            WriteError: the disk refused. In both cases the file is as it was.
        """
        try:
            data = self._codec.encode(result)
        except CodecError as error:
            raise CodecError(error.message, path=self._path, hint=error.hint) from error
        try:
            self._fs.write_atomically(str(self._path), seal(data))
        except OSError as error:
            raise self._refused(error, "the result was computed and cannot be saved") from error

    def remove(self) -> None:
        """Delete the file, durably. Idempotent.

        Raises:
            WriteError: the disk refused.
        """
        try:
            self._fs.unlink(str(self._path))
            self._fs.sync_directory(str(self._path.absolute().parent))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._refused(error, "the result cannot be deleted") from error

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """The only one, of all processes, to compute this result during the block. Waits for the others.

        Raises:
            MissingError: the directory does not exist.
            WriteError: nothing can be saved there. Both before anything was computed.
        """
        parent = self._path.absolute().parent
        lease = Lease(self._fs, str(parent / f".{self._path.name}.lock"))
        try:
            if self._mkdir:
                self._fs.make_directory(str(parent))
            elif not os.path.isdir(parent):
                raise MissingError(
                    "the directory for the result does not exist", path=parent, hint="make it, or pass mkdir=True"
                )
            lease.take()
            self._remove_temporaries(parent)
        except OSError as error:
            # On a file system without locks two processes may compute the same; the file is still replaced as a whole.
            if error.errno not in NO_LOCKS_ERRNOS:
                raise self._refused(error, "the result could not be saved, so it was not computed") from error
        try:
            yield
        finally:
            lease.give_back()

    def _remove_temporaries(self, parent: Path) -> None:
        """What writers left that died: whoever holds the lease is the only one who writes this file."""
        with contextlib.suppress(OSError):
            for name in self._fs.names(str(parent)):
                if name.startswith(self._path.name + TEMPORARY_MARK) and is_own_temporary(name):
                    with contextlib.suppress(OSError):
                        self._fs.unlink(str(parent / name))

    def _refused(self, error: OSError, what: str) -> WriteError:
        return WriteError(f"{what}: {error.strerror}", path=self._path, hint="make room, or look at its permissions")
