"""Reading a pickle's opcodes before it is loaded, so that no hostile one reaches the unpickler.

The unpickler of CPython is written for friends: eight bytes with a memo index of 2^31 make it allocate a table of that
size, and 200,000 nested tuples, used as a key, overflow the C stack when they are hashed. So only the opcodes pass
that the pickler of CPython emits with protocols 4 and 5; every length must fit into what remains; there is one STOP,
at the end. Opcodes: ``Lib/pickletools.py``.

Three speeds. (1) ``PLAIN_WHOLE`` and ``FULL_WHOLE``, each one regular expression, for pickles too short to be nested
too deeply: almost every command. (2) Expressions that run from one item to the next that needs a look. (3)
``StackModel`` follows the stack opcode by opcode; it is needed only where hundreds of tuples hold containers or shared
objects, or where BUILD has an unusual look.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, NamedTuple

from perdure.codecs._opcodes import (
    CALL_OPCODES,
    FRAME_OPCODE,
    LENGTH_BYTES,
    MODEL_RUN,
    NESTING_RUNS,
    ODD_OPCODES,
    OPENING_OPCODES,
    STOP,
    TOKEN,
    TUPLE_OPCODES,
    TUPLE_RUNS,
    after_long_item,
    refusal,
    run_end,
)
from perdure.codecs._stack_model import StackModel, too_deep
from perdure.errors import CodecError
from perdure.limits import NESTING_DEPTH_MAX


class Verdict(NamedTuple):
    """``plain``: nothing can be looked up, so that ``pickle.loads`` may have it. ``wide``: many containers hold
    containers; whether they are nested too deeply is for ``refuse_deep`` to see, in the value."""

    plain: bool
    wide: bool


def scan(data: bytes) -> Verdict:
    """Check a whole pickle.

    Raises:
        CodecError: it is not what the pickler writes, or its tuples are nested too deeply.
    """
    if data[:1] != b"\x80" or data[1:2] not in (b"\x04", b"\x05"):
        raise CodecError("not a pickle of protocol 4 or 5", offset=0)
    # Upper bounds of how deeply tuples, and other containers, can be nested.
    tuples = others = 0
    odd = called = False
    position, size = 2, len(data)
    frame_end = 0
    run = NESTING_RUNS[0]
    while True:
        limit = frame_end or size
        position = run_end(run, data, position, limit)
        if position == frame_end:
            frame_end = 0
            continue
        opcode = data[position] if position < size else -1
        if opcode in OPENING_OPCODES:
            others += 1
            position += 1
            if others > NESTING_DEPTH_MAX:
                run = TUPLE_RUNS[called]
        elif opcode in TUPLE_OPCODES:
            tuples += 1
            position += 1
        elif opcode in LENGTH_BYTES:
            position = after_long_item(data, position, limit)
        elif opcode == FRAME_OPCODE and not frame_end:
            frame_end = after_long_item(data, position, limit)  # No item may cross it: see ``one_frame``.
            position += 9
            if data[position : position + 1] == b"u":
                position += 1  # On its own, so that a BUILD behind it gets a look (see ``_opcodes``).
        elif opcode in ODD_OPCODES:
            odd = True
            position += 1
        elif opcode in CALL_OPCODES and not called:
            called = True
            run = (NESTING_RUNS if others <= NESTING_DEPTH_MAX else TUPLE_RUNS)[True]
        elif opcode == STOP:
            break
        else:
            raise refusal(data, position)
    if position + 1 != size:
        raise CodecError("bytes after the end of the value", offset=position + 1)
    # The innermost may be flat, and is not counted.
    if odd or tuples >= NESTING_DEPTH_MAX:
        _follow(data)
    return Verdict(plain=not called, wide=tuples + others >= NESTING_DEPTH_MAX)


def refuse_deep(value: object) -> None:
    """Refuse built-in containers nested too deeply, counted along the shortest way to each, so that shared objects and
    rings cost nothing."""
    level: list[Any] = [value]
    seen: set[int] = set()
    for _ in range(NESTING_DEPTH_MAX):
        parts: list[Iterable[Any]] = []
        for item in level:
            kind = type(item)
            if kind in _CONTAINERS and id(item) not in seen:
                seen.add(id(item))
                if kind is dict:
                    parts.append(item.values())
                if not _SCALARS.issuperset(map(type, item)):
                    parts.append(item)
        level = [part for part in chain.from_iterable(parts) if type(part) in _CONTAINERS]
        if not level:
            return
    raise too_deep()


_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
_SCALARS = frozenset({type(None), bool, int, float, str, bytes})


def _follow(data: bytes) -> None:
    model = StackModel()
    position = 2
    while data[position] != STOP:
        end = run_end(MODEL_RUN, data, position, len(data))
        model.follow(TOKEN.findall(data, position, end))
        position = end
        if data[position] in LENGTH_BYTES:
            position = after_long_item(data, position, len(data))
            model.push_leaf()
        elif data[position] == FRAME_OPCODE:
            position += 9
