"""``GET /state``: the whole object, as it is or as it was."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import msgspec

from perdure.codecs import Codec
from perdure.errors import CodecError, MissingError, PerdureError, UsageError
from perdure.server._http import HttpError
from perdure.server._past import Past
from perdure.wire import JSON, MSGPACK, OWN, sendable


def state_body(past: Past, seq_now: int, query: Mapping[str, str], kind: str, codec: Codec) -> tuple[int, bytes]:
    """The seq, and the root in the wanted format. Blocks like ``Past.at``.

    Raises:
        HttpError: 400, the moment makes no sense; 404, it is still to come; 410, it was pruned; 406, this state does
            not go into the format.
    """
    when = moment(query, seq_now)
    try:
        seq, root = past.at(when)
    except MissingError as error:
        raise HttpError(410, "gone", error.message, hint=error.hint) from error
    except UsageError as error:
        raise HttpError(404, "gone", error.message, hint=error.hint) from error
    except PerdureError as error:
        raise HttpError(503, "storage", error.message, hint=error.hint) from error
    try:
        if kind == OWN:
            return seq, codec.encode(root)
        encoder = msgspec.msgpack.encode if kind == MSGPACK else msgspec.json.encode
        return seq, encoder(root, enc_hook=sendable)
    except (CodecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise HttpError(406, "unsendable", f"this state cannot be sent as {kind}: {error}") from error


def moment(query: Mapping[str, str], seq_now: int) -> int | datetime.datetime:
    """``seq=N``, ``at=`` a time in ISO 8601, or now. Raises ``HttpError`` 400."""
    if "at" in query:
        try:
            return datetime.datetime.fromisoformat(query["at"])
        except ValueError as error:
            raise HttpError(400, "body", "at= is no time in ISO 8601") from error
    given = query.get("seq")
    if given is None:
        return seq_now
    if not (given.isascii() and given.isdigit() and len(given) < 19):
        raise HttpError(400, "body", "seq= is no number")
    return int(given)


def wanted_format(accept: bytes) -> str:
    """JSON, unless the client asks for another one by its name."""
    for kind in (OWN, MSGPACK):
        if kind.encode() in accept.lower():
            return kind
    return JSON
