"""Connecting to a system elsewhere."""

from __future__ import annotations

import ipaddress
import ssl
import warnings
from collections.abc import Iterable
from typing import Any, TypeVar

from perdure.client._awaiting import AwaitingClient
from perdure.client._blocking import BlockingClient
from perdure.client._control import AsyncRemoteControl, RemoteControl
from perdure.client._proxy import make_proxy
from perdure.client._requests import Target, target_of
from perdure.errors import UsageError
from perdure.limits import CLIENT_TIMEOUT_S
from perdure.system import PerdureWarning

T = TypeVar("T")


def connect(
    cls: type[T],
    url: str,
    *,
    token: str | None = None,
    timeout: float = CLIENT_TIMEOUT_S,
    allow: Iterable[str | type] = (),
    tls: ssl.SSLContext | None = None,
) -> T:
    """The system that ``perdure serve`` serves at a URL: an object with the public methods of ``cls`` and no others.

    Nothing is sent before the first call. Each command carries a key: where the connection breaks or the server is
    started again in the middle, it is sent again, and runs once. Any thread may call; each request has a connection
    of its own, up to 64 at once, which are kept. ``timeout``: seconds for a call, with all its attempts. ``token``:
    with one, values of the class's own package travel as they are, and otherwise plain data, converted as the hints
    say. ``allow``: further packages or classes, as for ``open``. ``tls``: for certificates of one's own.

    Calls raise what the method raises, as its own type where that is known here, and otherwise:
        RejectedError: the server refused, or the method raised something that is not known here.
        UnauthorizedError: it wants a token, or another one. Nothing was executed.
        UnreachableError: nobody answered. Nothing was executed.
        OutcomeUnknownError: no answer in time. The command may have run, or may still run, once.
        CodecError: an argument cannot be sent. Nothing was executed.

    Attributes are not there: ``perdure.control(proxy).snapshot()`` is a copy to read them from, and ``.at(seq)`` one of
    the past. ``with``, or ``perdure.control(proxy).close()``, closes the connections.

    Raises:
        UsageError: the URL or the token is not valid.
    """
    target = _checked(cls, url, token, timeout, allow)
    client = BlockingClient(target, timeout, tls)
    proxy: T = make_proxy(cls, client, RemoteControl(client), is_async=False)
    return proxy


def connect_async(
    cls: type,
    url: str,
    *,
    token: str | None = None,
    timeout: float = CLIENT_TIMEOUT_S,
    allow: Iterable[str | type] = (),
    tls: ssl.SSLContext | None = None,
) -> Any:
    """As ``connect``, for one event loop: ``async with perdure.connect_async(Wiki, url) as wiki: await wiki.method()``.

    Cancelling an await stops the waiting; a command that was sent runs all the same.

    Raises:
        UsageError: the URL or the token is not valid, or aiohttp is not installed.
    """
    target = _checked(cls, url, token, timeout, allow)
    client = AwaitingClient(target, timeout, tls)
    return make_proxy(cls, client, AsyncRemoteControl(client), is_async=True)


def _checked(cls: type, url: str, token: str | None, timeout: float, allow: Iterable[str | type]) -> Target:
    if not isinstance(cls, type):
        raise UsageError(f"{cls!r} is no class", hint="connect(Wiki, url)")
    if not timeout > 0:
        raise UsageError(f"timeout={timeout!r}", hint="seconds, more than 0")
    target = target_of(cls, url, token, tuple(allow))
    if token is not None and not target.is_secure and not _is_local(target.host):
        warnings.warn(f"{url}: whoever can listen on the way reads the token; use https", PerdureWarning, stacklevel=3)
    return target


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
