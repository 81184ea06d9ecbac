"""The child process of the demo: ``python -m perdure.demo.filler DIR THREADS < pages.json``.

It adds the pages that are not there yet and writes the name of each one to its standard output as soon as the wiki has
acknowledged it, and not before. Somebody will kill it.
"""

from __future__ import annotations

import json
import os
import sys
import threading

import perdure
from perdure.demo._open import open_wiki


def fill(directory: str, pages: dict[str, str], thread_count: int) -> None:
    """Returns when all pages are there."""
    wiki = open_wiki(directory)
    try:
        missing = iter([name for name in pages if name not in wiki.pages])
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    name = next(missing, None)
                if name is None:
                    return
                wiki.add_page(name, pages[name])
                # One write of a few bytes: it arrives wholly or not at all.
                os.write(1, name.encode() + b"\n")

        threads = [threading.Thread(target=work) for _ in range(thread_count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        perdure.control(wiki).close()


if __name__ == "__main__":
    fill(sys.argv[1], json.load(sys.stdin), int(sys.argv[2]))
