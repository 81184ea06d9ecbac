"""The three formats of a body, and the codec of perdure's own."""

from __future__ import annotations

from collections.abc import Iterable

from perdure.clock import SystemClock
from perdure.codecs import Codec, Pickle

JSON = "application/json"
MSGPACK = "application/msgpack"
OWN = "application/vnd.perdure"
"""Between perdure's own client and server, and only with a token: values pass the restricted codec."""
FORMATS = (JSON, MSGPACK, OWN)


def wire_codec(cls: type, allow: Iterable[str | type] = ()) -> Codec:
    """What carries values of a system's own classes: restricted pickle, whatever the system is stored with."""
    return Pickle(package=cls.__module__.partition(".")[0], allow=(*allow, SystemClock, cls))
