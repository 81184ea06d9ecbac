"""Every default and bound, with its unit. Nothing here is read from the environment."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# Records and segments.
RECORD_BYTES_MAX = 1 * GIB
"""The largest payload of one entry."""
SEGMENT_BYTES_MAX = 64 * MIB
"""A segment that has reached this size is sealed, and the next entry starts a new one."""
SEGMENT_DESCRIPTION_BYTES_MAX = 4 * MIB

# Journal.
SYNC_INTERVAL_MS = 1_000
"""With durability ``"everysec"``: the longest time that a command waits for its sync."""
IDLE_MARK_MS = 50
"""A journal that has been idle this long writes a watermark, so that its last entries can be told from a torn tail."""
FOLLOW_POLL_MS = 20
"""How often a reader beside a writer looks for new entries."""

# Snapshots.
SNAPSHOT_JOURNAL_BYTES_MIN = 16 * MIB
"""``snapshot="auto"`` takes none while the journal since the last one is smaller than this."""
SNAPSHOT_INLINE_BYTES_MAX = 64 * KIB
"""A state that was at most this large last time is written under the lock; a larger one by a forked child."""
SNAPSHOTS_KEPT = 2
"""Snapshots that retention leaves, with every segment that restoring the older one needs."""
SNAPSHOT_BLOCK_BYTES = 256 * KIB

# Receipts of requests.
RECEIPT_WINDOW = 256
"""How far below its highest counter a client's request may be repeated: so many may be on their way at once."""
RECEIPTS_MAX = 100_000
"""Of all clients; beyond it those of the clients that have been silent the longest are forgotten."""
RECEIPT_ANSWERS_BYTES_MAX = 4 * MIB
"""Answers that are kept for repeated requests; beyond it the oldest are forgotten, and that they ran is not."""
RECEIPTS_BYTES_MAX = 16 * MIB
"""The receipts in a snapshot."""

# Feed and replicas.
FEED_CHUNK_BYTES = 1 * MIB
"""About so much of the journal is read and sent at a time."""
FEED_HEARTBEAT_S = 1.0
"""A feed says at least this often how far its primary is."""
FEED_SILENCE_S = 10.0
"""A replica that has heard nothing for so long connects again."""
FEED_DIGEST_INTERVAL_S = 60.0
"""How often a primary publishes the digest of its state, if something has changed."""
FEEDS_MAX = 64
"""Replicas that one primary serves at a time."""
FOLLOW_RETRY_S_MIN = 0.1
FOLLOW_RETRY_S_MAX = 10.0
"""A replica that cannot reach its primary tries again after the first, then after twice that, up to the second."""

# Stored data.
NESTING_DEPTH_MAX = 500
"""Containers within containers that a stored value may have."""

# Recovery.
PROGRESS_AFTER_S = 2.0
"""A restore longer than this shows its progress on a terminal."""

# Sharing among processes.
SHARED_FRAME_BYTES_MAX = 512 * MIB
"""One message between a process and the owner of a directory."""
SHARED_HELLO_BYTES_MAX = 64 * KIB
"""The same, until the owner knows who is there."""
SHARED_LEASE_S = 600.0
"""The longest that one process waits for another: for an answer, for a lock, for an owner that recovers."""
SHARED_CHUNK_COUNT = 1000
"""Values that going through a shared dict fetches at a time, and SHARED_CHUNK_BYTES at most."""
SHARED_CHUNK_BYTES = 1 * MIB

# Server and client.
SERVER_BODY_BYTES_MAX = 16 * MIB
"""The largest body of a request."""
SERVER_HEADER_BYTES_MAX = 64 * KIB
"""The request line and all headers of one request."""
SERVER_NESTING_DEPTH_MAX = 100
"""Lists and objects within each other in a body."""
SERVER_CALLS_MAX = 512
"""Calls that are being read or carried out at once; further ones are asked to come again."""
SERVER_CONNECTIONS_MAX = 2_000
"""Open connections; further ones are refused."""
SERVER_RECEIVE_TIMEOUT_S = 20.0
"""How long a client may take to send its headers, and again to send its body."""
SERVER_CALL_TIMEOUT_S = 60.0
"""How long the answer of a call is waited for; a command goes on all the same."""
SERVER_IDLE_TIMEOUT_S = 75.0
"""How long a connection may stay open without a request."""
SERVER_STOP_TIMEOUT_S = 30.0
"""How long stopping waits for what was accepted."""
CLIENT_TIMEOUT_S = 30.0
"""How long a client tries, over broken connections and restarts of the server, before it gives up."""
CLIENT_CONNECTIONS_MAX = 64
"""Requests that one client has on their way at once; further ones wait."""
