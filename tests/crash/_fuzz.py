"""Decoders under atheris, as a program of its own: ``_fuzz.py DECODER CORPUS [libFuzzer's options]``.

DECODER may be "all": then the first byte of each input says which of them reads the rest.
"""

from __future__ import annotations

import hashlib
import os
import sys

import atheris

with atheris.instrument_imports(include=["perdure"]):
    from tests.crash._decoders import DECODERS


ALL = "all"


def one_of_all(data: bytes) -> None:
    decoders = list(DECODERS.values())
    decoders[data[0] % len(decoders) if data else 0].try_both(data[1:])


def seeds(name: str) -> list[bytes]:
    if name != ALL:
        return DECODERS[name].seeds()
    return [bytes([number]) + seed for number, decoder in enumerate(DECODERS.values()) for seed in decoder.seeds()]


def main(name: str, corpus: str, *options: str) -> None:
    for seed in seeds(name):
        with open(os.path.join(corpus, hashlib.sha1(seed).hexdigest()), "wb") as file:
            file.write(seed)
    atheris.Setup([sys.argv[0], *options, corpus], one_of_all if name == ALL else DECODERS[name].try_both)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
