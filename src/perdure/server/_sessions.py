"""Browsers: a token is typed once and exchanged for a cookie."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from http.cookies import CookieError, SimpleCookie

from perdure.server._tokens import Token

COOKIE = "perdure_session"
_SESSION_S = 12 * 3600
_SESSIONS_MAX = 1_000


class Sessions:
    """In memory, so a restart ends them all. The cookie holds a random number and never the token."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, tuple[Token, float]] = OrderedDict()

    def begin(self, token: Token, *, secure: bool) -> str:
        """The value of a ``Set-Cookie`` header. Scripts cannot read it, and no other site can use it."""
        name = secrets.token_urlsafe(32)
        self._sessions[name] = token, time.monotonic() + _SESSION_S
        while len(self._sessions) > _SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return f"{COOKIE}={name}; Path=/; Max-Age={_SESSION_S}; HttpOnly; SameSite=Strict" + "; Secure" * secure

    def find(self, cookies: bytes) -> Token | None:
        """Whose session a ``Cookie`` header names."""
        found = self._sessions.get(_name_in(cookies))
        return found[0] if found is not None and time.monotonic() < found[1] else None

    def end(self, cookies: bytes) -> str:
        """Forgets the session; the value of a ``Set-Cookie`` header that takes the cookie away."""
        self._sessions.pop(_name_in(cookies), None)
        return f"{COOKIE}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"


def _name_in(cookies: bytes) -> str:
    try:
        morsel = SimpleCookie(cookies.decode("latin-1")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""
