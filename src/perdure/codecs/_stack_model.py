"""The unpickler's stack, followed opcode by opcode: the slow and exact check."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from perdure.errors import CodecError
from perdure.limits import NESTING_DEPTH_MAX

# What an opcode does, for the model.
(
    _LEAVES, _PUT, _GETS, _EMPTY, _MARK, _TUPLE_N, _TO_MARK, _SETITEM, _NEW_TO_MARK, _APPEND, _CALL, _STATE, _CALL_EX,
    _GLOBAL, _POP, _POP_TO_MARK,
) = range(16)  # fmt: skip
_KINDS = bytearray(256)
for _opcodes, _kind in (
    (b"N\x88\x89KMJG\x8cC\x8a)", _LEAVES),
    (b"\x94", _PUT),
    (b"hj", _GETS),
    (b"]}\x8f", _EMPTY),
    (b"(", _MARK),
    (b"\x85\x86\x87", _TUPLE_N),
    (b"eu\x90", _TO_MARK),
    (b"s", _SETITEM),
    (b"t\x91", _NEW_TO_MARK),
    (b"a", _APPEND),
    (b"R\x81", _CALL),
    (b"b", _STATE),
    (b"\x92", _CALL_EX),
    (b"\x93", _GLOBAL),
    (b"0", _POP),
    (b"1", _POP_TO_MARK),
):
    for _opcode in _opcodes:
        _KINDS[_opcode] = _kind
_CLASS = -1


class StackModel:
    """The unpickler's stack with only two things known of each object: how deeply it is nested, and if it is a class.

    Refuses (``CodecError``) what is nested deeper than ``NESTING_DEPTH_MAX``, and BUILD upon a class, which would set
    attributes of the class itself. An instance counts as one container with its state.

    A list or an instance that grows after it was memoized is counted as it was then: what is hashed recursively in C
    is tuples, and these are complete when they are made.
    """

    def __init__(self) -> None:
        self._stack: list[int] = []
        self._marks: list[int] = []
        self._memo = array("h")  # Two bytes for each memoized object, of which a large state has millions.

    def push_leaf(self) -> None:
        self._stack.append(0)

    def follow(self, tokens: Iterable[bytes]) -> None:
        """Follow complete opcodes other than PROTO, FRAME, STOP and the long items."""
        try:
            self._follow(tokens)
        except IndexError:
            raise CodecError("a malformed pickle: its stack or memo runs empty") from None

    def _follow(self, tokens: Iterable[bytes]) -> None:  # One loop on purpose: it runs once for each opcode.
        stack, marks, memo, kinds = self._stack, self._marks, self._memo, _KINDS
        push = stack.append
        for token in tokens:
            kind = kinds[token[0]]
            if kind == _LEAVES:
                push(0)
            elif kind == _PUT:
                memo.append(stack[-1])
            elif kind == _GETS:
                push(memo[int.from_bytes(token[1:], "little")])
            elif kind == _EMPTY:
                push(1)
            elif kind == _MARK:
                marks.append(len(stack))
            elif kind == _TUPLE_N:
                count = token[0] - 0x84
                deepest = max(stack[-count:]) if len(stack) >= count else _underflow()
                del stack[-count:]
                push(self._deeper(deepest))
            elif kind == _TO_MARK:
                mark = marks.pop()
                deepest = max(stack[mark:], default=0)
                del stack[mark:]
                stack[-1] = max(stack[-1], self._deeper(deepest))
            elif kind == _SETITEM:
                deepest = max(stack.pop(), stack.pop())
                stack[-1] = max(stack[-1], self._deeper(deepest))
            elif kind == _NEW_TO_MARK:
                mark = marks.pop()
                deepest = max(stack[mark:], default=0)
                del stack[mark:]
                push(self._deeper(deepest))
            elif kind == _APPEND:
                deepest = stack.pop()
                stack[-1] = max(stack[-1], self._deeper(deepest))
            elif kind == _CALL:
                stack[-2:] = [max(1, stack[-1])] if len(stack) >= 2 else [_underflow()]
            elif kind == _STATE:
                state = stack.pop()
                if stack[-1] == _CLASS:
                    raise CodecError("a pickle that changes a class")
                stack[-1] = max(stack[-1], state)
            else:
                self._seldom(kind)

    def _seldom(self, kind: int) -> None:
        stack, marks = self._stack, self._marks
        if kind == _GLOBAL:
            stack.pop()
            stack[-1] = _CLASS
        elif kind == _CALL_EX:
            keywords, arguments = stack.pop(), stack.pop()
            stack[-1] = max(1, keywords, arguments)
        elif kind == _POP_TO_MARK:
            del stack[marks.pop() :]
        elif kind == _POP:
            # As the unpickler: a mark on top is what is popped.
            if marks and marks[-1] == len(stack):
                marks.pop()
            else:
                stack.pop()

    def _deeper(self, deepest: int) -> int:
        if deepest >= NESTING_DEPTH_MAX:
            raise too_deep()
        return deepest + 1 if deepest > 0 else 1


def too_deep() -> CodecError:
    return CodecError(
        f"nested more than {NESTING_DEPTH_MAX} containers deep",
        hint="keep the parts in a list or dict and refer to them by index or key",
    )


def _underflow() -> int:
    raise IndexError
