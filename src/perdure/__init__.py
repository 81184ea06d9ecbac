"""perdure: plain objects that outlive the process.

``open`` makes an object of any class durable. ``PersistentDict`` and ``Tracker`` are dicts and lists of jobs that are
saved as they change. ``memo`` and ``persisted`` keep expensive results, and stashes keep values by name. ``clock``,
``rng`` and ``uuid4`` give commands the time and random numbers, the same ones at every replay.
"""

import importlib
from typing import TYPE_CHECKING, Any

from perdure import clock
from perdure.clock import rng, uuid4
from perdure.codecs import Codec, Json, MsgPack, Pickle
from perdure.errors import (
    ClosedError,
    CodecError,
    CorruptError,
    DivergedError,
    DuplicateKeyError,
    FencedError,
    FormatVersionError,
    LockedError,
    MissingError,
    NotDeterministicError,
    OutcomeUnknownError,
    PerdureError,
    PersistableError,
    PrevalentError,
    ReadOnlyError,
    RecordTooLargeError,
    RejectedError,
    RemoteError,
    ReplayError,
    StorageError,
    UnauthorizedError,
    UnreachableError,
    UsageError,
    WriteError,
)
from perdure.machine import RecoveryReport
from perdure.memo import (
    Deallocatable,
    MemoWarning,
    PersistableContainer,
    PersistedWork,
    dealloc,
    dealloc_recursive,
    memo,
    persisted,
    resource,
)
from perdure.missing import MISSING, Missing
from perdure.system import (
    MEMORY,
    ChangedCodeWarning,
    Command,
    Control,
    DeterminismWarning,
    EngineWarning,
    PerdureWarning,
    abort_exception,
    control,
    init_persistent_system,
    open,
    readonly,
    unlocked,
)

if TYPE_CHECKING:
    from perdure.aio import open_async
    from perdure.client import connect, connect_async
    from perdure.mapping import POD, PersistentDict, PersistentOrderedDict, ProgressTracker, Tracker
    from perdure.replica import follow
    from perdure.seeds import init_system
    from perdure.shared import (
        SharedPersistentDict,
        SharedPersistentOrderedDict,
        SharedPOD,
        SharedProgressTracker,
        SharedTracker,
    )
    from perdure.stash import (
        CacheFactoryStash,
        CacheStash,
        CloseableStash,
        DelegateStash,
        DictionaryStash,
        DirectoryCompositeStash,
        DirectoryStash,
        FactoryStash,
        Failure,
        FailureFilterStash,
        FillProgress,
        FsspecStash,
        IncrementKeyDirectoryStash,
        KeyLimitStash,
        KeySubsetStash,
        LogStash,
        LRUCacheStash,
        MappingStash,
        MultiProcessFactoryStash,
        MultiProcessRobustStash,
        MultiProcessStash,
        NoopStash,
        OneShotFactoryStash,
        PreemptiveStash,
        PrimablePreemptiveStash,
        PrimeableStash,
        ProtectiveStash,
        ReadOnlyDelegateStash,
        ReadOnlyStash,
        RedisStash,
        ShelveStash,
        SortedStash,
        SqlStash,
        Stash,
        StashMapping,
        UnionStash,
        ZipStash,
        shelve,
    )

__version__ = "0.1.0"

__all__ = [
    "MEMORY",
    "MISSING",
    "POD",
    "CacheFactoryStash",
    "CacheStash",
    "ChangedCodeWarning",
    "CloseableStash",
    "ClosedError",
    "Codec",
    "CodecError",
    "Command",
    "Control",
    "CorruptError",
    "Deallocatable",
    "DelegateStash",
    "DeterminismWarning",
    "DictionaryStash",
    "DirectoryCompositeStash",
    "DirectoryStash",
    "DivergedError",
    "DuplicateKeyError",
    "EngineWarning",
    "FactoryStash",
    "Failure",
    "FailureFilterStash",
    "FencedError",
    "FillProgress",
    "FormatVersionError",
    "FsspecStash",
    "IncrementKeyDirectoryStash",
    "Json",
    "KeyLimitStash",
    "KeySubsetStash",
    "LRUCacheStash",
    "LockedError",
    "LogStash",
    "MappingStash",
    "MemoWarning",
    "Missing",
    "MissingError",
    "MsgPack",
    "MultiProcessFactoryStash",
    "MultiProcessRobustStash",
    "MultiProcessStash",
    "NoopStash",
    "NotDeterministicError",
    "OneShotFactoryStash",
    "OutcomeUnknownError",
    "PerdureError",
    "PerdureWarning",
    "PersistableContainer",
    "PersistableError",
    "PersistedWork",
    "PersistentDict",
    "PersistentOrderedDict",
    "Pickle",
    "PreemptiveStash",
    "PrevalentError",
    "PrimablePreemptiveStash",
    "PrimeableStash",
    "ProgressTracker",
    "ProtectiveStash",
    "ReadOnlyDelegateStash",
    "ReadOnlyError",
    "ReadOnlyStash",
    "RecordTooLargeError",
    "RecoveryReport",
    "RedisStash",
    "RejectedError",
    "RemoteError",
    "ReplayError",
    "SharedPOD",
    "SharedPersistentDict",
    "SharedPersistentOrderedDict",
    "SharedProgressTracker",
    "SharedTracker",
    "ShelveStash",
    "SortedStash",
    "SqlStash",
    "Stash",
    "StashMapping",
    "StorageError",
    "Tracker",
    "UnauthorizedError",
    "UnionStash",
    "UnreachableError",
    "UsageError",
    "WriteError",
    "ZipStash",
    "__version__",
    "abort_exception",
    "clock",
    "connect",
    "connect_async",
    "control",
    "dealloc",
    "dealloc_recursive",
    "follow",
    "init_persistent_system",
    "init_system",
    "memo",
    "open",
    "open_async",
    "persisted",
    "readonly",
    "resource",
    "rng",
    "shelve",
    "unlocked",
    "uuid4",
]


_DICTS = ("POD", "PersistentDict", "PersistentOrderedDict", "ProgressTracker", "Tracker")
_HOMES = {**dict.fromkeys(_DICTS, "mapping"), **dict.fromkeys(("connect", "connect_async"), "client")}
_HOMES |= dict.fromkeys((name for name in __all__ if name.startswith("Shared")), "shared")
_HOMES |= {"follow": "replica", "open_async": "aio", "init_system": "seeds"}


def __getattr__(name: str) -> Any:
    # Dicts, stashes and clients bring much with them, process pools for one: each is imported when it is asked for.
    if name in __all__:
        package = importlib.import_module(f"perdure.{_HOMES.get(name, 'stash')}")
        value = globals()[name] = getattr(package, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
