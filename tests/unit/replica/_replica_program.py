"""Follows a ``models.Counted`` until it is killed: ``_replica_program.py URL DIRECTORY``."""

from __future__ import annotations

import sys
import threading

import perdure
from tests.unit.replica.models import Counted

if __name__ == "__main__":
    replica = perdure.follow(Counted, sys.argv[1], sys.argv[2])
    print("ready", flush=True)
    threading.Event().wait()
