"""Replicas: a system that follows another one's journal, somewhere else.

``Publisher`` is the primary's side, for a server to mount: queries, headers and bytes. ``follow`` is the replica's.
"""

from perdure.replica._feed import Feed
from perdure.replica._follow import follow, follow_in_place
from perdure.replica._publisher import PublishedSnapshot, Publisher, ReplicaInfo
from perdure.replica._refused import FeedRefusedError

__all__ = [
    "Feed",
    "FeedRefusedError",
    "PublishedSnapshot",
    "Publisher",
    "ReplicaInfo",
    "follow",
    "follow_in_place",
]
