"""The ASGI application of one system."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from perdure.machine import Refusing
from perdure.replica import FeedRefusedError, Publisher
from perdure.server._access import Access, headers_of, require
from perdure.server._calls import Calls
from perdure.server._counts import Counts
from perdure.server._figures import Figures
from perdure.server._http import HttpError, Receive, Scope, Send, read_body, respond_error
from perdure.server._metrics import Metrics
from perdure.server._openapi import openapi
from perdure.server._page import CONTENT_SECURITY_POLICY, STATIC_TYPES, Page
from perdure.server._past import Past
from perdure.server._runner import Runner
from perdure.server._sessions import Sessions
from perdure.server._settings import ServerLimits
from perdure.server._state import state_body, wanted_format
from perdure.server._tokens import READ, WRITE, Token, Tokens
from perdure.system import system_of
from perdure.wire import JSON, OWN, wire_codec

_CALL = "/call/"
_FORM_BYTES_MAX = 4096
_HTML = "text/html; charset=utf-8"


class Application:
    """Serves one opened system over ASGI: methods, documents, state, feed and page.

    ``system``: what ``perdure.open`` returned. ``tokens``: who may do what; without any, everybody may do everything,
    and requests must be addressed to localhost unless ``any_host`` says that somebody else sees to that. ``allow``: as
    for ``perdure.open``. It belongs to one event loop, may be mounted in another application, and does not close the
    system: ``await aclose()`` answers what was accepted, and then the system can be closed.

    Raises:
        UsageError: the system was not opened by perdure.
    """

    def __init__(
        self,
        system: Any,
        *,
        tokens: Tokens | None = None,
        limits: ServerLimits | None = None,
        allow: tuple[str | type, ...] = (),
        any_host: bool = False,
    ) -> None:
        self._system = system_of(system)
        self.limits: ServerLimits = limits or ServerLimits()
        self.tokens: Tokens = tokens or Tokens()
        self._counts = Counts()
        self._access = Access(self.tokens, any_host=any_host)
        self._codec = wire_codec(self._system.state.cls, allow)
        machine = self._system.machine
        is_writer = machine is not None and self._system.path is not None
        self._publisher = Publisher(machine) if machine is not None and is_writer else None
        self._figures = Figures(self._system, self._counts, self._replicas)
        self._metrics = Metrics(self._figures)
        self._past = Past(self._system)
        self._page = Page(self._system, self._figures, self._past)
        self._sessions = Sessions()
        self._runner = Runner(self._system)
        self._calls = Calls(self._runner, self._access, self._counts, self.limits, self._codec)
        self._document: bytes | None = None
        self._others = Starlette(routes=self._routes(), exception_handlers={HTTPException: _unrouted})

    def _replicas(self) -> list[Any]:
        return self._publisher.replicas() if self._publisher is not None else []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            path: str = scope["path"].removeprefix(scope.get("root_path", ""))
            if path.startswith(_CALL):
                await self._calls(scope, receive, send, path[len(_CALL) :])
            else:
                await self._others(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def end_feeds(self) -> None:
        """Says goodbye to replicas: feeds have no end of their own."""
        if self._publisher is not None:
            self._publisher.close()

    async def aclose(self) -> None:
        """Answers what was accepted and lets go of the system, which stays open. Idempotent."""
        self.end_feeds()
        await self._runner.close()
        self._figures.close()

    # ---- everything but calls

    def _routes(self) -> list[Route]:
        get = ["GET"]
        return [
            Route("/", self._guarded(self._index), methods=get),
            Route("/health", self._guarded(self._health), methods=get),
            Route("/openapi.json", self._guarded(self._openapi), methods=get),
            Route("/metrics", self._guarded(self._show_metrics), methods=get),
            Route("/status", self._guarded(self._status), methods=get),
            Route("/state", self._guarded(self._show_state), methods=get),
            Route("/snapshot", self._guarded(self._snapshot), methods=get),
            Route("/feed", self._guarded(self._feed), methods=get),
            Route("/replica", self._guarded(self._report), methods=["POST"]),
            Route("/fence", self._guarded(self._fence), methods=["POST"]),
            Route("/login", self._guarded(self._login), methods=["POST"]),
            Route("/logout", self._guarded(self._logout), methods=["POST"]),
            Route("/fragment/{name}", self._guarded(self._fragment), methods=get),
            Route("/static/{name}", self._guarded(self._file), methods=get),
        ]

    def _guarded(self, endpoint: Callable[[Request], Any]) -> Any:
        """An ASGI application that answers errors as the calls do."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                response = await endpoint(Request(scope, receive))
            except HttpError as error:
                await respond_error(send, error)
            except FeedRefusedError as error:
                refused = HttpError(
                    error.status, "refused", error.message, hint=error.hint,
                    headers=((b"perdure-reason", error.reason.encode()),),
                )  # fmt: skip
                await respond_error(send, refused)
            else:
                await response(scope, receive, send)

        return _Endpoint(guarded)

    def _caller(self, request: Request, scope: str) -> Token:
        token = self._access.caller(headers_of(request.scope))
        require(token, scope)
        return token

    async def _health(self, request: Request) -> Response:
        """Open to everybody, so it tells nothing but this."""
        machine = self._system.machine
        failed = self._system.engine.closed or isinstance(self._system.engine.lock, Refusing)
        failed = failed or (machine is not None and machine.journal.failure is not None)
        body = b'{"status":"failed"}' if failed else b'{"status":"ok"}'
        return Response(body, 503 if failed else 200, _plain(), JSON)

    async def _openapi(self, request: Request) -> Response:
        self._access.caller(headers_of(request.scope))
        if self._document is None:
            from perdure import __version__

            document = openapi(
                self._system.state.cls, self._calls.methods, version=__version__, has_tokens=bool(self.tokens)
            )
            self._document = msgspec.json.encode(document)
        return Response(self._document, 200, _plain(), JSON)

    async def _show_metrics(self, request: Request) -> Response:
        self._access.caller(headers_of(request.scope))
        text = await self._runner.in_thread(self._metrics.text)
        return Response(text, 200, {**_plain(), "content-type": self._metrics.content_type})

    async def _status(self, request: Request) -> Response:
        self._access.caller(headers_of(request.scope))
        engine = self._system.engine
        body = msgspec.json.encode({"seq": engine.seq, "durable_seq": engine.durable_seq})
        return Response(body, 200, _plain(), JSON)

    async def _show_state(self, request: Request) -> Response:
        self._caller(request, READ)
        kind = wanted_format(headers_of(request.scope).get(b"accept", b""))
        if kind == OWN and not self.tokens:
            raise HttpError(406, "unsupported-type", f"{OWN} is for clients with a token")
        seq, body = await self._runner.in_thread(
            state_body, self._past, self._system.engine.seq, dict(request.query_params), kind, self._codec
        )
        return Response(body, 200, {**_plain(), "perdure-seq": str(seq), "content-type": kind})

    # ---- replicas

    def _published(self) -> Publisher:
        if self._publisher is None:
            raise HttpError(404, "unknown-path", "this system has no feed: only the writer of a directory has one")
        return self._publisher

    async def _snapshot(self, request: Request) -> Response:
        self._caller(request, READ)
        shot = await self._runner.in_thread(self._published().snapshot)

        async def chunks() -> AsyncIterator[bytes]:
            try:
                parts = iter(shot)
                while (chunk := await self._runner.in_thread(next, parts, None)) is not None:
                    yield chunk
            finally:
                shot.close()

        return StreamingResponse(chunks(), 200, {**_plain(), **shot.headers}, "application/octet-stream")

    async def _feed(self, request: Request) -> Response:
        token = self._caller(request, READ)
        client = request.client
        peer = f"{client.host}:{client.port}" if client is not None else ""

        def begin() -> Any:
            return self._published().feed(dict(request.query_params), peer=peer, may_fence=WRITE in token.scopes)

        feed = await self._runner.in_thread(begin)

        async def frames() -> AsyncIterator[bytes]:
            stream = feed.stream()
            self._counts.feeds_now += 1
            try:
                async for frame in stream:
                    yield frame
            finally:
                self._counts.feeds_now -= 1
                await stream.aclose()
                feed.close()

        return StreamingResponse(frames(), 200, {**_plain(), **feed.headers})

    async def _report(self, request: Request) -> Response:
        self._caller(request, READ)
        self._published().report(dict(request.query_params))
        return Response(status_code=204)

    async def _fence(self, request: Request) -> Response:
        self._caller(request, WRITE)
        await self._runner.in_thread(self._published().fence, dict(request.query_params))
        return Response(status_code=204)

    # ---- the page

    def _visitor(self, request: Request) -> tuple[Token | None, bool]:
        """Whose page this is, and whether by a cookie: those open nothing but the page."""
        headers = headers_of(request.scope)
        if self.tokens and b"authorization" not in headers:
            return self._sessions.find(headers.get(b"cookie", b"")), True
        return self._access.caller(headers), False

    async def _index(self, request: Request) -> Response:
        token, has_session = self._visitor(request)
        if token is None:
            return self._page_response(self._page.login(wrong="wrong" in request.query_params), 401)
        query = dict(request.query_params)
        return self._page_response(
            await self._runner.in_thread(lambda: self._page.whole(token, query, has_session=has_session))
        )

    async def _fragment(self, request: Request) -> Response:
        token, _ = self._visitor(request)
        if token is None:
            raise HttpError(401, "unauthorized", "the session has ended")
        name = request.path_params["name"]
        if name == "figures":
            return self._page_response(await self._runner.in_thread(self._page.figures, token))
        if name == "state":
            require(token, READ)
            return self._page_response(await self._runner.in_thread(self._page.state, dict(request.query_params)))
        raise HttpError(404, "unknown-path", "there is no such part of the page")

    def _page_response(self, text: str, status: int = 200) -> Response:
        headers = {**_plain(), "content-security-policy": CONTENT_SECURITY_POLICY, "referrer-policy": "no-referrer"}
        return Response(text.encode("utf-8", "backslashreplace"), status, {**headers, "content-type": _HTML})

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        content = self._page.static(name)
        if content is None:
            raise HttpError(404, "unknown-path", "there is no such file")
        headers = {"content-type": STATIC_TYPES[name], "x-content-type-options": "nosniff", "cache-control": "no-cache"}
        return Response(content, 200, headers)

    async def _login(self, request: Request) -> Response:
        body = await read_body(
            request.receive, announced=None, bytes_max=_FORM_BYTES_MAX, timeout_s=self.limits.receive_timeout_s
        )
        given = parse_qs(body.decode("latin-1")).get("token", [""])[0].strip()
        token = self.tokens.find(given)
        if token is None:
            return RedirectResponse("./?wrong", 303, _plain())
        cookie = self._sessions.begin(token, secure=request.url.scheme == "https")
        return RedirectResponse("./", 303, {**_plain(), "set-cookie": cookie})

    async def _logout(self, request: Request) -> Response:
        cookie = self._sessions.end(headers_of(request.scope).get(b"cookie", b""))
        return RedirectResponse("./", 303, {**_plain(), "set-cookie": cookie})


class _Endpoint:
    """An ASGI application where Starlette would take a function for one that gets a request."""

    def __init__(self, application: Callable[..., Any]) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application(scope, receive, send)


def _plain() -> dict[str, str]:
    return {"cache-control": "no-store", "x-content-type-options": "nosniff"}


async def _unrouted(request: Request, error: Exception) -> Response:
    """What no route wants: in the same form as everything else that is refused."""
    assert isinstance(error, HTTPException)
    kind = "wrong-verb" if error.status_code == 405 else "unknown-path"
    message = "this is asked for in another way" if error.status_code == 405 else "there is nothing here"
    from perdure.wire import Failure, encode_failure

    body = encode_failure(JSON, Failure(kind, message))
    return Response(body, error.status_code, {**_plain(), **(error.headers or {})}, JSON)
