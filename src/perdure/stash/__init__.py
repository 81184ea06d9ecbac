"""Stashes: values by name, in stores that stack.

A *leaf* says where values live (a directory, a dict, a log, a database, an object store), a *layer* what happens on the
way (made where they are missing, cached, filtered, sorted, filled in parallel). All answer to the same few calls: see
``Stash``. A stack is built from the inside out:
``CacheStash(FactoryStash(DirectoryStash("results"), factory))``.
"""

from perdure.missing import MISSING, Missing
from perdure.stash._base import Stash
from perdure.stash._cache import CacheStash, LRUCacheStash
from perdure.stash._closeable import CloseableStash
from perdure.stash._composite import DirectoryCompositeStash
from perdure.stash._delegate import DelegateStash, NoopStash, ReadOnlyDelegateStash
from perdure.stash._dictionary import DictionaryStash
from perdure.stash._directory import DirectoryStash
from perdure.stash._factory import CacheFactoryStash, FactoryStash
from perdure.stash._failure import Failure
from perdure.stash._failures import FailureFilterStash, ProtectiveStash
from perdure.stash._fill_progress import FillProgress
from perdure.stash._fsspec import FsspecStash
from perdure.stash._increment import IncrementKeyDirectoryStash
from perdure.stash._log import LogStash
from perdure.stash._mapping import MappingStash
from perdure.stash._mapping_view import StashMapping
from perdure.stash._multi import MultiProcessFactoryStash, MultiProcessRobustStash, MultiProcessStash
from perdure.stash._one_shot import OneShotFactoryStash
from perdure.stash._preemptive import PreemptiveStash, PrimablePreemptiveStash
from perdure.stash._prime import PrimeableStash
from perdure.stash._read_only import ReadOnlyStash
from perdure.stash._redis import RedisStash
from perdure.stash._shelve import ShelveStash, shelve
from perdure.stash._sql import SqlStash
from perdure.stash._subset import KeyLimitStash, KeySubsetStash, SortedStash
from perdure.stash._union import UnionStash
from perdure.stash._zip import ZipStash

__all__ = [
    "MISSING",
    "CacheFactoryStash",
    "CacheStash",
    "CloseableStash",
    "DelegateStash",
    "DictionaryStash",
    "DirectoryCompositeStash",
    "DirectoryStash",
    "FactoryStash",
    "Failure",
    "FailureFilterStash",
    "FillProgress",
    "FsspecStash",
    "IncrementKeyDirectoryStash",
    "KeyLimitStash",
    "KeySubsetStash",
    "LRUCacheStash",
    "LogStash",
    "MappingStash",
    "Missing",
    "MultiProcessFactoryStash",
    "MultiProcessRobustStash",
    "MultiProcessStash",
    "NoopStash",
    "OneShotFactoryStash",
    "PreemptiveStash",
    "PrimablePreemptiveStash",
    "PrimeableStash",
    "ProtectiveStash",
    "ReadOnlyDelegateStash",
    "ReadOnlyStash",
    "RedisStash",
    "ShelveStash",
    "SortedStash",
    "SqlStash",
    "Stash",
    "StashMapping",
    "UnionStash",
    "ZipStash",
    "shelve",
]
