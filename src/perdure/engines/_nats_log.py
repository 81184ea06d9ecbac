"""A log on NATS JetStream: one stream a system.

Order, dense numbers and compare-and-append are the stream's own (``Nats-Expected-Last-Sequence``, the check of the
whole stream: the one per subject let two writers win in clusters of old servers). The stream's metadata carry the log's
id, so that a stream that was made anew under the same name is not taken for this one. Its dedup window is not used:
exactly once is kept in the replicated state.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from perdure.engines._nats_blobs import NatsBlobs
from perdure.engines._nats_connection import REQUEST_S, NatsConnection
from perdure.engines._nats_durability import durability_of
from perdure.engines._nats_follow import follow_stream
from perdure.engines._protocol import ID_BYTES, Blobs, Bounds, ConflictError, LogCapabilities, LogEntry
from perdure.engines._url import EngineUrl
from perdure.errors import (
    CorruptError,
    DivergedError,
    FormatVersionError,
    LockedError,
    MissingError,
    OutcomeUnknownError,
    PerdureError,
    RecordTooLargeError,
    StorageError,
    UnreachableError,
    WriteError,
)
from perdure.extras import needed_module

_WRONG_SEQUENCE = (10071, 10164)
_NO_ROOM = (10023, 10028, 10047, 10077, 10122)  # Resources, memory and storage, of the account, the server, the stream.
_TOO_LARGE = 10054
_NAME_TAKEN = 10058
_LOG_ID, _FORMAT = "perdure-log", "perdure-format"
_FORMAT_VERSION = "1"
_READ_AT_ONCE = 16


def stream_of(url: EngineUrl) -> str:
    """The name of a system's stream."""
    return f"PERDURE_{url.system}"


def subject_of(url: EngineUrl) -> str:
    """What its entries are published to."""
    return f"perdure.{url.system}.log"


def create_nats_log(url: EngineUrl, log_id: bytes) -> None:
    """Makes an empty stream.

    Raises ``LockedError`` where there is one of this name, ``StorageError`` where the server refuses, and what
    connecting raises.
    """
    api = needed_module("nats.js.api", "nats")
    errors = needed_module("nats.js.errors", "nats")
    connection = NatsConnection(url)
    try:
        replicas = int(url.options.get("replicas") or (3 if len(url.hosts) >= 3 else 1))
        config = api.StreamConfig(
            name=stream_of(url),
            subjects=[subject_of(url)],
            num_replicas=replicas,
            storage=api.StorageType.FILE,
            retention=api.RetentionPolicy.LIMITS,
            discard=api.DiscardPolicy.NEW,
            deny_delete=True,
            allow_direct=False,
            metadata={_LOG_ID: log_id.hex(), _FORMAT: _FORMAT_VERSION},
        )

        async def make() -> Any:
            return await connection.js.add_stream(config)

        try:
            connection.call(make(), REQUEST_S + 7)
        except errors.APIError as error:
            if error.err_code == _NAME_TAKEN:
                raise LockedError("there is a system of this name", path=url.shown) from error
            raise connection.api_error(error) from error
        except TimeoutError as error:
            raise UnreachableError("the server does not make a stream", path=url.shown) from error
        except needed_module("nats.errors", "nats").Error as error:
            raise StorageError(
                f"the server does not make a stream: {error}", path=url.shown, hint="is JetStream switched on?"
            ) from error
    finally:
        connection.close()


