"""Running the application in this process until it is told to stop."""

from __future__ import annotations

import contextlib
import functools
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import uvicorn

from perdure.errors import UsageError
from perdure.server._access import is_loopback
from perdure.server._application import Application
from perdure.server._protocol import GuardedProtocol
from perdure.server._settings import ServerLimits
from perdure.server._tokens import Tokens

_DESCRIPTORS_KEPT = 100  # For the journal, snapshots, and whatever else a process has open.
_BACKLOG = 2048


def serve(
    application: Application,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    certificate: str | None = None,
    key: str | None = None,
    ready: Callable[[str], None] = lambda url: None,
    stop: threading.Event | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT; what was accepted by then is answered. Does not close the system.

    ``port`` 0: any that is free. ``certificate``, ``key``: PEM files; with them it is HTTPS. ``ready``: called with the
    URL once connections are taken. ``stop``: setting it is as good as a signal. Runs on the main thread, or on another
    one where nobody sends signals.

    Raises:
        UsageError: it would be open to others without a token, or the address or the certificate cannot be used.
    """
    check_exposure(host, application.tokens)
    if (certificate is None) != (key is None):
        raise UsageError("TLS takes a certificate and its key", hint="--tls-cert FILE --tls-key FILE")
    limits = _within_descriptors(application.limits)
    config = uvicorn.Config(
        application,
        http=functools.partial(GuardedProtocol, limits),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=round(limits.idle_timeout_s),
        timeout_graceful_shutdown=round(limits.stop_timeout_s),
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except OSError as error:
        raise UsageError(f"the certificate or its key cannot be used: {error}", path=certificate) from error
    with _listening(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        scheme = "https" if certificate is not None else "http"
        url = f"{scheme}://{shown}:{listener.getsockname()[1]}"
        _Server(config, application, lambda: ready(url), stop or threading.Event()).run([listener])


def check_exposure(host: str, tokens: Tokens) -> None:
    """Raises ``UsageError`` where others could reach the server, and nothing would tell them from its owner."""
    if not is_loopback(host) and not tokens:
        raise UsageError(
            f"{host} can be reached from elsewhere, and there is no token",
            hint="--token-file FILE, or --host 127.0.0.1",
        )


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
    except (OSError, UnicodeError, OverflowError) as error:
        raise UsageError(f"cannot listen at {host}, port {port}: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise UsageError(f"cannot listen at {host}, port {port}: {error}") from error
    return listener


def _within_descriptors(limits: ServerLimits) -> ServerLimits:
    """A process that runs out of descriptors cannot even refuse."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits
    return replace(limits, connections_max=max(1, min(limits.connections_max, soft - _DESCRIPTORS_KEPT)))


class _Server(uvicorn.Server):
    """uvicorn's server; it neither ends the process by the signal that stopped it, nor waits for feeds to end."""

    def __init__(
        self, config: uvicorn.Config, application: Application, ready: Callable[[], None], stop: threading.Event
    ) -> None:
        super().__init__(config)
        self._application = application
        self._ready = ready
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._stop.is_set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._application.end_feeds()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
