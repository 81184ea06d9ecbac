"""The restricted pickle: the default codec."""

from __future__ import annotations

import copyreg
import io
import pickle
import zoneinfo
from collections.abc import Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from perdure.codecs._allowed import Allowed
from perdure.codecs._offender import offender, type_name
from perdure.codecs._opcodes import FULL_WHOLE, PLAIN_WHOLE, one_frame
from perdure.codecs._protocol import SupportsRead, SupportsWrite
from perdure.codecs._reducers import dumps, use_own_reducers
from perdure.codecs._scan import refuse_deep, scan
from perdure.codecs._stack_model import too_deep
from perdure.codecs._stream import ScannedReader
from perdure.errors import CodecError, UsageError
from perdure.limits import NESTING_DEPTH_MAX

PROTOCOL = 5

_extensions: dict[object, object] = copyreg._extension_registry  # type: ignore[attr-defined]


class Pickle:
    """Pickle, protocol 5, restricted to values: what is stored can be loaded, and loading makes only what is allowed.

    Allowed are an exact list of value types of the standard library, the classes of the top-level package ``package``
    (``"wiki"``, or ``"__main__"``), and what ``allow`` names: a package or module ``"wiki.models"``, a class
    ``"wiki.models.Page"``, or class objects. Only classes at the top of modules that are imported already or are
    themselves named in ``allow``; no functions. ``renames`` maps a class that has moved, ``"old.module.Class"``, to
    where it is now. ``"numpy"`` in ``allow`` means arrays, scalars and dtypes, ``"pandas"`` frames, series, indexes and
    what they are made of.

    What remains, and is the caller's to judge: the constructors of allowed classes do run, their ``__setstate__``,
    ``append``, ``extend``, ``add`` and ``__setitem__``, with arguments from the bytes, and any attribute of an instance
    may be set. A constructor may be asked for something
    very large (``bytearray``, ``list`` of a ``range``), a small pickle can hold a key that takes very long to hash, and
    members of an ``Enum`` are instances like others. So keep stored bytes where strangers cannot write.

    ``unrestricted=True`` is the whole of pickle: the bytes may run any code. Only for bytes that nobody else can write.

    Raises:
        UsageError: ``allow`` or ``renames`` make no sense.
    """

    name: str = "pickle"

    def __init__(
        self,
        package: str | None = None,
        allow: Sequence[str | type] = (),
        renames: Mapping[str, str] | None = None,
        unrestricted: bool = False,
    ) -> None:
        if unrestricted and (allow or renames):
            raise UsageError("Pickle(unrestricted=True) takes neither allow= nor renames=")
        self._unrestricted = unrestricted
        self._allowed = Allowed(package, allow, renames)
        self._unpickler = _unpickler_class(self._allowed)
        self._pickler = pickle.Pickler if unrestricted else _pickler_class(self._allowed)

    def encode(self, value: object) -> bytes:
        """Bytes from which ``decode`` makes an equal value; made sure of by decoding them, where classes are involved.

        Raises:
            CodecError: it cannot be stored, or could not be loaded again; nothing happened.
        """
        try:
            data = dumps(value, PROTOCOL)
            # Without the opcode STACK_GLOBAL (or an extension code) a pickle can look nothing up; then all it may be
            # is too deep, if it is long enough for that.
            if len(data) <= NESTING_DEPTH_MAX and b"\x93" not in data and not _extensions:
                return data
            self._prove(value, data)
            return data
        except Exception as error:  # Foreign errors, and those of the user's classes, are mapped here.
            raise self._cannot_encode(value, error) from _cause(error)

    def decode(self, data: bytes | memoryview) -> Any:
        """The one value that ``data`` holds; all of ``data``.

        Raises:
            CodecError: for whatever is wrong with ``data``. Constructors of allowed classes may have run.
        """
        try:
            # A plain pickle has no opcode that looks up a name, calls or builds: it can make nothing but built-ins,
            # and loading it with the plain unpickler is safe.
            if len(data) <= NESTING_DEPTH_MAX and PLAIN_WHOLE.fullmatch(data):
                return pickle.loads(data)  # Plain.
            if self._unrestricted:
                return pickle.loads(data)  # By the caller's explicit word.
            return self._decode(bytes(data))
        except Exception as error:  # Foreign errors, and those of the user's classes, are mapped here.
            raise _cannot_decode(error) from _cause(error)

    def dump(self, value: object, file: SupportsWrite) -> None:
        """Stream ``value`` into ``file``. Classes and functions that are not allowed are refused on the way.

        It is not loaded back: who publishes the file proves it by loading it. What ``file`` raises passes unchanged.

        Raises:
            CodecError: it cannot be stored; a part may have been written.
        """
        writer = _Writer(file)
        try:
            pickler = self._pickler(writer, PROTOCOL)
            use_own_reducers(pickler)
            pickler.dump(value)
        except Exception as error:  # Foreign errors, and those of the user's classes, are mapped here.
            if writer.failure is not None:
                raise writer.failure from None
            raise self._cannot_encode(value, error) from _cause(error)

    def load(self, file: SupportsRead) -> Any:
        """Read one value from ``file``, to its last byte and not further; no encoded copy is held.

        Tuples and slots by the hundred cost a second pass over the file (see ``ScannedReader``). What ``file`` raises
        passes unchanged.

        Raises:
            CodecError: for whatever is wrong with the bytes.
        """
        reader: Any = file
        try:
            if self._unrestricted:
                return pickle.Unpickler(reader).load()  # By the caller's explicit word.
            reader = ScannedReader(file)
            return self._unpickler(reader).load()  # Restricted, and every opcode is looked at before.
        except Exception as error:  # Foreign errors, and those of the user's classes, are mapped here.
            if isinstance(reader, ScannedReader) and reader.failure is not None:
                raise reader.failure from None
            raise _cannot_decode(error) from _cause(error)

    def _decode(self, data: bytes) -> Any:
        if len(data) <= NESTING_DEPTH_MAX and FULL_WHOLE.fullmatch(data) and one_frame(data):
            return self._unpickler(io.BytesIO(data)).load()  # Restricted: every lookup goes through ``Allowed.find``.
        verdict = scan(data)
        # Plain: as in ``decode``. Otherwise restricted, as above.
        value = pickle.loads(data) if verdict.plain else self._unpickler(io.BytesIO(data)).load()
        if verdict.wide:
            refuse_deep(value)
        return value

    def _prove(self, value: object, data: bytes) -> None:
        """Do whatever of ``decode`` could fail."""
        if self._unrestricted:
            return
        if len(data) <= NESTING_DEPTH_MAX:
            if PLAIN_WHOLE.fullmatch(data):
                return
        else:
            verdict = scan(data)
            if verdict.plain:
                if verdict.wide:
                    refuse_deep(value)
                return
        decoded = self._decode(data)
        if b"getattr" in data:
            # ``decode`` puts a harmless function in the place of getattr. Stored as a value, it must not come back.
            self._pickler(io.BytesIO(), PROTOCOL).dump(decoded)

    def _cannot_encode(self, value: object, error: Exception) -> CodecError:
        if isinstance(error, RecursionError):
            return CodecError(
                f"{type_name(type(value))} cannot be stored: it is nested too deeply",
                hint="a chain of objects that refer to each other: keep them in a list or dict instead",
            )
        if isinstance(error, CodecError) and error.message == too_deep().message:
            return error
        where, part = offender(value, self._is_refused)
        reason, hint = _reason(error)
        text = f"{type_name(type(part))} cannot be stored" + (f", at {where}" if where != "value" else "")
        return CodecError(f"{text}: {reason}", hint=hint)

    def _is_refused(self, part: object) -> bool:
        try:
            self._prove(part, dumps(part, PROTOCOL))
        except Exception:  # Whatever it was: this part cannot be stored, and an error is being raised already.
            return True
        return False


