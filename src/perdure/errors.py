"""Every error that perdure raises, in one tree.

::

    PerdureError
      UsageError                 the call was wrong; nothing happened; correct it and carry on
        CodecError               a value cannot be stored, or stored bytes are not an allowed value
        NotDeterministicError    a method would not replay to the same state (alias PrevalentError)
        ReadOnlyError            a change was asked of something opened for reading
        RecordTooLargeError      one entry is larger than its journal takes
        ClosedError              you closed it
        PersistableError         a persisted result was declared or used wrongly
        DuplicateKeyError        the key is there already (also a KeyError)
      StorageError               the world broke it
        CorruptError             bytes that were once durable are damaged
        MissingError             a file or an entry that must be there is not
        LockedError              somebody else writes here
          FencedError            a replica was promoted and writes instead
        WriteError               the disk refused; ``outcome`` says what became of the command
        FormatVersionError       written by a newer perdure
      ReplayError                the journal cannot be applied with today's code
        DivergedError            it was applied and came out differently
      RemoteError                a system elsewhere
        UnreachableError         nobody answered; nothing was executed
        RejectedError            it answered and refused
        UnauthorizedError        it wants a token, or another one
        OutcomeUnknownError      no answer in time: the command may still run, once

Each carries what is known of ``path``, ``offset`` and ``seq``, and a ``hint``: the next thing to do.
"""

from __future__ import annotations

import os
from typing import Literal

Outcome = Literal["not-written", "unknown"]


class PerdureError(Exception):
    """The root of the tree.

    ``path``: the file or directory concerned. ``offset``: bytes from the start of that file. ``seq``: the entry
    concerned. ``hint``: a sentence that names the next step. Each is ``None`` where it does not apply.
    """

    def __init__(
        self,
        message: str = "",
        *,
        path: str | os.PathLike[str] | None = None,
        offset: int | None = None,
        seq: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path: str | None = None if path is None else os.fspath(path)
        self.offset = offset
        self.seq = seq
        self.hint = hint

    def __str__(self) -> str:
        where = []
        if self.path is not None:
            where.append(self.path)
        if self.offset is not None:
            where.append(f"byte {self.offset}")
        if self.seq is not None:
            where.append(f"seq {self.seq}")
        text = self.message + (f" ({', '.join(where)})" if where else "")
        return f"{text}\n  hint: {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only fields do not survive the default reduction of exceptions; they must, to cross processes.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(kind: type[PerdureError], args: tuple[object, ...], fields: dict[str, object]) -> PerdureError:
    # Stored data may name this function.
    if not issubclass(kind, PerdureError):
        raise TypeError(f"{kind!r} is no error of perdure")
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class UsageError(PerdureError):
    """The call was wrong. Nothing happened; correct it and carry on."""


class CodecError(UsageError):
    """A value cannot be stored, or stored bytes do not hold an allowed value. State and journal are unchanged."""


class NotDeterministicError(UsageError):
    """A method would not replay to the same state. Raised at open, or by ``check=True`` at the call that did it."""


PrevalentError = NotDeterministicError


class ReadOnlyError(UsageError):
    """A change was asked of something that was opened for reading. Nothing happened."""


class RecordTooLargeError(UsageError):
    """One entry is larger than its journal takes. Nothing was written; carry on."""


class ClosedError(UsageError):
    """It was closed, by its owner. Open it again."""


class PersistableError(UsageError):
    """A persisted result was declared or used wrongly."""


class DuplicateKeyError(UsageError, KeyError):
    """The key is there already. Nothing was changed."""

    def __str__(self) -> str:
        # Not KeyError's, which would show the message in quotes.
        return PerdureError.__str__(self)


class StorageError(PerdureError):
    """The world broke it: disk, files, locks. The subclass tells what is left."""


class CorruptError(StorageError):
    """Bytes that were once durable are damaged. Nothing was loaded and nothing was changed on disk."""


class MissingError(StorageError):
    """A file or an entry that must be there is not. Nothing was changed on disk."""


class LockedError(StorageError):
    """Another process, or another opening in this one, writes here. Nothing was changed."""


class FencedError(LockedError):
    """A replica was promoted while this writer was away, and writes in its place. What is here stays as it is."""


class WriteError(StorageError):
    """The disk refused a write or a sync.

    ``outcome="not-written"``: the command did not run and left nothing behind; carry on or try again.
    ``outcome="unknown"``: nobody knows which bytes arrived; the command was not applied, the handle takes no further
    commands, and opening again decides whether it is there, wholly or not at all.
    """

    def __init__(
        self,
        message: str = "",
        *,
        outcome: Outcome = "not-written",
        path: str | os.PathLike[str] | None = None,
        offset: int | None = None,
        seq: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, path=path, offset=offset, seq=seq, hint=hint)
        self.outcome: Outcome = outcome


class FormatVersionError(StorageError):
    """The files were written by a newer perdure. Nothing was changed on disk."""


class ReplayError(PerdureError):
    """The journal cannot be applied with today's code. The files are untouched."""


class DivergedError(ReplayError):
    """An entry was applied and came out differently from what was recorded. The files are untouched."""


class RemoteError(PerdureError):
    """A system elsewhere did not do what was asked."""


class UnreachableError(RemoteError):
    """Nobody answered. The command was not executed."""


class RejectedError(RemoteError):
    """The other side answered and refused, or its method raised an error that is not known here."""


class UnauthorizedError(RemoteError):
    """The other side wants a token, or another one. Nothing was executed."""


class OutcomeUnknownError(RemoteError):
    """No answer came in time. The command may still run, once: asking again with the same id is safe."""
