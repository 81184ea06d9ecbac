"""The URL of a system on an engine, taken apart.

``nats://[user:password@|token@]host:port[,host:port…]/name[?replicas=3&tls=1&ca=file&creds=file&monitor=host:port,…]``
and ``postgresql://…/database?system=name[&…]`` as libpq has it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from perdure.errors import UsageError
from perdure.extras import without_password

NATS_OPTIONS = ("replicas", "tls", "ca", "creds", "monitor")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SCHEMES = {"nats": "nats", "postgresql": "postgres", "postgres": "postgres"}


@dataclass(frozen=True)
class EngineUrl:
    """``engine``: "nats" or "postgres". ``system``: its name there. ``shown``: without a password, for messages.

    ``target``: what the engine's own client is given, where it takes URLs. ``credentials``: as they stand before the
    host, with the ``@``.
    """

    engine: str
    system: str
    shown: str
    target: str = ""
    hosts: tuple[str, ...] = ()
    credentials: str = ""
    options: dict[str, str] = field(default_factory=dict)


def is_engine_url(where: object) -> bool:
    """Whether this names an engine, known or not, and no directory."""
    return isinstance(where, str) and "://" in where


def parse_url(url: str) -> EngineUrl:
    """Raises ``UsageError`` where it is none that perdure understands; the message never holds a password."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UsageError(f"this is not a URL: {error}") from error
    engine = _SCHEMES.get(parts.scheme)
    shown = without_password(url)
    if engine is None:
        raise UsageError(f"no engine is called {parts.scheme}", path=shown, hint="nats://… or postgresql://…")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    options = dict(pairs)
    if engine == "nats":
        return _nats(parts.netloc, parts.path, options, shown)
    system = options.get("system", "")
    _check_name(system, shown, "postgresql://host/database?system=name")
    rest = urlencode([(name, value) for name, value in pairs if name != "system"])
    target = urlunsplit(parts._replace(scheme="postgresql", query=rest))
    return EngineUrl(engine, system, shown, target=target, options=options)


def _nats(netloc: str, path: str, options: dict[str, str], shown: str) -> EngineUrl:
    credentials, at, hosts = netloc.rpartition("@")
    if credentials and ":" not in credentials:
        shown = shown.replace(f"//{credentials}@", "//***@")  # A token.
    system = path.strip("/")
    _check_name(system, shown, "nats://host:4222/name")
    for name in options:
        if name not in NATS_OPTIONS:
            raise UsageError(f"no option is called {name}", path=shown, hint=f"one of {', '.join(NATS_OPTIONS)}")
    if options.get("replicas", "1") not in ("1", "3", "5"):
        raise UsageError(f"replicas={options['replicas']}", path=shown, hint="1, 3 or 5")
    names = tuple(host if ":" in host else f"{host}:4222" for host in hosts.split(",") if host)
    if not names or any(not re.fullmatch(r"[^:/\s]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}", name) for name in names):
        raise UsageError("the URL names no host, or a port that is no number", path=shown, hint="nats://host:4222/name")
    return EngineUrl("nats", system, shown, hosts=names, credentials=credentials + at, options=options)


def _check_name(system: str, shown: str, example: str) -> None:
    if not _NAME.fullmatch(system):
        raise UsageError(
            f"{system!r} names no system" if system else "the URL names no system",
            path=shown,
            hint=f"{example}: up to 64 letters, digits, - and _",
        )
