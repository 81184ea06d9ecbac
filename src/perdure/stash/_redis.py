"""Items in a Redis server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from perdure.extras import needed_module, without_password
from perdure.stash._base import check_name
from perdure.stash._names import as_bytes, read
from perdure.stash._remote import RemoteStash, remote_error

BATCH = 1000
_RETRIES = 3


@dataclass(eq=False)
class RedisStash(RemoteStash):
    """Items in a hash of a Redis server: shared by machines, fast, and as durable as the server is configured to be.

    With ``appendfsync always`` an item is durable when ``dump`` returns, with ``everysec`` a second later, and a
    fail-over to a replica can lose more.

    ``url``: ``redis://host:port/database``, ``rediss://``, or ``unix://``. ``name``: tells apart the stashes in one
    database. ``timeout_s``: for an answer.
    """

    url: str = field(repr=False)
    name: str = "stash"
    timeout_s: float = field(default=10.0, kw_only=True)

    @property
    def _hash(self) -> str:
        return f"perdure:stash:{self.name}"

    def _connect(self) -> Any:
        redis = needed_module("redis", "redis")
        backoff = needed_module("redis.backoff", "redis").ExponentialBackoff(cap=0.5, base=0.02)
        return redis.Redis.from_url(
            self.url,
            socket_timeout=self.timeout_s,
            socket_connect_timeout=self.timeout_s,
            # Every command here may be repeated, put_if_absent aside, which sees to that itself.
            retry=needed_module("redis.retry", "redis").Retry(backoff, _RETRIES),
            retry_on_error=[redis.exceptions.ConnectionError],
        )

    def _disconnect(self, connection: Any) -> None:
        connection.close()

    @contextmanager
    def _border(self, what: str, *, writes: bool = False) -> Iterator[Any]:
        errors = needed_module("redis.exceptions", "redis")
        where = without_password(self.url)
        try:
            yield self._connection
        except errors.AuthenticationError as error:
            raise remote_error("unauthorized", what, where, error) from error
        except errors.TimeoutError as error:
            raise remote_error("unknown" if writes else "unreachable", what, where, error) from error
        except (errors.ConnectionError, OSError) as error:
            refused = isinstance(error.__cause__ or error.__context__, ConnectionRefusedError) or "refused" in str(
                error
            )
            raise remote_error("unreachable" if refused or not writes else "unknown", what, where, error) from error
        except errors.RedisError as error:
            raise remote_error("rejected", what, where, error) from error

    # ---- items -------------------------------------------------------------------------------------------------------

    def load(self, name: str) -> Any:
        """The value; ``None`` where there is none."""
        return RedisStash.get(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        """The value, or ``default``."""
        with self._border(f"loading {name!r}") as redis:
            data = redis.hget(self._hash, as_bytes(check_name(name)))
        return default if data is None else self._decode(name, data, without_password(self.url))

    def get_many(self, names: Iterable[str]) -> dict[str, Any]:
        """What there is of ``names``, a thousand per request."""
        names = list(names)
        found: dict[str, Any] = {}
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            with self._border("loading items") as redis:
                values = redis.hmget(self._hash, [as_bytes(check_name(name)) for name in batch])
            for name, data in zip(batch, values, strict=True):
                if data is not None:
                    found[name] = self._decode(name, data, without_password(self.url))
        return found

    def exists(self, name: str) -> bool:
        """Whether the server has it."""
        with self._border(f"looking for {name!r}") as redis:
            return bool(redis.hexists(self._hash, as_bytes(check_name(name))))

    def dump(self, name: str, value: Any) -> None:
        """Store it; see ``Stash.dump``.

        Raises:
            UnreachableError, RejectedError, UnauthorizedError: it was not stored.
            OutcomeUnknownError: nobody knows whether it was; storing it again is harmless.
        """
        data = self._encode(check_name(name), value)
        with self._border(f"storing {name!r}", writes=True) as redis:
            redis.hset(self._hash, as_bytes(name), data)

    def set_many(self, items: Mapping[str, Any]) -> None:
        """Store all of them, a thousand per request."""
        encoded = [(as_bytes(check_name(name)), self._encode(name, value)) for name, value in items.items()]
        for start in range(0, len(encoded), BATCH):
            with self._border("storing items", writes=True) as redis:
                redis.hset(self._hash, mapping=dict(encoded[start : start + BATCH]))

    def put_if_absent(self, name: str, value: Any) -> bool:
        """Store it unless there is an item of that name; whether it was stored. Of many machines one wins."""
        data = self._encode(check_name(name), value)
        with self._border(f"storing {name!r}", writes=True) as redis:
            # A repeated request after a lost answer finds its own item and says "not stored": nothing is lost by that.
            return bool(redis.hsetnx(self._hash, as_bytes(name), data))

    def delete(self, name: str | None = None) -> None:
        """Forget it, or all."""
        if name is None:
            self.clear()
            return
        with self._border(f"deleting {name!r}", writes=True) as redis:
            redis.hdel(self._hash, as_bytes(check_name(name)))

    def clear(self) -> None:
        """Forget all."""
        with self._border("clearing", writes=True) as redis:
            redis.delete(f"{self._hash}:filled", self._hash)

    def keys(self) -> Iterator[str]:
        """The names as they are now, in no particular order."""
        with self._border("listing the names") as redis:
            keys = redis.hkeys(self._hash)
        return iter([read(key, without_password(self.url)) for key in keys])

    def __len__(self) -> int:
        with self._border("counting") as redis:
            return int(redis.hlen(self._hash))

    def fill_mark(self) -> str | None:
        """See ``Stash.fill_mark``; kept beside the hash."""
        with self._border("asking for the mark") as redis:
            mark = redis.get(f"{self._hash}:filled")
        return None if mark is None else bytes(mark).decode("utf-8", "replace")

    def set_fill_mark(self, text: str | None) -> None:
        """See ``Stash.set_fill_mark``; kept beside the hash."""
        with self._border("setting the mark", writes=True) as redis:
            if text is None:
                redis.delete(f"{self._hash}:filled")
            else:
                redis.set(f"{self._hash}:filled", text)
