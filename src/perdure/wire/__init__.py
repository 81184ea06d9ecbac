"""What perdure's server and its clients say to each other: messages as pure functions on bytes.

``_methods.py``: what can be called, and with what. ``_calls.py`` and ``_answers.py``: a call and its answer in each of
the three formats. ``_keys.py``: the key that makes a repeated command run once.
"""

from perdure.wire._answers import (
    Answer,
    Failure,
    encode_answer,
    encode_failure,
    exception_of,
    failure_of,
    read_answer,
    read_failure,
    sendable,
    unsendable,
)
from perdure.wire._calls import BodyError, Call, decode_call, encode_call, too_deep
from perdure.wire._formats import FORMATS, JSON, MSGPACK, OWN, wire_codec
from perdure.wire._keys import KEY_HEADER, KEY_PATTERN, client_key, identify
from perdure.wire._methods import ArgumentsError, Method, Parameter, methods_of

__all__ = [
    "FORMATS",
    "JSON",
    "KEY_HEADER",
    "KEY_PATTERN",
    "MSGPACK",
    "OWN",
    "Answer",
    "ArgumentsError",
    "BodyError",
    "Call",
    "Failure",
    "Method",
    "Parameter",
    "client_key",
    "decode_call",
    "encode_answer",
    "encode_call",
    "encode_failure",
    "exception_of",
    "failure_of",
    "identify",
    "methods_of",
    "read_answer",
    "read_failure",
    "sendable",
    "too_deep",
    "unsendable",
    "wire_codec",
]
