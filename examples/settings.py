"""Settings that many processes share, without a server to start.

``python examples/settings.py DIR`` starts some workers that look at the same settings, changes one while they work, and
kills the process that owned them: another one takes over, and nothing that was written is lost.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from multiprocessing.synchronize import Event

from perdure import SharedPersistentDict

JOBS = 40


def first(directory: str, ready: Event) -> None:
    """Whoever opens the directory first owns it and serves the others. This one does not live to its end."""
    settings = SharedPersistentDict(directory)
    settings.update({"colour": "blue", "done": 0, "seen": []})
    ready.set()
    time.sleep(600)


def worker(directory: str, number: int) -> None:
    """Any other process finds it by its directory alone."""
    settings = SharedPersistentDict(directory)
    for _ in range(JOBS):
        # More than one step: nobody else writes in between.
        with settings.locked():
            settings["done"] = settings["done"] + 1
            if settings["colour"] not in settings["seen"]:
                settings["seen"].append(settings["colour"])
        time.sleep(0.01)
    print(f"worker {number} is done", flush=True)
    settings.close()


def main(directory: str) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    owner = context.Process(target=first, args=(directory, ready))
    owner.start()
    ready.wait()
    settings = SharedPersistentDict(directory)
    workers = [context.Process(target=worker, args=(directory, number)) for number in range(3)]
    for process in workers:
        process.start()
    while settings["done"] < JOBS:
        time.sleep(0.01)
    owner.kill()
    settings["colour"] = "green"
    print("the owner was killed, and the colour was changed", flush=True)
    for process in [owner, *workers]:
        process.join()
    print(f"{settings['done']} jobs were done, and the workers saw {sorted(settings['seen'])}")
    settings.close()


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
