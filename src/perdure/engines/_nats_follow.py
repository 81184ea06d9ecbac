"""Following a stream: an ephemeral pull consumer with one standing request and heartbeats.

Silence longer than three heartbeats, or a status from the server, ends it: whoever follows checks the log and begins
anew, which takes milliseconds. (The client's own ordered consumer notices a lost server after tens of seconds.)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

from perdure.engines._nats_connection import REQUEST_S, NatsConnection
from perdure.engines._protocol import ID_BYTES, Bounds, LogEntry
from perdure.errors import CorruptError, MissingError, PerdureError, UnreachableError
from perdure.extras import needed_module

_HEARTBEAT_S = 0.5
_BATCH = 2_000
_EXPIRES_S = 30.0
_INACTIVE_S = 30.0
_NOBODY = "503"
_KNOWN_S = 2.0  # Within this time the servers of a cluster know of a new consumer; it takes milliseconds.
_HELD_MAX = 20_000  # Entries that wait to be applied before the stream is asked for more.


def follow_stream(
    connection: NatsConnection, stream: str, after: int, idle_s: float, bounds: Callable[[], Bounds]
) -> Iterator[list[LogEntry]]:
    """See ``Log.follow``."""
    found: queue.SimpleQueue[LogEntry | PerdureError] = queue.SimpleQueue()
    pump = connection.begin(_pump(connection, stream, after, found))
    expected = after + 1
    try:
        while True:
            entries: list[LogEntry] = []
            failed: PerdureError | None = None
            try:
                item = found.get(timeout=idle_s)
                while True:
                    if isinstance(item, PerdureError):
                        failed = item
                        break
                    if item.position != expected:
                        failed = _gap(item.position, expected, bounds().first, connection.url.shown)
                        break
                    expected += 1
                    entries.append(item)
                    item = found.get_nowait()
            except queue.Empty:
                pass
            if entries or failed is None:
                if not entries and expected < bounds().first:
                    raise MissingError("the next entries were trimmed", path=connection.url.shown, seq=expected)
                yield entries
            if failed is not None:
                raise failed
    finally:
        pump.cancel()


def _gap(position: int, expected: int, first: int, path: str) -> PerdureError:
    if first > expected:
        return MissingError(f"entries before {first} were trimmed", path=path, seq=expected)
    # What was on its way when a connection broke is lost, and the driver goes on with what comes over the next one.
    return UnreachableError(f"the stream went from {expected - 1} to {position}", path=path)


async def _pump(connection: NatsConnection, stream: str, after: int, found: queue.SimpleQueue[Any]) -> None:
    """Moves messages from the server to ``found`` until something breaks, and says there what."""
    errors = needed_module("nats.errors", "nats")
    js_errors = needed_module("nats.js.errors", "nats")
    client = connection.client
    inbox = client.new_inbox()
    box: asyncio.Queue[Any] = asyncio.Queue()
    consumer: str | None = None
    subscription = None

    async def arrived(message: Any) -> None:
        box.put_nowait(message)

    try:
        subscription = await client.subscribe(inbox, cb=arrived, pending_msgs_limit=-1, pending_bytes_limit=-1)
        consumer = await _make_consumer(connection, stream, after)
        known_by = time.monotonic() + _KNOWN_S
        while True:
            while found.qsize() > _HELD_MAX:
                await asyncio.sleep(0.01)
            await client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", _REQUEST, inbox)
            ended = await _take_batch(box, found, connection.url.shown)
            if ended.startswith(_NOBODY) and time.monotonic() < known_by:
                # The server that was asked has not heard yet which of the others keeps the new consumer.
                await asyncio.sleep(0.01)
            elif ended:
                break
    except asyncio.CancelledError:
        raise
    except PerdureError as error:
        found.put(error)
    except (TimeoutError, errors.Error, js_errors.Error, OSError) as error:
        found.put(
            UnreachableError(f"the stream broke: {str(error) or type(error).__name__}", path=connection.url.shown)
        )
    else:
        found.put(UnreachableError(f"the server ended the stream: {ended}", path=connection.url.shown))
    finally:
        with contextlib.suppress(errors.Error, js_errors.Error, OSError, asyncio.TimeoutError):
            if subscription is not None:
                await subscription.unsubscribe()
            if consumer is not None and client.is_connected:
                # Not waited for: the server forgets an idle consumer by itself.
                await client.publish(f"$JS.API.CONSUMER.DELETE.{stream}.{consumer}", b"")


_REQUEST = json.dumps(
    {"batch": _BATCH, "expires": int(_EXPIRES_S * 1e9), "idle_heartbeat": int(_HEARTBEAT_S * 1e9)}
).encode()


async def _make_consumer(connection: NatsConnection, stream: str, after: int) -> str:
    api = needed_module("nats.js.api", "nats")
    config = api.ConsumerConfig(
        deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=after + 1,
        ack_policy=api.AckPolicy.NONE,
        inactive_threshold=_INACTIVE_S,
        mem_storage=True,
        num_replicas=1,
    )
    info = await connection.js.add_consumer(stream, config, timeout=REQUEST_S)
    return str(info.name)


async def _take_batch(box: asyncio.Queue[Any], found: queue.SimpleQueue[Any], path: str) -> str:
    """Takes what one request gives; empty, or the status with which the server ended it."""
    count = 0
    while count < _BATCH:
        message = await asyncio.wait_for(box.get(), 3 * _HEARTBEAT_S)
        status = message.headers.get("Status") if message.headers else None
        if status == "100":
            continue
        if status == "408":
            return ""  # The request has expired: time for the next one.
        if status:
            return f"{status} {message.headers.get('Description', '').strip()}".strip()
        count += 1
        # $JS.ACK.stream.consumer.delivered.position.…, from the end because a domain may stand in front.
        position = int(message.reply.split(".")[-4]) if message.reply.count(".") == 8 else _position(message.reply)
        data = message.data
        if len(data) < ID_BYTES:
            raise CorruptError("a message in the stream is no entry", path=path, seq=position)
        found.put(LogEntry(position, data[:ID_BYTES], data[ID_BYTES:]))
    return ""


def _position(reply: str) -> int:
    """From ``$JS.ACK.domain.account.stream.consumer.delivered.position.consumer-position.time.pending[.token]``."""
    return int(reply.split(".")[7])
