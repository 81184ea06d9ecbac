"""Power cuts at every moment, without cutting any power.

A program's file operations are recorded while it runs, taken apart into the pieces that a disk may lose, and put
together again in every way that a file system may leave after a power cut: your check is asked about each. After ALICE
(Pillai et al., OSDI 2014). ::

    from perdure.testing import crashsim

    def workload(directory, fs, log):
        with perdure.open(Wiki, f"{directory}/wiki", fs=fs) as wiki:
            for number in range(1, 6):
                log.tried(number)
                wiki.add_page(number)
                log.acknowledged(number)

    def check(directory, acknowledged, tried):
        with perdure.open(Wiki, f"{directory}/wiki") as wiki:
            if not acknowledged <= len(wiki.pages) <= tried:
                return f"{len(wiki.pages)} pages"

    report = crashsim.explore(workload, check)
    assert not report.failures, report

``explore_system`` says the same of a class and a list of commands in one call.
"""

from perdure.testing.crashsim._events import Event, Log
from perdure.testing.crashsim._explore import Check, Workload, explore, record
from perdure.testing.crashsim._models import MODELS
from perdure.testing.crashsim._record import RecordingFs
from perdure.testing.crashsim._report import Failure, ModelReport, Report
from perdure.testing.crashsim._strace import record_program, strace_is_there
from perdure.testing.crashsim._system import explore_system
from perdure.testing.crashsim._trees import read_tree, write_tree

__all__ = [
    "MODELS",
    "Check",
    "Event",
    "Failure",
    "Log",
    "ModelReport",
    "RecordingFs",
    "Report",
    "Workload",
    "explore",
    "explore_system",
    "read_tree",
    "record",
    "record_program",
    "strace_is_there",
    "write_tree",
]
