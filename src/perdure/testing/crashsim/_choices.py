"""Which of the changes that no sync forced are kept: all choices where there are few, else telling ones."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet

from perdure.testing.crashsim._changes import Change, Data, Names, Shrinkage
from perdure.testing.crashsim._models import Posix

_EXHAUSTIVE_EVENTS_MAX = 8


def choices(model: Posix, pending: Sequence[Change], limit: int, rng: random.Random) -> Iterator[frozenset[int]]:
    """Sets of indices into ``pending`` that the model allows: all of them, or ``limit`` where there are more."""
    count = len(pending)
    if 1 << count <= limit:
        for bits in range(1 << count):
            kept = _from_bits(bits, count)
            if model.allows(pending, kept):
                yield kept
        return
    seen: set[frozenset[int]] = set()
    # Some room is left for chance, so that another seed looks elsewhere.
    telling = itertools.chain(_whole_events(pending, limit, rng), _regular(pending))
    by_chance = itertools.islice(_random(pending, rng), 4 * limit)
    for candidates, end in ((telling, limit - limit // 4), (by_chance, limit)):
        for candidate in candidates:
            if len(seen) >= end:
                break
            kept = frozenset(candidate)
            if kept not in seen and model.allows(pending, kept):
                seen.add(kept)
                yield kept


def _from_bits(bits: int, count: int) -> frozenset[int]:
    return frozenset(index for index in range(count) if bits >> index & 1)


def _whole_events(pending: Sequence[Change], limit: int, rng: random.Random) -> Iterator[Iterable[int]]:
    """System calls kept or lost as a whole: all choices where there are few calls."""
    groups: dict[tuple[int, int], list[int]] = {}
    for index, change in enumerate(pending):
        key = (change.event, -1 if isinstance(change, Names) else change.file)
        groups.setdefault(key, []).append(index)
    events = list(groups.values())
    count = len(events)
    everything = (1 << count) - 1
    numbers: Iterable[int]
    if count <= _EXHAUSTIVE_EVENTS_MAX:
        numbers = range(1 << count)
    else:
        numbers = itertools.chain(
            ((1 << end) - 1 for end in range(count + 1)),
            (everything & ~(1 << one) for one in range(count)),
            (1 << one for one in range(count)),
            (rng.getrandbits(count) for _ in range(limit // 4)),
        )
    for bits in numbers:
        yield itertools.chain.from_iterable(events[index] for index in range(count) if bits >> index & 1)


def _regular(pending: Sequence[Change]) -> Iterator[Iterable[int]]:
    """Sizes without their bytes, prefixes, all but one, one only, a prefix but one, all but two."""
    count = len(pending)
    everything = frozenset(range(count))
    for file in {change.file for change in pending if isinstance(change, Data)}:
        yield [i for i, change in enumerate(pending) if not (isinstance(change, Data) and change.file == file)]
    for end in range(count + 1):
        yield range(end)
    for one in range(count):
        yield everything - {one}
    for one in range(count):
        yield {one}
    for end in range(count + 1):
        for one in range(end):
            yield frozenset(range(end)) - {one}
    for one in range(count):
        for other in range(one):
            yield everything - {one, other}


def _random(pending: Sequence[Change], rng: random.Random) -> Iterator[AbstractSet[int]]:
    """A prefix of the names and, for each file, a prefix of its bytes: mostly, for that is what disks do."""
    names = [index for index, change in enumerate(pending) if isinstance(change, Names | Shrinkage)]
    files: dict[int, list[int]] = {}
    for index, change in enumerate(pending):
        if not isinstance(change, Names | Shrinkage):
            files.setdefault(change.file, []).append(index)
    while True:
        kept: set[int] = set()
        for indices in (names, *files.values()):
            if rng.random() < 0.7:
                kept.update(indices[: rng.randint(0, len(indices))])
            else:
                kept.update(index for index in indices if rng.random() < 0.5)
        yield kept
