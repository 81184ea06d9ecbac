"""What a client sends and what it makes of the answer; pure functions, for both kinds of connection."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from perdure.codecs import Codec
from perdure.errors import (
    OutcomeUnknownError,
    PerdureError,
    RejectedError,
    UnauthorizedError,
    UnreachableError,
    UsageError,
)
from perdure.wire import KEY_HEADER, Method, encode_call, exception_of, read_answer, read_failure, wire_codec


class SupportsGet(Protocol):
    """Headers."""

    def get(self, name: str, /) -> str | None: ...


_FIRST_DELAY_S = 0.02
_LONGEST_DELAY_S = 1.0


@dataclass(frozen=True)
class Target:
    """Where a client sends, and how. ``codec``: perdure's own, where there is a token."""

    cls: type
    url: str
    is_secure: bool
    host: str
    port: int
    prefix: str
    token: str | None
    codec: Codec | None

    def headers(self) -> dict[str, str]:
        """Those of every request."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}


def target_of(cls: type, url: str, token: str | None, allow: tuple[str | type, ...]) -> Target:
    """Raises ``UsageError`` where the URL is not valid, or the token cannot be sent."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{url!r} is no URL: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise UsageError(f"{url!r} is not the URL of a server", hint="http://host:port or https://host:port")
    if token is not None and (not token.isascii() or not token.isprintable() or not token.strip()):
        raise UsageError("a token has printable ASCII characters only")
    is_secure = parts.scheme == "https"
    return Target(
        cls,
        url,
        is_secure,
        parts.hostname,
        port or (443 if is_secure else 80),
        parts.path.rstrip("/"),
        token,
        wire_codec(cls, allow) if token is not None else None,
    )


@dataclass(frozen=True)
class Request:
    """One call, which may be sent several times."""

    method: Method
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Response:
    """``kind``: the media type. ``retry_after_s``: what a busy server asks for. ``seq``: of a state."""

    status: int
    kind: str
    body: bytes
    retry_after_s: float | None = None
    seq: int = 0


def request_for(target: Target, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Request:
    """Raises ``TypeError`` as the method itself would, and ``CodecError`` where an argument cannot be sent."""
    method.check_shape(args, kwargs)
    kind, body = encode_call(method.name, args, kwargs, target.codec)
    headers = {**target.headers(), "Content-Type": kind}
    return Request(method, f"{target.prefix}/call/{quote(method.name)}", headers, body)


def with_key(request: Request, key: str | None) -> Mapping[str, str]:
    """The headers; a command carries a key, so that sending it again is safe."""
    return request.headers if key is None else {**request.headers, KEY_HEADER: key}


def delays() -> Iterator[float]:
    """Seconds before each further attempt: growing, and not the same for all that wait for one server."""
    yield 0.0  # A kept connection may have been closed in the meantime: at once, upon a new one.
    delay_s = _FIRST_DELAY_S
    while True:
        yield delay_s * random.uniform(0.5, 1.5)
        delay_s = min(delay_s * 2, _LONGEST_DELAY_S)


def is_final(response: Response) -> bool:
    """Whether the answer is one. A busy server, one that is stopping and one that is still at it are asked again."""
    if response.status in (503, 504):
        return read_failure(response.kind, response.body).kind not in ("running", "stopping", "unknown")
    return response.status not in (408, 429, 502)


def result_of(target: Target, request: Request, response: Response, proxy: Any) -> Any:
    """What the method returned. Raises what it raised, or what went wrong."""
    method = request.method
    if response.status == 200:
        answer = read_answer(response.kind, response.body, method.returns, target.codec)
        if answer.unsendable is not None:
            raise RejectedError(
                f"{method.name}() has run, once; what it returned cannot be sent: {answer.unsendable}", path=target.url
            )
        return proxy if answer.is_self else answer.result
    raise error_of(target, response)


def error_of(target: Target, response: Response) -> BaseException:
    """The error that a refusal stands for."""
    failure = read_failure(response.kind, response.body)
    if failure.kind in ("raised", "refused"):
        return exception_of(failure, target.cls, target.codec)
    message, hint = failure.message, failure.hint
    if response.status in (401, 403):
        return UnauthorizedError(message, path=target.url, hint=hint)
    if failure.kind == "unknown-outcome" or failure.outcome == "unknown":
        return OutcomeUnknownError(message, path=target.url, hint=hint)
    if failure.kind == "unknown-method":
        hint = "the server runs another version of the class"
    return RejectedError(f"{message} (HTTP {response.status})", path=target.url, hint=hint)


def gave_up(target: Target, method: Method | None, *, was_sent: bool, timeout_s: float, last: object) -> PerdureError:
    """No answer within the time. ``was_sent``: whether any attempt may have reached the server."""
    what = f"{method.name}(): " if method is not None else ""
    why = f" ({last})" if last else ""
    if was_sent and method is not None and not method.is_query:
        return OutcomeUnknownError(
            f"{what}no answer within {timeout_s:g} s: the command may have run, or may still run, once{why}",
            path=target.url,
            hint="look at the state before sending it again: a new call is a new command",
        )
    return UnreachableError(f"{what}nobody answers within {timeout_s:g} s{why}", path=target.url)


def response_of(status: int, headers: SupportsGet, body: bytes) -> Response:
    """From the parts that every HTTP library knows."""
    kind = (headers.get("content-type") or "").partition(";")[0].strip().lower()
    wait, seq = headers.get("retry-after") or "", headers.get("perdure-seq") or ""
    return Response(status, kind, body, float(wait) if wait.isdigit() else None, int(seq) if seq.isdigit() else 0)
