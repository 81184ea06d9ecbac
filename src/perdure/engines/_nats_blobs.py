"""Blobs in JetStream's object store. Meant for small ones: the Python client reads a few MB a second."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Iterator
from typing import Any

from perdure.engines._nats_connection import REQUEST_S, NatsConnection
from perdure.engines._url import EngineUrl
from perdure.errors import MissingError, StorageError, UnreachableError
from perdure.extras import needed_module
from perdure.limits import MIB

_TRANSFER_S = 120.0


class NatsBlobs:
    """See ``Blobs``. The bucket is made with the first blob."""

    bytes_max = 64 * MIB

    def __init__(self, connection: NatsConnection, url: EngineUrl, replicas: int) -> None:
        self._connection = connection
        self._bucket = f"PERDURE_{url.system}"
        self._replicas = replicas
        self._errors = needed_module("nats.js.errors", "nats")

    async def _store(self, *, make: bool) -> Any:
        try:
            return await self._connection.js.object_store(self._bucket)
        except self._errors.NotFoundError:
            if not make:
                return None
        api = needed_module("nats.js.api", "nats")
        config = api.ObjectStoreConfig(bucket=self._bucket, replicas=self._replicas)
        return await self._connection.js.create_object_store(self._bucket, config=config)

    def put(self, key: str, chunks: Iterable[bytes]) -> None:
        """See ``Blobs.put``."""
        content = b"".join(chunks)

        async def put() -> None:
            store = await self._store(make=True)
            await store.put(key, io.BytesIO(content))

        self._connection.ask(put(), _TRANSFER_S)

    def get(self, key: str) -> Iterator[bytes]:
        """See ``Blobs.get``."""
        try:
            found = self._connection.ask(self._whole(key), _TRANSFER_S)
        except self._errors.NotFoundError:
            found = None
        if found is None:
            raise MissingError("there is no such blob", path=key)
        yield found

    async def _whole(self, key: str) -> bytes | None:
        """As the driver's own ``get``, which waits for ever for chunks that are not there.

        They are gone where somebody replaces or deletes the object meanwhile; and where storing it had no answer in
        time: the driver then takes the chunks away, and the object's name may be there all the same.
        """
        store = await self._store(make=False)
        if store is None:
            return None
        info = await store.get_info(key)
        while True:
            content = await self._chunks(info)
            if len(content) == info.size:
                digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
                if info.digest != f"SHA-256={digest}":
                    raise StorageError("the object store's content is damaged", path=key)
                return content
            before, info = info, await store.get_info(key)
            if info.nuid == before.nuid:
                if await self._count(info) < info.chunks:
                    return None
                raise UnreachableError("the object store has not sent the whole of it", path=key)

    async def _chunks(self, info: Any) -> bytes:
        """What comes of an object until it is whole, or nothing comes any more."""
        content = bytearray()
        if info.size and await self._count(info) >= info.chunks:
            chunks = await self._connection.js.subscribe(self._subject(info), ordered_consumer=True)
            try:
                while len(content) < info.size:
                    content += (await chunks.next_msg(timeout=REQUEST_S)).data
            except TimeoutError:
                pass
            finally:
                await chunks.unsubscribe()
        return bytes(content)

    async def _count(self, info: Any) -> int:
        """How many chunks of an object are there."""
        subject = self._subject(info)
        state = (await self._connection.js.stream_info(f"OBJ_{self._bucket}", subjects_filter=subject)).state
        return int((state.subjects or {}).get(subject, 0))

    def _subject(self, info: Any) -> str:
        return f"$O.{self._bucket}.C.{info.nuid}"

    def keys(self, prefix: str) -> list[str]:
        """See ``Blobs.keys``."""

        async def names() -> list[str]:
            store = await self._store(make=False)
            if store is None:
                return []
            try:
                return [str(info.name) for info in await store.list() if not info.deleted]
            except self._errors.NotFoundError:
                return []

        return sorted(name for name in self._connection.ask(names(), _TRANSFER_S) if name.startswith(prefix))

    def delete(self, key: str) -> None:
        """See ``Blobs.delete``."""

        async def delete() -> None:
            store = await self._store(make=False)
            if store is not None:
                await store.delete(key)

        try:
            self._connection.ask(delete(), 30)
        except self._errors.NotFoundError:
            return

    def close(self) -> None:
        """See ``Blobs.close``: the connection is the log's."""
