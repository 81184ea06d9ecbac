"""A server beside everything else that a process does."""

from __future__ import annotations

import threading

from perdure.errors import PerdureError, UsageError
from perdure.server._application import Application
from perdure.server._serve import serve

_START_S_MAX = 30.0


class BackgroundServer:
    """``serve`` in a thread of its own. Any thread may stop it."""

    def __init__(self, application: Application, *, host: str = "127.0.0.1", port: int = 8000) -> None:
        """Returns when it listens; ``url`` says where. Raises what ``serve`` raises."""
        self.url: str = ""
        self._application = application
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(host, port), name="perdure-server", daemon=True)
        self._thread.start()
        self._ready.wait(_START_S_MAX)
        if not self.url:
            self.stop()
            if isinstance(self._error, PerdureError):
                raise self._error
            raise UsageError(f"the server did not begin to listen at {host}, port {port}") from self._error

    def stop(self) -> None:
        """Returns when what was accepted has been answered. Idempotent."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _serve(self, host: str, port: int) -> None:
        try:
            serve(self._application, host=host, port=port, ready=self._listens, stop=self._stop)
        except BaseException as error:  # Handed to whoever started it; a thread has nobody else to tell.
            self._error = error
        finally:
            self._ready.set()

    def _listens(self, url: str) -> None:
        self.url = url
        self._ready.set()