class NatsLog:
    """See ``Log``."""

    blobs: Blobs

    def __init__(self, url: EngineUrl) -> None:
        """Connects to a log that is there.

        Raises:
            MissingError: there is none.
            UnreachableError, UnauthorizedError, UsageError: see ``NatsConnection``.
            FormatVersionError: a newer perdure made it.
        """
        self._errors = needed_module("nats.js.errors", "nats")
        self._client_errors = needed_module("nats.errors", "nats")
        self._url = url
        self.url = url.shown
        self._stream = stream_of(url)
        self._subject = subject_of(url)
        self._connection = NatsConnection(url)
        try:
            info = self._info()
            if info is None:
                raise MissingError(
                    "there is no system of this name", path=url.shown, hint=f"perdure create {url.shown} app:Class"
                )
            metadata = info.config.metadata or {}
            self.log_id = bytes.fromhex(metadata.get(_LOG_ID, ""))
            if len(self.log_id) != 16:
                raise StorageError(f"the stream {self._stream} was not made by perdure", path=url.shown)
            if metadata.get(_FORMAT) != _FORMAT_VERSION:
                raise FormatVersionError(f"log format {metadata.get(_FORMAT)}", path=url.shown, hint="upgrade perdure")
            level, durability = durability_of(info.config, url)
            server = "NATS " + ".".join(map(str, self._connection.version))
            self.capabilities = LogCapabilities(self._connection.entry_bytes_max - ID_BYTES, durability, level, server)
            self.blobs = NatsBlobs(self._connection, url, int(info.config.num_replicas or 1))
        except BaseException:
            self._connection.close()
            raise

    def _info(self) -> Any:
        async def ask() -> Any:
            return await self._connection.js.stream_info(self._stream)

        try:
            return self._connection.ask(ask())
        except self._errors.NotFoundError:
            return None

    # ---- append

    def append(self, data: bytes, id: bytes, *, expected: int | None = None) -> int:
        """See ``Log.append``."""
        if len(data) > self.capabilities.entry_bytes_max:
            raise RecordTooLargeError(
                f"an entry of {len(data)} bytes; the server takes {self.capabilities.entry_bytes_max}",
                path=self.url,
                hint="raise max_payload in the server's configuration, up to 8 MB",
            )
        if not self._connection.is_connected:
            raise UnreachableError("there is no connection", path=self.url)
        headers = None if expected is None else {"Nats-Expected-Last-Sequence": str(expected)}
        try:
            reply = self._connection.call(self._connection.publish(self._subject, id + data, headers), REQUEST_S + 2)
        except self._client_errors.NoRespondersError as error:
            # Without a leader the subject has no listener; the server drops the message and says so.
            raise UnreachableError("the stream has no leader at the moment", path=self.url) from error
        except UnreachableError as error:
            raise OutcomeUnknownError(error.message, path=self.url) from error
        except (TimeoutError, self._client_errors.Error, OSError) as error:
            raise OutcomeUnknownError(f"no answer came: {str(error) or type(error).__name__}", path=self.url) from error
        return self._position(json.loads(reply.data), expected)

    def _position(self, answer: dict[str, Any], expected: int | None) -> int:
        refused = answer.get("error")
        if refused is None:
            if answer.get("stream") != self._stream:
                raise DivergedError(f"the stream {answer.get('stream')} took the entry", path=self.url)
            return int(answer["seq"])
        code, said = refused.get("err_code"), refused.get("description", "")
        if code in _WRONG_SEQUENCE:
            raise ConflictError(f"the log is not at {expected}: {said}", path=self.url, seq=expected)
        if code in _NO_ROOM:
            raise WriteError(f"the engine has no room: {said}", path=self.url, hint="make room, or raise its limits")
        if code == _TOO_LARGE:
            raise RecordTooLargeError(f"the engine refuses the size: {said}", path=self.url)
        raise OutcomeUnknownError(f"the engine answered: {said} ({code})", path=self.url)

    def confirm(self, position: int) -> None:
        """See ``Log.confirm``: a message is handed out only once a majority has it."""

    # ---- reading

    def read(self, after: int, count_max: int) -> list[LogEntry]:
        """See ``Log.read``."""
        if count_max <= _READ_AT_ONCE:
            return self._read_some(after, count_max)
        last = self.bounds().last
        found: list[LogEntry] = []
        if last > after:
            wanted = min(count_max, last - after)
            following = self.follow(after, idle_s=REQUEST_S)
            for entries in following:
                found += entries
                if len(found) >= wanted or not entries:
                    break
            following.close()  # type: ignore[attr-defined]
        return found[:count_max]

    def _read_some(self, after: int, count_max: int) -> list[LogEntry]:
        async def ask() -> list[Any]:
            wanted = range(after + 1, after + 1 + count_max)
            return await asyncio.gather(
                *(self._connection.js.get_msg(self._stream, seq=seq) for seq in wanted), return_exceptions=True
            )

        found: list[LogEntry] = []
        for answer in self._connection.ask(ask()):
            if isinstance(answer, BaseException):
                if not found:
                    self._explain_no_entry(answer, after)
                break
            found.append(entry_of(answer.seq, answer.data or b"", self.url))
        return found

    def _explain_no_entry(self, error: BaseException, after: int) -> None:
        if not isinstance(error, self._errors.NotFoundError):
            if isinstance(error, self._errors.APIError):
                raise self._connection.api_error(error) from error
            raise UnreachableError(f"no answer: {str(error) or type(error).__name__}", path=self.url) from error
        bounds = self.bounds()
        if after + 1 < bounds.first:
            raise MissingError(f"entries before {bounds.first} were trimmed", path=self.url, seq=after + 1)

    def follow(self, after: int, *, idle_s: float) -> Iterator[list[LogEntry]]:
        """See ``Log.follow``."""
        return follow_stream(self._connection, self._stream, after, idle_s, self.bounds)

    def bounds(self) -> Bounds:
        """See ``Log.bounds``."""
        info = self._info()
        if info is None:
            raise DivergedError("the log is gone", path=self.url, hint=_GONE_HINT)
        return Bounds(max(int(info.state.first_seq), 1), int(info.state.last_seq))

    def trim(self, before: int) -> None:
        """See ``Log.trim``."""

        async def purge() -> Any:
            return await self._connection.js.purge_stream(self._stream, seq=before)

        if before > 1:
            self._connection.ask(purge(), 30)

    def check(self) -> None:
        """See ``Log.check``."""
        info = self._info()
        if info is None:
            raise DivergedError("the log is gone", path=self.url, hint=_GONE_HINT)
        if (info.config.metadata or {}).get(_LOG_ID) != self.log_id.hex():
            raise DivergedError("another log has this name now", path=self.url, hint=_GONE_HINT)

    def close(self) -> None:
        """See ``Log.close``."""
        self._connection.close()


_GONE_HINT = "what this node has is still in its memory: perdure.control(…).digest() and history() read it"


def entry_of(position: int, data: bytes, path: str) -> LogEntry:
    """Raises ``CorruptError`` where the message is none that perdure has written."""
    if len(data) < ID_BYTES:
        raise CorruptError("a message in the stream is no entry", path=path, seq=position)
    return LogEntry(position, data[:ID_BYTES], data[ID_BYTES:])


def is_passing(error: PerdureError) -> bool:
    """Whether trying again may help."""
    return isinstance(error, UnreachableError)
