"""Features of texts, computed by all processors, once.

``python examples/pipeline.py DIR`` takes chapters of Python's own reference, which every Python has as text, and makes
of each its words, of these their counts, and of all together the words that stand out in each. Each stage is a stash:
what is there is not made again, so a second run is quick, and one that was killed goes on where it was.

PIPELINE_DELAY_S makes the first stage as slow as a real one: so many seconds for each text.
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from perdure import PersistedWork, persisted
from perdure.stash import DirectoryStash, MultiProcessStash, ReadOnlyStash, Stash


class Texts(ReadOnlyStash):
    """The input: topic → text."""

    def load(self, name: str) -> Any:
        return topics.get(name)

    def keys(self) -> Iterable[str]:
        return topics.keys()


class Words(ReadOnlyStash):
    """A stage: what it makes of each item of the one before. This one is slow, as stages with models in them are."""

    def __init__(self, texts: Stash) -> None:
        self.texts = texts

    def load(self, name: str) -> Any:
        time.sleep(float(os.environ.get("PIPELINE_DELAY_S", "0")))
        return re.findall(r"[a-z]{3,}", self.texts.load(name).lower())

    def keys(self) -> Iterable[str]:
        return self.texts.keys()


class Counts(ReadOnlyStash):
    """The next stage: how often each word stands in a text."""

    def __init__(self, words: Stash) -> None:
        self.words = words

    def load(self, name: str) -> Any:
        return Counter(self.words.load(name))

    def keys(self) -> Iterable[str]:
        return self.words.keys()


class Pipeline:
    """The stages, one upon the other, each in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.words = MultiProcessStash(DirectoryStash(folder / "words"), Words(Texts()))
        self.counts = MultiProcessStash(DirectoryStash(folder / "counts"), Counts(self.words))
        self._frequencies = PersistedWork(folder / "frequencies.dat", self)

    @persisted("_frequencies")
    def frequencies(self) -> dict[str, int]:
        """In how many texts each word stands. Of all texts together, so it is one result, kept in one file."""
        found: Counter[str] = Counter()
        for _, counts in self.counts:
            found.update(counts.keys())
        return dict(found)

    def outstanding(self, name: str, count: int = 5) -> list[str]:
        """The words that stand out in a text: often there, and in few others."""
        counts, frequencies, texts = self.counts[name], self.frequencies(), len(self.counts)

        def weight(word: str) -> float:
            return float(counts[word] * math.log(texts / frequencies[word]))

        return sorted(counts, key=lambda word: (-weight(word), word))[:count]


def main(directory: str) -> None:
    pipeline = Pipeline(Path(directory))
    begun = time.perf_counter()
    pipeline.words.prime()
    pipeline.counts.prime()
    print(f"{len(pipeline.counts)} texts in {time.perf_counter() - begun:.1f} s", flush=True)
    for name in ("while", "lambda", "import"):
        print(f"{name}: {', '.join(pipeline.outstanding(name))}")


if __name__ == "__main__":
    main(sys.argv[1])
