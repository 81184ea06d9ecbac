"""Systems on an engine's log: every node keeps the whole state and applies every entry.

The log is the only authority. ``Node`` appends its callers' commands and applies everybody's; ``Replica`` is the part
that applies; ``Keeper`` takes snapshots and compares digests.
"""

from perdure.cluster._node import Node
from perdure.cluster._opening import Beginning, ClusterOptions, create_system, open_node, open_node_on, snapshots_of
from perdure.cluster._peek import LogReader, Peek, peek
from perdure.cluster._snapshots import BlobSnapshots

__all__ = [
    "Beginning",
    "BlobSnapshots",
    "ClusterOptions",
    "LogReader",
    "Node",
    "Peek",
    "create_system",
    "open_node",
    "open_node_on",
    "peek",
    "snapshots_of",
]
