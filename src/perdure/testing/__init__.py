"""What perdure is tested with, for your own tests.

A disk that fails on command (``FaultyFs``), power cuts at every moment (``crashsim``), clocks that stand still, whether
a journal replays (``assert_replayable``), strategies for Hypothesis, and the contracts of journals, logs, snapshot
stores, stashes and codecs, each as a class of tests. What needs pytest or Hypothesis is imported when it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from perdure.testing._clocks import FrozenClock, ManualClock
from perdure.testing._faulty_fs import Call, FaultyFs, Mode, failing_everywhere
from perdure.testing._mixin import TestSystemMixin
from perdure.testing._replayable import assert_replayable
from perdure.testing._strategies import commands, storable_values
from perdure.testing._wrapping_fs import PRIMITIVES, WrappingFs

if TYPE_CHECKING:
    from perdure.testing._codec_contract import CodecContract
    from perdure.testing._journal_contract import JournalContract
    from perdure.testing._log_contract import LogContract
    from perdure.testing._snapshot_contract import SnapshotContract
    from perdure.testing._stash_contract import StashContract

__all__ = [
    "PRIMITIVES",
    "Call",
    "CodecContract",
    "FaultyFs",
    "FrozenClock",
    "JournalContract",
    "LogContract",
    "ManualClock",
    "Mode",
    "SnapshotContract",
    "StashContract",
    "TestSystemMixin",
    "WrappingFs",
    "assert_replayable",
    "commands",
    "failing_everywhere",
    "storable_values",
]

_CONTRACTS = {
    "CodecContract": "_codec_contract",
    "JournalContract": "_journal_contract",
    "LogContract": "_log_contract",
    "SnapshotContract": "_snapshot_contract",
    "StashContract": "_stash_contract",
}


def __getattr__(name: str) -> Any:
    if name in _CONTRACTS:
        return getattr(importlib.import_module(f"perdure.testing.{_CONTRACTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
