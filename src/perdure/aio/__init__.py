"""Systems for event loops: each task awaits its own command, and tasks that wait at the same time share one sync.

``open_async`` is the way in. ``Committer`` is for code that has a machine and a loop of its own, such as a server.
"""

from perdure.aio._committer import Committer
from perdure.aio._control import AsyncControl
from perdure.aio._open import open_async

__all__ = ["AsyncControl", "Committer", "open_async"]
