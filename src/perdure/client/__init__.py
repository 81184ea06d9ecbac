"""A system on a server, used through the methods of its class: ``connect``, and ``connect_async`` for event loops."""

from perdure.client._connect import connect, connect_async
from perdure.client._control import RemoteControl

__all__ = ["RemoteControl", "connect", "connect_async"]
