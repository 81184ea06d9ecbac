"""What can be asked about a system elsewhere."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import quote

import msgspec

from perdure.client._awaiting import AwaitingClient
from perdure.client._blocking import BlockingClient
from perdure.client._requests import Response, Target
from perdure.errors import CodecError, RejectedError, UnauthorizedError, UsageError
from perdure.system import Control, read_only_copy
from perdure.wire import JSON, OWN


class RemoteControl(Control):
    """What ``perdure.control`` gives for a proxy of ``connect``. What is not here is for the server's own process."""

    def __init__(self, client: BlockingClient) -> None:
        self._client = client

    @property
    def seq(self) -> int:
        """Of the last entry there, at this moment."""
        return _status(self._client.get("/status", JSON))["seq"]

    @property
    def durable_seq(self) -> int:
        """Everything up to here survives a power cut there."""
        return _status(self._client.get("/status", JSON))["durable_seq"]

    @property
    def path(self) -> str:
        """The server's URL."""
        return self._client.target.url

    @property
    def closed(self) -> bool:
        return self._client.lines.closed

    def snapshot(self) -> Any:
        """A read-only copy of the object as it is there now. It stays as it is.

        Raises:
            UnauthorizedError: there is no token, or it may not read.
            UnreachableError: nobody answers.
        """
        return _copy(self._client.target, self._get(""))

    def at(self, when: int | datetime.datetime) -> Any:
        """A read-only copy of the object as it was there after a seq, or at a time (a naive one is that of the server).

        Raises like ``snapshot``, and ``RejectedError`` where that moment was pruned or is still to come.
        """
        return _copy(self._client.target, self._get(_query(when)))

    def _get(self, query: str) -> Response:
        _check_token(self._client.target)
        return self._client.get("/state" + query, OWN)

    def close(self) -> None:
        """Closes the connections. Idempotent. The system there is not closed."""
        self._client.close()

    def _elsewhere(self, *_: Any, **__: Any) -> NoReturn:
        raise UsageError("this system is elsewhere: ask its own process for that", path=self._client.target.url)

    report: Any = property(_elsewhere)
    take_snapshot: Any = _elsewhere
    sync: Any = _elsewhere
    history: Any = _elsewhere
    subscribe: Any = _elsewhere
    digest: Any = _elsewhere
    promote: Any = _elsewhere


class AsyncRemoteControl:
    """What ``perdure.control`` gives for a proxy of ``connect_async``: the same, awaited."""

    def __init__(self, client: AwaitingClient) -> None:
        self._client = client

    @property
    def path(self) -> str:
        """The server's URL."""
        return self._client.target.url

    @property
    def closed(self) -> bool:
        return self._client.closed

    async def seq(self) -> int:
        """See ``RemoteControl``."""
        return _status(await self._client.get("/status", JSON))["seq"]

    async def snapshot(self) -> Any:
        """See ``RemoteControl``."""
        _check_token(self._client.target)
        return _copy(self._client.target, await self._client.get("/state", OWN))

    async def at(self, when: int | datetime.datetime) -> Any:
        """See ``RemoteControl``."""
        _check_token(self._client.target)
        return _copy(self._client.target, await self._client.get("/state" + _query(when), OWN))

    async def aclose(self) -> None:
        """Closes the connections. Idempotent. The system there is not closed."""
        await self._client.aclose()


def _check_token(target: Target) -> None:
    if target.codec is None:
        raise UnauthorizedError(
            "a copy of the object is for those who have a token", path=target.url, hint="connect(…, token=…)"
        )


def _query(when: int | datetime.datetime) -> str:
    return f"?seq={when}" if isinstance(when, int) else f"?at={quote(when.isoformat())}"


def _status(response: Response) -> Mapping[str, int]:
    try:
        return msgspec.json.decode(response.body, type=dict[str, int])
    except msgspec.MsgspecError as error:
        raise RejectedError(f"this is no server of perdure: {error}") from error


def _copy(target: Target, response: Response) -> Any:
    assert target.codec is not None
    if response.kind != OWN:
        raise RejectedError("this is no server of perdure", path=target.url)
    root = target.codec.decode(response.body)
    if not isinstance(root, target.cls):
        raise CodecError(f"the server has a {type(root).__qualname__}, not a {target.cls.__qualname__}")
    return read_only_copy(root, target.codec, seq=response.seq, path=target.url)
