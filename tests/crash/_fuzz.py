"""One decoder under atheris, as a program of its own: ``_fuzz.py DECODER CORPUS [libFuzzer's options]``."""

from __future__ import annotations

import hashlib
import os
import sys

import atheris

with atheris.instrument_imports(include=["perdure"]):
    from tests.crash._decoders import DECODERS


def main(name: str, corpus: str, *options: str) -> None:
    decoder = DECODERS[name]
    for seed in decoder.seeds():
        with open(os.path.join(corpus, hashlib.sha1(seed).hexdigest()), "wb") as file:
            file.write(seed)
    atheris.Setup([sys.argv[0], *options, corpus], decoder.try_both)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
