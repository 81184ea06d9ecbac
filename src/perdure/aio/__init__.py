"""Systems for event loops: every task waits for its own command, and all of them for one sync."""

from perdure.aio._committer import Committer

__all__ = ["Committer"]
