"""Who is calling, and whether they may."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from perdure.server._http import HttpError, Scope
from perdure.server._tokens import ANYBODY, Token, Tokens

_LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    if host.lower() in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Access:
    """Decides for each request who it is from. ``any_host``: an application in somebody else's server."""

    def __init__(self, tokens: Tokens, *, any_host: bool) -> None:
        self.tokens = tokens
        self._any_host = any_host

    def caller(self, headers: Mapping[bytes, bytes]) -> Token:
        """Whose request this is.

        Raises:
            HttpError: 401, the token is missing or wrong; 400, the request was meant for another host.
        """
        if not self.tokens:
            self._check_host(headers)
            return ANYBODY
        given = headers.get(b"authorization", b"")
        scheme, _, text = given.partition(b" ")
        token = self.tokens.find(text.strip().decode("latin-1")) if scheme.lower() == b"bearer" else None
        if token is None:
            raise HttpError(
                401,
                "unauthorized",
                "a token is needed" if not given else "this token is not known here",
                hint="Authorization: Bearer TOKEN",
                headers=((b"www-authenticate", b'Bearer realm="perdure"'),),
            )
        return token

    def _check_host(self, headers: Mapping[bytes, bytes]) -> None:
        """Without tokens the server trusts whoever reaches loopback. A page in a browser may, by a name of its own that
        resolves to 127.0.0.1; but then that name is what the browser says it wants.
        """
        if self._any_host:
            return
        host = headers.get(b"host", b"").decode("latin-1")
        name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
        if not is_loopback(name):
            raise HttpError(400, "host", "without a token this answers to localhost only")


def require(token: Token, scope: str) -> None:
    """Raises ``HttpError`` 403 where the token does not cover it."""
    if scope not in token.scopes:
        raise HttpError(403, "forbidden", f"this token may not {scope}")


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """By name; of a header that is there twice the last one, as nothing here may be there twice."""
    return dict(scope["headers"])