def _unpickler_class(allowed: Allowed) -> type[pickle.Unpickler]:
    class RestrictedUnpickler(pickle.Unpickler):  # The restriction itself.
        # In place of the method: found without a frame for each class.
        find_class = staticmethod(allowed.find)

    return RestrictedUnpickler


def _pickler_class(allowed: Allowed) -> type[pickle.Pickler]:
    class RestrictedPickler(pickle.Pickler):
        def reducer_override(self, obj: Any, /) -> Any:
            # Asked for everything but the plain built-ins. What is looked up when loading is functions and classes;
            # the class of an instance comes by as well, once.
            kind = type(obj)
            if kind in _NEVER:
                if not _is_vetted(allowed, obj):
                    raise CodecError(
                        f"{type_name(kind)} {getattr(obj, '__name__', obj)!r} would have to be looked up when loading",
                        hint="functions, lambdas, methods and modules cannot be stored; store a name and look it up",
                    )
            elif issubclass(kind, type):
                allowed.find(obj.__module__, obj.__qualname__)
            return NotImplemented

    return RestrictedPickler


_NEVER = frozenset({FunctionType, BuiltinFunctionType, MethodType, ModuleType})


def _is_vetted(allowed: Allowed, function: Any) -> bool:
    # The first two occur in zone infos, see ``member``.
    if function is getattr or function == getattr(zoneinfo.ZoneInfo, "_unpickle", None):
        return True
    try:
        return allowed.find(function.__module__, function.__qualname__) is function
    except (CodecError, AttributeError):
        return False


class _Writer:
    """A file for the pickler that remembers what the file itself raised."""

    def __init__(self, file: SupportsWrite) -> None:
        self._file = file
        self.failure: Exception | None = None

    def write(self, data: bytes) -> object:
        try:
            return self._file.write(data)
        except Exception as error:
            self.failure = error
            raise


def _cannot_decode(error: Exception) -> CodecError:
    if isinstance(error, CodecError):
        return error
    reason, hint = _reason(error)
    return CodecError(f"stored bytes cannot be loaded: {reason}", hint=hint)


def _cause(error: Exception) -> Exception | None:
    return None if isinstance(error, CodecError) else error


def _reason(error: Exception) -> tuple[str, str | None]:
    if isinstance(error, CodecError):
        return error.message, error.hint
    return f"{type(error).__name__}: {error}", None
