"""The opcodes of pickle as regular expressions: those that the pickler of CPython emits with protocols 4 and 5.

The expressions run over whole stretches of opcodes, one character class or alternative for each kind, at the speed of
C, and stop where somebody has to look. Source: ``Lib/pickletools.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from perdure.errors import CodecError
from perdure.limits import MIB

FRAME_BYTES_MAX = 1 * MIB
"""The pickler closes a frame at 64 KiB; ``load`` reads a frame at once, so its size is bounded."""


def _short(opcode: bytes) -> bytes:
    # A one-byte length and as many bytes. The expression cannot count, so all 256 lengths are listed.
    lengths = b"|".join(re.escape(bytes([n])) + b".{%d}" % n for n in range(256))
    return re.escape(opcode) + b"(?:" + lengths + b")"


# Whatever pushes a leaf: BININT1 SHORT_BINUNICODE BININT2 BININT BINFLOAT NONE NEWFALSE NEWTRUE SHORT_BINBYTES LONG1.
# The order of alternatives is that of frequency.
_LEAF = b"|".join((b"K.", _short(b"\x8c"), b"M..", b"J.{4}", b"G.{8}", rb"[N\x88\x89]", _short(b"C"), _short(b"\x8a")))
_GET = rb"h.|j.{4}"  # BINGET LONG_BINGET; the unpickler checks the index against its memo.
_FRAME = rb"\x95.{8}"
# MEMOIZE EMPTY_TUPLE APPEND APPENDS ADDITEMS FROZENSET.
_MOVES = rb"\x94)ae\x90\x91"
_DROPS = b"01"  # POP POP_MARK; the pickler writes them only for a tuple that contains itself.
_OPENING = rb"\]}\x8f"  # EMPTY_LIST EMPTY_DICT EMPTY_SET
_TUPLES = rb"t\x85\x86\x87"  # TUPLE TUPLE1 TUPLE2 TUPLE3
_CALLS = rb"R\x81\x92\x93"  # REDUCE NEWOBJ NEWOBJ_EX STACK_GLOBAL
# SETITEM SETITEMS, and BUILD upon a dict that was just filled or made. What sits below it can only get that dict as its
# ``__dict__``. Any other state needs a look at what is below (see ``StackModel``), and so does one after SETITEMS of no
# items, which takes any object for a dict: there a mark comes directly before, at most with a frame between.
_SET_OR_BUILD, _BUILD_EMPTY = rb"sb?+|u(?:(?<!\(u)b)?+", rb"\}\x94?+b"
# Leaves, and tuples of leaves alone; and a list, dict or set that is filled with leaves and shared objects alone. What
# a tuple with a shared object holds is not known here: that may be a tuple, too, and so on.
_L = b"(?:" + _LEAF + rb")\x94?+"
_FLAT = _L + rb"(?:\x85|" + _L + rb"(?:[\x85\x86]|(?:" + _L + rb")++[\x85\x86\x87]?+)?+)?+"
_MARK = rb"\((?:(?:" + _L + rb")*+t)?+"
_FLAT_FILLED = rb"[\]}\x8f]\x94?+\((?![u\x94])(?:" + _GET + rb"|\x94|" + _LEAF + rb")*+(?:ub?+|e|\x90)"


class Expression:
    """A regular expression that is compiled when it is first needed: compiling all of them takes a noticeable moment,
    and a program that stores plain calls needs none.
    """

    match: Callable[..., re.Match[bytes] | None]
    fullmatch: Callable[[bytes | memoryview], re.Match[bytes] | None]
    findall: Callable[..., list[bytes]]

    def __init__(self, source: bytes) -> None:
        self._source = source

    def __getattr__(self, name: str) -> Any:
        if name not in ("match", "fullmatch", "findall"):
            raise AttributeError(name)
        compiled = re.compile(self._source)
        self.match, self.fullmatch, self.findall = compiled.match, compiled.fullmatch, compiled.findall
        return getattr(compiled, name)


def _run(*alternatives: bytes) -> Expression:
    return Expression(b"(?s:" + b"|".join(alternatives) + b")*+")


def _whole(*alternatives: bytes) -> Expression:
    return Expression(rb"(?s:\x80[\x04\x05](?:" + _FRAME + b")?+(?:" + b"|".join(alternatives) + rb")*+\.)")


# A whole pickle, with one frame at most. Plain: nothing can be looked up or called.
PLAIN_WHOLE = _whole(b"[" + _MOVES + b"(su" + _DROPS + _OPENING + _TUPLES + b"]++", _GET, _LEAF)
FULL_WHOLE = _whole(_BUILD_EMPTY, _SET_OR_BUILD, b"[" + _MOVES + b"(" + _OPENING + _TUPLES + _CALLS + b"]", _GET, _LEAF)
# Two pairs; the first of each stops at whatever looks up or calls as well. All stop at frames, at long items, at POP
# and at a BUILD that needs a look.
# These stop at every list, dict and set that is not flat, and at every such tuple.
NESTING_RUNS = tuple(
    _run(b"[" + _MOVES + calls + b"]++", _GET, _FLAT, _SET_OR_BUILD, _MARK, _FLAT_FILLED, _BUILD_EMPTY)
    for calls in (b"", _CALLS)
)
# These stop at every tuple that is not flat.
TUPLE_RUNS = tuple(
    _run(b"[" + _MOVES + calls + b"]++", _GET, _FLAT, _SET_OR_BUILD, _MARK, _BUILD_EMPTY, b"[" + _OPENING + b"]")
    for calls in (b"", _CALLS)
)
# Stops at frames and long items; every token is one opcode.
MODEL_RUN = _run(b"[" + _MOVES + b"(sub" + _DROPS + _OPENING + _TUPLES + _CALLS + b"]++", _GET, _LEAF)
TOKEN = Expression(
    b"(?s:[" + _MOVES + b"(sub" + _DROPS + _OPENING + _TUPLES + _CALLS + b"]|" + _GET + b"|" + _LEAF + b")"
)

# Items with a length of 4 or 8 bytes: BINUNICODE BINBYTES LONG4 BINUNICODE8 BINBYTES8 BYTEARRAY8.
LENGTH_BYTES = {ord("X"): 4, ord("B"): 4, 0x8B: 4, 0x8D: 8, 0x8E: 8, 0x96: 8}
ARGUMENT_BYTES = {ord("K"): 1, ord("h"): 1, ord("M"): 2, ord("J"): 4, ord("j"): 4, ord("G"): 8}
SHORT_OPCODES = frozenset(b"\x8cC\x8a")
STOP, FRAME_OPCODE, LONG4, SETITEMS = ord("."), 0x95, 0x8B, ord("u")
ODD_OPCODES = frozenset(b"b01")
"""BUILD, POP, POP_MARK: where a run stops at one of them, only a model can tell what they do."""
TUPLE_OPCODES, OPENING_OPCODES = frozenset(b"t\x85\x86\x87"), frozenset(b"]}\x8f")
CALL_OPCODES = frozenset(b"R\x81\x92\x93")


def run_end(run: Expression, data: bytes, position: int, limit: int) -> int:
    """Where the stretch of opcodes ends that ``run`` passes over, before ``limit``."""
    found = run.match(data, position, limit)
    return found.end() if found else position


def one_frame(data: bytes) -> bool:
    """Whether a whole pickle has no frame at its start, or one that ends where the pickle does.

    The unpickler, when it reads a file, forgets what is left of a frame that ends inside an item, and goes on after
    it: then it would not see the opcodes that were checked.
    """
    return data[2] != FRAME_OPCODE or int.from_bytes(data[3:11], "little") == len(data) - 11


def after_long_item(data: bytes, position: int, limit: int) -> int:
    """Where an item with a length of 4 or 8 bytes ends: before ``limit``."""
    width = LENGTH_BYTES.get(data[position], 8)
    start = position + 1 + width
    length = int.from_bytes(data[position + 1 : start], "little")
    if start + length > limit or (data[position] == LONG4 and length >> 31):
        raise CodecError("a length that does not fit into what remains", offset=position)
    return start + length


def refusal(data: bytes, position: int) -> CodecError:
    """Why the opcode at ``position`` does not pass."""
    opcode = data[position] if position < len(data) else -1
    if opcode == -1 or opcode in ARGUMENT_BYTES or opcode in SHORT_OPCODES or opcode == FRAME_OPCODE:
        return CodecError("the pickle ends in the middle", offset=position)
    return CodecError(f"opcode 0x{opcode:02x} is not allowed", offset=position)
