"""``POST /call/{method}``."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from perdure.codecs import Codec
from perdure.errors import (
    ClosedError,
    CodecError,
    OutcomeUnknownError,
    ReadOnlyError,
    RecordTooLargeError,
    StorageError,
    WriteError,
)
from perdure.server._access import Access, headers_of, require
from perdure.server._counts import Counts
from perdure.server._http import HttpError, Receive, Scope, Send, read_body, respond, respond_error
from perdure.server._repeats import Repeats
from perdure.server._runner import Runner
from perdure.server._settings import ServerLimits
from perdure.server._tokens import READ, WRITE, Token
from perdure.wire import (
    JSON,
    MSGPACK,
    OWN,
    ArgumentsError,
    BodyError,
    Failure,
    Method,
    decode_call,
    encode_answer,
    failure_of,
    identify,
    methods_of,
    unsendable,
)

_CLOSE = ((b"connection", b"close"),)
_KINDS = {b"application/json": JSON, b"application/msgpack": MSGPACK, b"application/x-msgpack": MSGPACK,
          b"application/vnd.msgpack": MSGPACK, OWN.encode(): OWN}  # fmt: skip
_SCALARS = (type(None), bool, int, float, str, bytes)


class Calls:
    """Answers calls. Belongs to one event loop."""

    def __init__(self, runner: Runner, access: Access, counts: Counts, limits: ServerLimits, codec: Codec) -> None:
        system = runner.system
        self._runner = runner
        self._access = access
        self._counts = counts
        self._limits = limits
        self._codec = codec
        self._class_name = system.state.cls.__name__
        self._repeats = Repeats(system.writer, system.codec) if system.writer is not None else None
        self.methods = methods_of(system.state.cls)

    async def __call__(self, scope: Scope, receive: Receive, send: Send, name: str) -> None:
        """One request for the method ``name``, which may be anything that stands in a path."""
        counts = self._counts
        started = time.perf_counter()
        kind = JSON
        counts.calls_now += 1
        status = "ok"
        try:
            headers = headers_of(scope)
            kind = _KINDS.get(headers.get(b"content-type", b"").partition(b";")[0].strip().lower(), JSON)
            token = self._access.caller(headers)
            if counts.calls_now > self._limits.calls_max:
                # Behind the token, so that whoever has none learns nothing and costs nothing.
                raise HttpError(429, "busy", "too many calls at once", headers=((b"retry-after", b"1"), *_CLOSE))
            method = self._method(scope, name)
            body = await self._run(method, headers, receive, token, kind)
            await respond(send, 200, kind, body)
        except HttpError as error:
            status = error.failure.kind
            if error.failure.kind in ("unauthorized", "unknown-method", "wrong-verb", "host"):
                counts.failures[status] += 1
                await self._read_away(receive, error)
            await respond_error(send, error, kind)
        finally:
            counts.calls_now -= 1
            if name in self.methods:
                counts.call(name, status, time.perf_counter() - started)

    async def _read_away(self, receive: Receive, error: HttpError) -> None:
        """A small body of a request that is refused anyhow is read, so that the connection can go on."""
        try:
            await read_body(receive, announced=None, bytes_max=65_536, timeout_s=5.0)
        except HttpError:
            error.headers = (*error.headers, *_CLOSE)

    def _method(self, scope: Scope, name: str) -> Method:
        if scope["method"] != "POST":
            raise HttpError(405, "wrong-verb", "calls are made with POST", headers=((b"allow", b"POST"),))
        method = self.methods.get(name)
        if method is None:
            raise HttpError(404, "unknown-method", f"{self._class_name} has no public method of that name")
        return method

    async def _run(
        self, method: Method, headers: dict[bytes, bytes], receive: Receive, token: Token, kind: str
    ) -> bytes:
        require(token, READ if method.is_query else WRITE)
        announced = _length(headers)
        body = await read_body(
            receive,
            announced=announced,
            bytes_max=self._limits.body_bytes_max,
            timeout_s=self._limits.receive_timeout_s,
        )
        if body:
            self._check_type(headers, kind)
        try:
            codec = self._codec if self._access.tokens else None
            call = decode_call(kind, method.name, body, codec, depth_max=self._limits.nesting_depth_max)
            args, kwargs = method.bind(call.args, call.kwargs, text_keys=kind == JSON)
        except BodyError as error:
            raise HttpError(400, "body", f"the body cannot be read: {error}") from error
        except ArgumentsError as error:
            raise HttpError(422, "arguments", str(error)) from error
        if method.is_query:
            return await self._query(method, args, kwargs, kind)
        return await self._command(method, args, kwargs, headers, token, kind)

    def _check_type(self, headers: dict[bytes, bytes], kind: str) -> None:
        given = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if given not in _KINDS or headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise HttpError(415, "unsupported-type", f"a body is {JSON} or {MSGPACK}, not compressed")
        if kind == OWN and not self._access.tokens:
            raise HttpError(415, "unsupported-type", f"{OWN} is for clients with a token", hint=f"send {MSGPACK}")

    # ---- queries

    async def _query(self, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any], kind: str) -> bytes:
        def finish(result: Any) -> bytes:
            return self._encode(kind, result)

        running = asyncio.ensure_future(self._runner.query(method, args, kwargs, finish))
        try:
            body: bytes = await self._within_time(running, "the query takes too long")
            return body
        except _UnsendableError as error:
            raise HttpError(406, "unsendable", f"{method.name}() returned what cannot be sent: {error}") from error
        except HttpError:
            raise
        except Exception as error:
            # Whatever the method raises is its answer.
            raise self._failed(error, kind) from error

    def _encode(self, kind: str, result: Any) -> bytes:
        if hasattr(type(result), "__next__"):
            result = list(result)  # A generator's steps, all at one moment.
        try:
            return encode_answer(kind, result, self._codec, is_self=result is self._runner.system.state.root)
        except CodecError as error:
            raise _UnsendableError(error.message) from error

    # ---- commands

    async def _command(
        self,
        method: Method,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        headers: dict[bytes, bytes],
        token: Token,
        kind: str,
    ) -> bytes:
        if self._repeats is None:
            raise HttpError(409, "refused", "this is a copy for reading: commands go to the primary")
        client, counter = _identified(headers, token)
        try:
            prepared = self._runner.encode(method, args, kwargs)
        except CodecError as error:
            raise HttpError(422, "arguments", error.message, hint=error.hint) from error
        request = client, counter
        if client and not self._repeats.begin(request, prepared.payload):
            raise _reused()
        try:
            if client:
                seq = self._repeats.seq_of(request)
                if seq is not None and await self._runner.in_thread(self._repeats.is_other, seq, prepared.payload):
                    raise _reused()
            running = self._runner.command(prepared, client, counter)
            result = await self._within_time(running, "the command is still running, and will run once")
        except HttpError:
            raise
        except Exception as error:
            # Whatever the method raises is its answer.
            raise self._failed(error, kind) from error
        finally:
            if client:
                self._repeats.end(request)
        if isinstance(result, _SCALARS):
            return self._encode_or_say(kind, result)
        # It may be a part of the state, which the next command changes.
        return await self._runner.in_step(self._encode_or_say, kind, result)

    def _encode_or_say(self, kind: str, result: Any) -> bytes:
        try:
            return self._encode(kind, result)
        except _UnsendableError as error:
            # It has happened; only what it returned stays here.
            return unsendable(kind, str(error))

    # ---- both

    async def _within_time(self, running: asyncio.Future[Any], message: str) -> Any:
        done, _ = await asyncio.wait((running,), timeout=self._limits.call_timeout_s)
        if not done:
            running.add_done_callback(_swallow)
            raise HttpError(504, "running", message, hint="ask again with the same Idempotency-Key")
        return running.result()

    def _failed(self, error: Exception, kind: str) -> HttpError:
        """The response for an exception: the machine's own, or else the method's."""
        message = getattr(error, "message", str(error))
        hint = getattr(error, "hint", None)
        if isinstance(error, RecordTooLargeError):
            return HttpError(413, "too-large", message, hint=hint)
        if isinstance(error, OutcomeUnknownError):
            return HttpError(409, "unknown-outcome", message, hint=hint)
        if isinstance(error, ReadOnlyError):
            kind_name = f"{type(error).__module__}.{type(error).__qualname__}"
            return HttpError(409, "refused", message, failure=Failure("refused", message, hint, kind_name, [message]))
        if isinstance(error, ClosedError):
            return HttpError(503, "stopping", message, hint=hint, headers=((b"retry-after", b"1"), *_CLOSE))
        if isinstance(error, StorageError):
            outcome = error.outcome if isinstance(error, WriteError) else "not-written"
            return HttpError(503, "storage", message, failure=Failure("storage", message, hint, outcome=outcome))
        codec = self._codec if kind == OWN and self._access.tokens else None
        return HttpError(409, "raised", message, failure=failure_of(error, codec))


class _UnsendableError(Exception):
    """A result that the format has no room for."""


def _reused() -> HttpError:
    return HttpError(422, "key-reused", "this Idempotency-Key belongs to another command")


def _swallow(future: asyncio.Future[Any]) -> None:
    # Nobody waits for it any more; what it raised is in the journal.
    if not future.cancelled():
        future.exception()


def _length(headers: dict[bytes, bytes]) -> int | None:
    given = headers.get(b"content-length", b"")
    return int(given) if given.isdigit() and len(given) < 20 else None


def _identified(headers: dict[bytes, bytes], token: Token) -> tuple[bytes, int]:
    key = headers.get(b"idempotency-key")
    if key is None:
        return b"", 0
    try:
        # What is around a value is not part of it, says RFC 9110, 5.5; the parser takes away only what is before.
        return identify(key.strip(b" \t").decode("latin-1"), token.name)
    except ValueError as error:
        raise HttpError(400, "body", str(error)) from error
