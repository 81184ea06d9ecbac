"""``init_system`` as coopy and copycat have it for several machines, built on ``serve`` and ``follow``.

A *master* serves its system over HTTP; a *slave* is a replica of it. The password, on both sides, stands for a token
of the write scope.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any, TypedDict, TypeVar, Unpack, overload

from perdure.errors import UsageError
from perdure.replica import follow, follow_in_place
from perdure.system import init_persistent_system, system_of

T = TypeVar("T")
PORT = 5466


class SystemOptions(TypedDict, total=False):
    """The keyword arguments of ``init_system``."""

    snapshot_time: float
    master: bool
    replication: bool
    port: int
    host: str
    password: str | None


@overload
def init_system(obj: type[T], basedir: str | os.PathLike[str] | None = None, **options: Unpack[SystemOptions]) -> T: ...
@overload
def init_system(obj: T, basedir: str | os.PathLike[str] | None = None, **options: Unpack[SystemOptions]) -> T: ...
def init_system(
    obj: Any,
    basedir: str | os.PathLike[str] | None = None,
    snapshot_time: float = 0,
    master: bool = False,
    replication: bool = False,
    port: int = PORT,
    host: str = "127.0.0.1",
    password: str | None = None,
) -> Any:
    """Like ``init_persistent_system``; ``snapshot_time``: seconds between two snapshots, 0 for automatic ones.

    ``master``: serves the system at ``host`` and ``port``, until it is closed. ``replication``: gives a replica of the
    master that is there, read-only, with a journal of its own in ``basedir``. ``password``: the same on both sides; a
    master that others can reach needs one.

    Raises:
        UsageError: both were asked for.
        PerdureError: what ``open``, ``perdure.server.serve`` and ``follow`` raise.
    """
    if master and replication:
        raise UsageError("a system is its master or a replica, not both")
    cls = obj if isinstance(obj, type) else type(obj)
    proxy: Any
    if replication:
        where = cls.__name__.lower() if basedir is None else basedir
        proxy = follow(cls, _url(host, port), where, token=token_of(password))
    else:
        proxy = init_persistent_system(obj, basedir)
    machine = system_of(proxy).machine
    if snapshot_time and machine is not None:
        machine.set_snapshot_interval(snapshot_time)
    if master:
        start_master(proxy, port, password, host)
    return proxy


def start_master(proxy: Any, port: int = PORT, password: str | None = None, host: str = "127.0.0.1") -> str:
    """Serves an opened system beside everything else this process does, until it is closed; returns the URL.

    Raises what ``perdure.server.serve`` raises.
    """
    # Late: it needs the extra "server", and nothing else here does.
    from perdure.server import Application, BackgroundServer, Tokens, make_token

    token = token_of(password)
    application = Application(proxy, tokens=Tokens([] if token is None else [make_token(token)]))
    background = BackgroundServer(application, host=host, port=port)
    system_of(proxy).before_closing.append(background.stop)
    return background.url


def start_slave(proxy: Any, host: str, port: int = PORT, password: str | None = None) -> None:
    """Makes an opened system without any commands of its own a replica of the master at ``host`` and ``port``.

    Raises:
        UsageError: it has commands of its own, or lives in memory. Nothing happened.
        and what ``follow`` raises: then the system is closed.
    """
    follow_in_place(proxy, _url(host, port), token=token_of(password))


def token_of(password: str | None) -> str | None:
    """The token that a password stands for."""
    if password is None:
        return None
    return hashlib.blake2b(password.encode(), digest_size=32, person=b"perdure password"[:16]).hexdigest()


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
