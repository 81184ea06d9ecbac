"""Keys that come again: the same command gets its answer, another one is told so."""

from __future__ import annotations

from perdure.cluster import Node
from perdure.codecs import Codec
from perdure.digest import digest
from perdure.errors import CodecError, PerdureError
from perdure.machine import Machine
from perdure.records import COMMAND
from perdure.system import decode_command

Request = tuple[bytes, int]


class Repeats:
    """Knows the requests that are on their way, and finds those that have run in the journal."""

    def __init__(self, machine: Machine | Node, codec: Codec) -> None:
        self._machine = machine
        self._codec = codec
        self._running: dict[Request, tuple[bytes, int]] = {}

    def begin(self, request: Request, payload: bytes) -> bool:
        """Whether the request may go on: ``False`` where another command with its key is on its way."""
        first, count = self._running.get(request, (payload, 0))
        if count and not self._same(first, payload):
            return False
        self._running[request] = first, count + 1
        return True

    def end(self, request: Request) -> None:
        """The request has its answer."""
        first, count = self._running[request]
        if count > 1:
            self._running[request] = first, count - 1
        else:
            del self._running[request]

    def seq_of(self, request: Request) -> int | None:
        """The entry of the request, if it has run."""
        return self._machine.receipts.seq_of(*request)

    def is_other(self, seq: int, payload: bytes) -> bool:
        """Whether the entry is another command. Reads the journal; what is there no more cannot be told apart."""
        try:
            for entry in self._machine.journal.read(seq - 1, seq + 1):
                return entry.kind == COMMAND and not self._same(entry.payload, payload)
        except PerdureError:
            return False
        return False

    def _same(self, first: bytes, second: bytes) -> bool:
        if first == second:
            return True
        try:
            # Bytes may differ where values do not: the order of a set is another one in each process.
            one, two = decode_command(self._codec, first), decode_command(self._codec, second)
            return digest(list(one)) == digest(list(two))
        except CodecError:
            return False
