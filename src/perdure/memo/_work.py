"""One result of one instance, and where it is kept."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from perdure.codecs import Codec, get_codec
from perdure.errors import PersistableError
from perdure.fs import Fs
from perdure.memo._dealloc import Deallocatable
from perdure.memo._result_file import ResultFile
from perdure.memo._shared import SharedResult, shared_result
from perdure.memo._turns import Turn
from perdure.missing import MISSING, Missing

_FS = Fs()
_SETTINGS = ("name", "path", "cache_global", "transient", "mkdir", "deallocate_recursive", "recover_empty", "_allow")


class PersistedWork(Deallocatable):
    """A result that is computed once and kept: on its owner, for all instances of the class, in a file.

    Calling it looks at the owner, then (``cache_global``) at the class, then (``path`` is a ``Path``) at the file, and
    else calls ``worker``, or ``__do_work__`` where a subclass defines it. The result is computed first and then stored
    on all levels. A worker that raises leaves nothing behind. ``None`` is a result. Where a file cannot be written the
    result is kept aside and the next call tries to write it again, without computing it again.

    Any thread may call; one of them computes, the others wait. Processes wait for each other where there is a file.

    ``path``: a ``Path`` for a file, a ``str`` to keep the result in memory under that name. ``owner``: the instance; it
    is referred to weakly where its class allows. ``transient``: a pickled ``PersistableContainer`` does not carry it.
    ``initial_value``: a result that is there from the start; ``None`` means that there is none (use ``set(None)``).
    ``mkdir``: make the file's missing directories. ``deallocate_recursive``: deallocate the members of lists, tuples,
    sets and dicts, too. ``recover_empty``: an empty file counts as absent. ``codec``, ``allow``: how the file is
    written; by default the restricted pickle for the owner's top-level package, and arrays of numpy.
    """

    def __init__(
        self,
        path: str | Path,
        owner: object,
        cache_global: bool = False,
        transient: bool = False,
        initial_value: Any = None,
        mkdir: bool = False,
        deallocate_recursive: bool = False,
        recover_empty: bool = False,
        *,
        codec: str | Codec = "pickle",
        allow: Sequence[str | type] = (),
        fs: Fs | None = None,
    ) -> None:
        super().__init__()
        self.name: str = str(path)
        self.path: Path | None = path if isinstance(path, Path) else None
        self.cache_global = cache_global
        self.transient = transient
        self.mkdir = mkdir
        self.deallocate_recursive = deallocate_recursive
        self.recover_empty = recover_empty
        self.worker: Callable[..., Any] | None = None
        self._function: Callable[..., Any] | None = None  # as worker, but called with the owner
        self._codec = codec
        self._allow = allow
        self._fs = fs or _FS
        self._value: Any | Missing = MISSING if initial_value is None else initial_value
        self._unsaved: Any | Missing = MISSING
        self._bind(owner)

    # ---- the owner

    def _bind(self, owner: object) -> None:
        self._owner_id = id(owner)
        self._owner_class = type(owner)
        self._turn = Turn(f"{self._owner_class.__qualname__}.{self.name}")
        self._owner: Callable[[], object]
        try:
            # Weakly, so that the owner goes as soon as nobody uses it, without waiting for the collector.
            self._owner = weakref.ref(owner)
        except TypeError:
            self._owner = lambda: owner

    def _for(self, owner: object) -> PersistedWork:
        """The same for another owner: this one, if it has none yet; else a copy, with the result. For copied owners."""
        if self._owner_id:
            copied = object.__new__(type(self))
            copied.__dict__.update(self.__dict__)
            copied._bind(owner)
            return copied
        self._bind(owner)
        return self

    @property
    def owner(self) -> object:
        """The instance whose result this is; ``None`` if it is gone."""
        return self._owner()

    # ---- the result

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result; the arguments go to the worker if it is called.

        Raises:
            PersistableError: there is no worker, or the result needs itself to be computed.
            CorruptError: the file is damaged.
            CodecError: the file or the result holds something that the codec does not allow.
            WriteError: the result cannot be saved; where possible this is found out before it is computed. And
                whatever the worker raises. After any of these nothing is stored.
        """
        if self._value is MISSING:
            with self._turn:
                if self._value is MISSING:
                    shared = self._shared()
                    if shared is None:
                        self._value = self._load_or_create(args, kwargs)
                    else:
                        with shared.turn:
                            if shared.value is MISSING:
                                shared.value = self._load_or_create(args, kwargs)
                            self._value = shared.value
                    return self._value
        return self._value

    def __do_work__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the result. Calls ``worker``; a subclass may do something else."""
        if self.worker is not None:
            return self.worker(*args, **kwargs)
        if self._function is None:
            self._function = self._declared_function()
        return self._function(self.owner, *args, **kwargs)

    def set(self, obj: Any) -> None:
        """Make ``obj`` the result of this instance, and of the class with ``cache_global``. The file stays as it is."""
        with self._turn:
            shared = self._shared()
            if shared is not None:
                with shared.turn:
                    shared.value = obj
            self._unsaved = MISSING
            self._value = obj

    def is_set(self) -> bool:
        """Whether the result is in memory, here or for the class."""
        shared = self._shared()
        return self._value is not MISSING or (shared is not None and shared.value is not MISSING)

    def clear(self) -> None:
        """Forget the result on all levels and delete its file; the next call computes it again.

        Other instances keep what they have taken from the class or the file.

        Raises:
            WriteError: the file cannot be deleted. The result is forgotten in memory.
        """
        with self._turn:
            self._value = self._unsaved = MISSING
            self.clear_global()
            if self.path is not None:
                self._file().remove()

    def clear_global(self) -> None:
        """Forget the result of the class. Instances keep what they have taken from it."""
        shared = self._shared()
        if shared is not None:
            with shared.turn:
                shared.value = MISSING

    def deallocate(self) -> None:
        """Deallocate the result, if it can be, and forget it in memory. The file and the class keep theirs.

        A result that the class shares is only forgotten: other instances use it.
        """
        value, self._value, self._unsaved = self._value, MISSING, MISSING
        if value is not MISSING and not self.cache_global:
            self._try_deallocate(value, self.deallocate_recursive)
        super().deallocate()

    # ---- how it is found

    def _shared(self) -> SharedResult | None:
        return shared_result(self._owner_class, self.name) if self.cache_global else None

    def _load_or_create(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.path is None:
            return self.__do_work__(*args, **kwargs)
        file = self._file()
        result = file.read() if self._unsaved is MISSING else MISSING
        if result is not MISSING:
            return result
        with file.computing():
            result = file.read()
            if result is MISSING:
                if self._unsaved is MISSING:
                    self._unsaved = self.__do_work__(*args, **kwargs)
                file.write(self._unsaved)
                result = self._unsaved
            self._unsaved = MISSING
            return result

    def _file(self) -> ResultFile:
        assert self.path is not None
        package = self._owner_class.__module__.partition(".")[0]
        codec = get_codec(self._codec, package=package, allow=("numpy", *self._allow))
        return ResultFile(self.path, codec, self._fs, mkdir=self.mkdir, recover_empty=self.recover_empty)

    def _declare(self, function: Callable[..., Any], codec: str | Codec | None, allow: Sequence[str | type]) -> None:
        """What ``@persisted`` says about this result. Its codec wins."""
        if self._function is not function:
            self._function = function
            self._codec = self._codec if codec is None else codec
            self._allow = (*self._allow, *(item for item in allow if item not in self._allow))

    def _declared_function(self) -> Callable[..., Any]:
        """The ``@persisted`` function of the owner's class that names the attribute in which the owner keeps this."""
        owner = self.owner
        names = {name for name, value in getattr(owner, "__dict__", {}).items() if value is self}
        for base in type(owner).__mro__:
            for member in vars(base).values():
                function: Any = member.fget if isinstance(member, property) else member
                if getattr(function, "__persisted__", None) in names:
                    found: Callable[..., Any] = function.__wrapped__
                    return found
        raise PersistableError(
            f"{self._owner_class.__qualname__}: nothing computes {self.name!r}",
            hint="name its attribute in @persisted(...), set its worker, or override __do_work__",
        )

    # ---- pickling

    def __getstate__(self) -> dict[str, Any]:
        """Plain data: settings, and the result unless it is transient. Owner and worker are not part of it."""
        state = {name: getattr(self, name) for name in _SETTINGS}
        state["codec"] = self._codec if isinstance(self._codec, str) else None
        if not self.transient and self._value is not MISSING:
            state["value"] = self._value
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As it was, without an owner. A codec that was given as an object comes back with ``@persisted`` only."""
        codec = state.get("codec") or "pickle"
        self.__dict__.update({name: state[name] for name in _SETTINGS})
        self._codec, self._fs, self._unsaved = codec, _FS, MISSING
        self.worker = self._function = None
        self._value = state.get("value", MISSING)
        self._bind(None)
        self._owner_id = 0
        self._track_allocation()

    def _deallocate_str(self) -> str:
        return f"result {self.name} of {self._owner_class.__qualname__}"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {'set' if self.is_set() else 'not set'}>"
