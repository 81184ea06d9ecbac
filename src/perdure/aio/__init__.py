"""Systems for event loops: every task waits for its own command, and all of them for one sync.

``open_async`` is the way in. ``Committer`` is for who has a machine and a loop, such as a server.
"""

from perdure.aio._committer import Committer
from perdure.aio._control import AsyncControl
from perdure.aio._open import open_async

__all__ = ["AsyncControl", "Committer", "open_async"]
