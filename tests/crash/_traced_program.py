"""Runs one script of a ledger, as a program of its own: ``_traced_program.py DIRECTORY SCRIPT EVENTS``.

Its own recording goes to the file EVENTS, outside the directory, to be compared with what its system calls say.
"""

from __future__ import annotations

import pickle
import sys

from perdure.testing.crashsim import Event, Log, RecordingFs
from tests.crash._workloads import workload


def main(directory: str, script: str, events_path: str) -> None:
    events: list[Event] = []
    workload(script)(directory, RecordingFs(directory, events=events), Log([]))
    with open(events_path, "wb") as file:
        pickle.dump([tuple(event) for event in events], file)


if __name__ == "__main__":
    main(*sys.argv[1:])
