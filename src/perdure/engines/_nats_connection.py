"""A connection to NATS servers: nats-py is made for asyncio, so a thread of its own runs the loop.

Reconnecting is left to nats-py. What is not left to it is waiting: while there is no connection it would keep what is
published in a buffer, and send it at some later time; here nothing is published then.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from perdure.engines._url import EngineUrl
from perdure.errors import ClosedError, PerdureError, StorageError, UnauthorizedError, UnreachableError, UsageError
from perdure.extras import needed_module

Result = TypeVar("Result")
VERSION_MIN = (2, 12)
REQUEST_S = 3.0
_CONNECT_S = 8.0
_REFUSED_S = 2.0  # How long a server that is being started again is waited for.
_LOOK_S = 0.01
_HEADER_BYTES = 512  # Of a message: what a server counts beside the data.


class NatsConnection:
    """Any thread may call, except the loop's own."""

    def __init__(self, url: EngineUrl, *, connect_s: float = _CONNECT_S) -> None:
        """Raises ``UnreachableError``, ``UnauthorizedError``, ``UsageError`` (no such option, a server too old)."""
        self._nats = needed_module("nats", "nats")
        self.url = url
        self.closed = False
        self._accepting = threading.Lock()
        self._last_error: BaseException | None = None
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="perdure-nats", daemon=True)
        self._thread.start()
        try:
            self.client = self._connected(connect_s)
            self.js = self.client.jetstream(timeout=REQUEST_S)
            version = self.client.connected_server_version
            self.version = (version.major, version.minor, version.patch)
            self._check_version()
        except BaseException:
            self.close()
            raise

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def _connected(self, connect_s: float) -> Any:
        """A client that has connected. The driver would try for ever, also where trying again cannot help."""
        client = self._client_class()()
        work = asyncio.run_coroutine_threadsafe(client.connect(**self._options()), self.loop)
        started = time.monotonic()
        while not work.done():
            waited_s = time.monotonic() - started
            final = isinstance(self._last_error, self._nats.errors.SecureConnWantedError) or (
                self._last_error is not None and isinstance(self._refused(self._last_error), UnauthorizedError)
            )
            refused = isinstance(self._last_error, ConnectionRefusedError | socket.gaierror) and waited_s > _REFUSED_S
            if final or refused or waited_s > connect_s:
                work.cancel()
                break
            time.sleep(_LOOK_S)
        try:
            work.result()
        except CancelledError as error:
            raise self._refused(self._last_error or TimeoutError("no answer in time")) from error
        except (self._nats.errors.Error, OSError, ssl.SSLError, ValueError) as error:
            raise self._refused(self._last_error or error) from error
        return client

    def _client_class(self) -> Any:
        """The driver's client; where TLS is wanted, one that says nothing to a server that does not ask for it."""
        errors = self._nats.errors
        base = needed_module("nats.aio.client", "nats").Client
        if self.url.options.get("tls") != "1" and "ca" not in self.url.options:
            return base

        class Secure(base):  # type: ignore[misc,valid-type]
            async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
                # Whoever sits in between can take the word away. The driver would then send the password in the clear.
                if initial_connection and not info.get("tls_required"):
                    raise errors.SecureConnWantedError
                await super()._process_info(info, initial_connection)

        return Secure

    def _options(self) -> dict[str, Any]:
        url, options = self.url, self.url.options
        scheme = "tls" if options.get("tls") == "1" else "nats"
        servers = [f"{scheme}://{url.credentials}{host}" for host in url.hosts]
        found: dict[str, Any] = {
            "servers": servers,
            "name": "perdure",
            "allow_reconnect": True,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.05,
            "connect_timeout": 2,
            # A server that is frozen, or cut off, is left after about two seconds.
            "ping_interval": 1,
            "max_outstanding_pings": 2,
            "error_cb": self._note_error,
        }
        if "creds" in options:
            found["user_credentials"] = options["creds"]
        if "ca" in options:
            try:
                found["tls"] = ssl.create_default_context(cafile=options["ca"])
            except (OSError, ssl.SSLError) as error:
                raise UsageError(f"ca={options['ca']} cannot be used: {error}", path=url.shown) from error
        return found

    async def _note_error(self, error: BaseException) -> None:
        self._last_error = error

    def _refused(self, error: BaseException) -> PerdureError:
        said = " ".join(str(error).split()) or type(error).__name__
        if "authorization" in said.lower() or "authentication" in said.lower():
            return UnauthorizedError(f"the server wants other credentials: {said}", path=self.url.shown)
        tls = isinstance(error, ssl.SSLError) or "tls" in said.lower() or "secure" in said.lower()
        hint = (
            "is tls=1 right, and the certificate authority (ca=…)?"
            if tls
            else "is the server running, and the port right?"
        )
        return UnreachableError(f"nobody answers: {said}", path=self.url.shown, hint=hint)

    def _check_version(self) -> None:
        if self.version[:2] < VERSION_MIN:
            shown = ".".join(map(str, self.version))
            raise UsageError(
                f"NATS server {shown} is too old; it takes {VERSION_MIN[0]}.{VERSION_MIN[1]}",
                path=self.url.shown,
                hint="older ones have lost streams in crashes and let two writers win one position",
            )

    @property
    def is_connected(self) -> bool:
        return bool(self.client.is_connected)

    @property
    def entry_bytes_max(self) -> int:
        """Of a message's data. Headers count, too; over its limit a server cuts the connection for good."""
        return int(self.client.max_payload) - _HEADER_BYTES

    # ---- calls

    def begin(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Has the loop run a coroutine. Closing cancels it. Raises ``ClosedError``: it will not run."""
        # Closing takes the lock, too: what has begun by then it finds and cancels, and behind it nothing begins.
        with self._accepting:
            if not self.closed:
                return asyncio.run_coroutine_threadsafe(work, self.loop)
        work.close()
        raise ClosedError("the connection is closed", path=self.url.shown)

    def call(self, work: Coroutine[Any, Any, Result], timeout_s: float) -> Result:
        """Runs a coroutine on the loop. Raises what it raises, ``UnreachableError`` when the time is over."""
        future = self.begin(work)
        try:
            return future.result(timeout_s)
        except (FutureTimeoutError, CancelledError) as error:
            future.cancel()
            if isinstance(error, CancelledError) and self.closed:
                raise ClosedError("the connection is closed", path=self.url.shown) from error
            raise UnreachableError("no answer came in time", path=self.url.shown) from error

    def ask(self, work: Coroutine[Any, Any, Result], timeout_s: float = REQUEST_S + 2) -> Result:
        """``call`` of something that changes nothing, or may be repeated: foreign errors become ``RemoteError``."""
        try:
            return self.call(work, timeout_s)
        except PerdureError:
            raise
        except self._nats.js.errors.NotFoundError:
            raise
        except self._nats.js.errors.APIError as error:
            raise self.api_error(error) from error
        except (TimeoutError, self._nats.errors.Error, self._nats.js.errors.Error, OSError) as error:
            raise UnreachableError(
                f"no answer: {' '.join(str(error).split()) or type(error).__name__}", path=self.url.shown
            ) from error

    def api_error(self, error: Any) -> PerdureError:
        """What JetStream answered, as an error of the tree: for the moment, or for good."""
        said = f"{error.description or type(error).__name__} ({error.err_code or error.code})"
        if error.code in (503, 408) or error.err_code in _PASSING:
            return UnreachableError(f"not at the moment: {said}", path=self.url.shown)
        return StorageError(f"JetStream refused: {said}", path=self.url.shown)

    async def publish(self, subject: str, data: bytes, headers: Mapping[str, str] | None) -> Any:
        """One message, and what the server answered."""
        return await self.client.request(subject, data, timeout=REQUEST_S, headers=dict(headers) if headers else None)

    def close(self) -> None:
        """Idempotent."""
        with self._accepting:
            if self.closed:
                return
            self.closed = True

        async def leave() -> None:
            client = getattr(self, "client", None)
            if client is not None:
                with contextlib.suppress(self._nats.errors.Error, OSError, asyncio.TimeoutError):
                    await asyncio.wait_for(client.close(), 2)
            # Again and again: what is cancelled may begin something else, as the driver's reconnecting does.
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                for task in others:
                    task.cancel()
                await asyncio.gather(*others, return_exceptions=True)

        with contextlib.suppress(FutureTimeoutError):
            asyncio.run_coroutine_threadsafe(leave(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        if self._thread is not threading.current_thread():
            self._thread.join(5)


# No leader yet, not in this cluster's metadata yet, consumers being moved.
_PASSING = frozenset({10004, 10005, 10008, 10009, 10013, 10014, 10072, 10118})
