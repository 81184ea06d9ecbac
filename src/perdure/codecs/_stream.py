"""The same check for a stream of any length, while the unpickler reads it."""

from __future__ import annotations

from typing import Any

from perdure.codecs._opcodes import (
    ARGUMENT_BYTES,
    FRAME_BYTES_MAX,
    FRAME_OPCODE,
    LENGTH_BYTES,
    LONG4,
    MODEL_RUN,
    ODD_OPCODES,
    SETITEMS,
    SHORT_OPCODES,
    STOP,
    TOKEN,
    TUPLE_OPCODES,
    TUPLE_RUNS,
    refusal,
    run_end,
)
from perdure.codecs._stack_model import StackModel
from perdure.errors import CodecError
from perdure.limits import NESTING_DEPTH_MAX


class ScannedReader:
    """A file for the unpickler that has looked at every opcode before it hands it over. Reads nothing beyond STOP.

    Holds no more than what the unpickler asked for. As long as tuples of containers are few, only the opcodes are
    checked; when they become many, and the file can seek, it is read once more from the start with a ``StackModel``; a
    file that cannot seek is followed with the model from the start, at about three times the cost. Lists and dicts are
    not counted in the first case: loading, comparing and freeing those is safe at any depth.

    ``failure``: what the file itself raised, so that it is not taken for an error in the data.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self.failure: BaseException | None = None
        self._start: int | None = file.tell() if _can_seek(file) else None
        self._consumed = 0
        self._framed = False  # The next piece is the inside of a frame, which the unpickler reads at once.
        self._scan = StreamScan(self._bytes_left, StackModel() if self._start is None else None)

    def read(self, size: int) -> bytes:
        data = self._read(size)
        self._look(data)
        return data

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view):
            count = self._guard(self._file.readinto, view[filled:])
            if not count:
                break
            filled += count
        self._look(view[:filled])
        return filled

    def readline(self) -> bytes:
        raise CodecError("a text opcode is not allowed")

    def _read(self, size: int) -> bytes:
        data: bytes = self._guard(self._file.read, min(size, FRAME_BYTES_MAX)) or b""
        if len(data) == size or not data:
            return data
        # Piece by piece, so that a size that lies costs no more than what is there.
        pieces = bytearray(data)
        while len(pieces) < size:
            piece = self._guard(self._file.read, min(size - len(pieces), FRAME_BYTES_MAX))
            if not piece:
                break
            pieces += piece
        return bytes(pieces)

    def _guard(self, call: Any, argument: Any) -> Any:
        try:
            return call(argument)
        except BaseException as error:
            self.failure = error
            raise

    def _look(self, data: bytes | memoryview) -> None:
        framed, self._framed = self._framed, False
        if not self._scan.feed(data, framed=framed):
            self._look_again()
            self._scan.feed(data, framed=framed)
        self._consumed += len(data)
        self._framed = self._scan.frame_follows

    def _look_again(self) -> None:
        """Start anew with a model, and bring it to where the last piece began."""
        scan = self._scan = StreamScan(self._bytes_left, StackModel())
        here = self._guard(lambda _: self._file.tell(), None)
        self._guard(self._file.seek, self._start)
        left = self._consumed
        while left:
            block = self._guard(self._file.read, min(left, FRAME_BYTES_MAX))
            if not block:
                raise CodecError("the stream changed while it was read")
            left -= len(block)
            scan.feed(block, framed=None)
        self._guard(self._file.seek, here)

    def _bytes_left(self) -> int | None:
        """What remains in the file; asked only for very long items, since seeking may be dear."""
        if self._start is None:
            return None
        here: int = self._guard(lambda _: self._file.tell(), None)
        end: int = self._guard(lambda _: self._file.seek(0, 2), None)
        self._guard(self._file.seek, here)
        return end - here


class StreamScan:
    """The opcodes of one pickle, given piece by piece."""

    def __init__(self, bytes_left: Any, model: StackModel | None) -> None:
        self._bytes_left = bytes_left
        self._model = model
        self._pending = b""
        self._skip = 0
        self._tuples = 0
        self._edge = 0  # Where one cannot see what came directly before.
        self._begun = False
        self._ended = False
        self.frame_follows = False
        """The last piece ended with the head of a frame."""

    def feed(self, chunk: bytes | memoryview, *, framed: bool | None) -> bool:
        """Look at the next bytes. ``False``: this cannot be decided without a model; start again with one.

        ``framed``: whether they are the whole inside of a frame; ``None``: pieces of any kind that were seen before.

        Raises:
            CodecError: an opcode is not allowed, a length does not fit, or an item crosses the end of its frame.
        """
        decided = self._feed(chunk, framed)
        if framed and decided and (self._pending or self._skip):
            # See ``one_frame``.
            raise CodecError("an item that crosses the end of its frame")
        return decided

    def _feed(self, chunk: bytes | memoryview, framed: bool | None) -> bool:
        self.frame_follows = False
        if self._skip >= len(chunk):
            self._skip -= len(chunk)
            return True
        data = self._pending + bytes(chunk[self._skip :])
        self._skip, self._pending = 0, b""
        position, size = 0, len(data)
        if not self._begun:
            if not (b"\x80\x04".startswith(data[:2]) or b"\x80\x05".startswith(data[:2])):
                raise CodecError("not a pickle of protocol 4 or 5", offset=0)
            if size < 2:
                self._pending = data
                return True
            self._begun, position = True, 2
        self._edge = position
        while position < size:
            position = self._go(data, position)
            if position == size:
                break
            opcode = data[position]
            if self._ended:
                raise CodecError("bytes after the end of the value")
            if opcode in ODD_OPCODES:
                return False  # With a model this is part of the run, and so are tuples.
            if opcode in TUPLE_OPCODES:
                self._tuples += 1
                if self._tuples >= NESTING_DEPTH_MAX:
                    return False
                position += 1
            elif opcode == STOP:
                self._ended = True
                position += 1
            elif opcode in LENGTH_BYTES or opcode == FRAME_OPCODE:
                after = self._item(data, position)
                if after == -1:
                    self._pending = data[position:]
                    break
                if opcode == FRAME_OPCODE and framed is not None:
                    if framed or after != size:
                        raise CodecError("a frame within a frame")
                    self.frame_follows = True
                position = after
            elif opcode in ARGUMENT_BYTES or opcode in SHORT_OPCODES:
                self._pending = data[position:]  # Its argument comes with the next piece.
                break
            else:
                raise refusal(data, position)
        return True

    def _go(self, data: bytes, position: int) -> int:
        if self._ended:
            return position
        if self._model is None:
            if data[position] == SETITEMS and position == self._edge:
                position += 1  # On its own, so that a BUILD behind it gets a look (see ``_opcodes``).
            return run_end(TUPLE_RUNS[True], data, position, len(data))
        end = run_end(MODEL_RUN, data, position, len(data))
        if end > position:
            self._model.follow(TOKEN.findall(data, position, end))
        return end

    def _item(self, data: bytes, position: int) -> int:
        opcode = data[position]
        start = position + 1 + LENGTH_BYTES.get(opcode, 8)
        if start > len(data):
            return -1
        length = int.from_bytes(data[position + 1 : start], "little")
        if opcode == FRAME_OPCODE:
            if length > FRAME_BYTES_MAX:
                raise CodecError("a frame that no pickler writes")
            self._edge = start
            return start
        if length >> (31 if opcode == LONG4 else 62):
            raise CodecError("a length that does not fit into what remains")
        if length > 16 * FRAME_BYTES_MAX:
            # The unpickler allocates this much before it reads.
            left = self._bytes_left()
            if left is not None and length > left + len(data) - start:
                raise CodecError("a length that does not fit into what remains")
        if self._model is not None:
            self._model.push_leaf()
        if start + length > len(data):
            self._skip = start + length - len(data)
            return len(data)
        return start + length


def _can_seek(file: Any) -> bool:
    seekable = getattr(file, "seekable", None)
    return bool(seekable()) if seekable is not None else False
