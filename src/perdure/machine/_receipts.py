"""Which requests have run, and what they were answered: what makes a repeated one run once.

Whoever sends a command over something that can break names it by a *client* (16 bytes of its own choosing) and a
*counter* (from 1 on). If the answer is lost, sending the same again is safe: the machine finds the receipt and gives
the first answer once more. Receipts are made by applying entries and by nothing else, so that a replay makes the same
ones, on every machine that reads the same journal; snapshots carry them. The idea is that of the sessions in Ongaro's
"Consensus: Bridging Theory and Practice" (2014), section 6.3, with a window instead of one counter, because a client
may have several requests on the way at once.

What is forgotten: a client's counters more than ``RECEIPT_WINDOW`` below its highest (asking for one of those is
refused, not run), and, beyond ``RECEIPTS_MAX`` in all, the clients that have been silent the longest. The answers
themselves may be forgotten earlier, where they are large.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

import msgspec

from perdure.codecs import Codec
from perdure.errors import CorruptError, OutcomeUnknownError
from perdure.limits import RECEIPT_ANSWERS_BYTES_MAX, RECEIPT_WINDOW, RECEIPTS_MAX
from perdure.machine._answers import Answer, StoredAnswer, restore
from perdure.machine._state import Pending


class _Receipt(msgspec.Struct, array_like=True, gc=False):
    seq: int
    answer: StoredAnswer | None


class _Client(msgspec.Struct, array_like=True):
    highest: int
    receipts: dict[int, _Receipt]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, _Client]]).decode


class Receipts:
    """The receipts of one machine. Whoever calls holds the lock under which commands are applied."""

    def __init__(self) -> None:
        self._forget_all()

    def _forget_all(self) -> None:
        self._clients: OrderedDict[bytes, _Client] = OrderedDict()
        self._count = 0
        self._kept: deque[tuple[bytes, int, int]] = deque()  # Client, counter and size of answers, the oldest first.
        self._kept_bytes = 0

    def __len__(self) -> int:
        return self._count

    def has_run(self, client: bytes, counter: int) -> bool:
        """Whether the request has run, or is so old that nobody can tell any more."""
        known = self._clients.get(client)
        return known is not None and (counter in known.receipts or counter <= known.highest - RECEIPT_WINDOW)

    def divide(self, batch: Sequence[Pending]) -> tuple[list[Pending], list[tuple[Pending, Pending | None]]]:
        """The commands that have not run yet; and those that have, each with the one of this batch that it repeats."""
        first: dict[tuple[bytes, int], Pending] = {}
        new: list[Pending] = []
        repeated: list[tuple[Pending, Pending | None]] = []
        for pending in batch:
            request = pending.client, pending.counter
            if pending.client and (request in first or self.has_run(*request)):
                repeated.append((pending, first.get(request)))
            else:
                new.append(pending)
                if pending.client:
                    first[request] = pending
        return new, repeated

    def seq_of(self, client: bytes, counter: int) -> int | None:
        """The entry of a request that has run and is remembered. Any thread may ask."""
        known = self._clients.get(client)
        receipt = known.receipts.get(counter) if known is not None else None
        return receipt.seq if receipt is not None else None

    def counters(self, client: bytes) -> frozenset[int]:
        """Of the requests of a client that are remembered."""
        known = self._clients.get(client)
        return frozenset(known.receipts) if known is not None else frozenset()

    def answer(self, client: bytes, counter: int, codec: Codec) -> Answer:
        """The answer of a request that ``has_run``. ``codec``: that of ``State.answers``."""
        receipt = self._clients[client].receipts.get(counter)
        if receipt is None:
            error = OutcomeUnknownError(
                f"a request more than {RECEIPT_WINDOW} before this client's latest is not known any more",
                hint="retry before sending on, and give each client an id of its own",
            )
            return Answer(None, error)
        return restore(receipt.answer, receipt.seq, codec)

    def note(self, client: bytes, counter: int, seq: int, answer: StoredAnswer | None) -> None:
        """Notes that a request has run, as the entry ``seq``. ``answer``: ``None`` where nobody kept it."""
        known = self._clients.get(client)
        if known is None:
            known = self._clients[client] = _Client(0, {})
        else:
            self._clients.move_to_end(client)
        known.highest = max(known.highest, counter)
        if counter not in known.receipts:
            self._count += 1
        known.receipts[counter] = _Receipt(seq, answer)
        # From the front, which is where the oldest are: a client counts upwards, and what overtook another one waits
        # its turn.
        receipts, oldest = known.receipts, known.highest - RECEIPT_WINDOW
        while (first := next(iter(receipts))) <= oldest:
            del receipts[first]
            self._count -= 1
        while self._count > RECEIPTS_MAX and len(self._clients) > 1:
            _, forgotten = self._clients.popitem(last=False)
            self._count -= len(forgotten.receipts)
        if answer is not None:
            self._keep(client, counter, answer)

    def _keep(self, client: bytes, counter: int, answer: StoredAnswer) -> None:
        """Counts the bytes of an answer, and forgets the oldest ones where they are too many."""
        self._kept.append((client, counter, answer.size_bytes))
        self._kept_bytes += answer.size_bytes
        while self._kept_bytes > RECEIPT_ANSWERS_BYTES_MAX:
            old_client, old_counter, size = self._kept.popleft()
            self._kept_bytes -= size
            known = self._clients.get(old_client)
            receipt = known.receipts.get(old_counter) if known is not None else None
            if receipt is not None:
                receipt.answer = None

    def dump(self) -> bytes:
        """All of them, for a snapshot; empty where there are none."""
        return _encode(list(self._clients.items())) if self._clients else b""

    def load(self, data: bytes) -> None:
        """Becomes what ``dump`` has written. Raises ``CorruptError``."""
        self._forget_all()
        if not data:
            return
        try:
            self._clients.update(_decode(data))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise CorruptError(f"the receipts of requests cannot be read: {error}") from error
        answered = []
        for client, known in self._clients.items():
            self._count += len(known.receipts)
            for counter, receipt in known.receipts.items():
                if receipt.answer is not None:
                    answered.append((receipt.seq, client, counter, receipt.answer))
        answered.sort(key=lambda each: each[0])
        for _, client, counter, answer in answered:
            self._keep(client, counter, answer)
