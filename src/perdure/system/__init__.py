"""A plain object made durable: its proxy, its commands, and what can be asked about it.

``open`` is the way in; ``control`` tells and does everything that is perdure's rather than the object's own.
"""

from perdure.system._builtins import replaced_methods
from perdure.system._command import Command, decode_command, encode_command
from perdure.system._control import Control, control, read_only_copy
from perdure.system._decorators import abort_exception, marks, readonly, unlocked
from perdure.system._findings import DeterminismWarning
from perdure.system._fingerprints import changed_methods, fingerprints
from perdure.system._history import command_of, with_outcome
from perdure.system._kinds import kind_of
from perdure.system._lag import Lag, Replica
from perdure.system._open import MEMORY, Memory, OpenOptions, open
from perdure.system._proxy import is_proxy, make_forwarding_proxy, system_of
from perdure.system._replica_parts import rebind, replica_parts, replica_proxy
from perdure.system._runtime import System
from perdure.system._seeds import init_persistent_system
from perdure.system._sharing import blank_state
from perdure.system._state import ObjectState
from perdure.system._warnings import ChangedCodeWarning, EngineWarning, PerdureWarning

__all__ = [
    "MEMORY",
    "ChangedCodeWarning",
    "Command",
    "Control",
    "DeterminismWarning",
    "EngineWarning",
    "Lag",
    "Memory",
    "ObjectState",
    "OpenOptions",
    "PerdureWarning",
    "Replica",
    "System",
    "abort_exception",
    "blank_state",
    "changed_methods",
    "command_of",
    "control",
    "decode_command",
    "encode_command",
    "fingerprints",
    "init_persistent_system",
    "is_proxy",
    "kind_of",
    "make_forwarding_proxy",
    "marks",
    "open",
    "read_only_copy",
    "readonly",
    "rebind",
    "replaced_methods",
    "replica_parts",
    "replica_proxy",
    "system_of",
    "unlocked",
    "with_outcome",
]
