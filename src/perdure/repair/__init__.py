"""Looking at a directory, finding what is wrong, and setting it right.

``survey`` looks, ``diagnose`` judges, ``repair`` acts; ``Comparer`` replays the journal with today's code. Nothing here
knows a user's class, and only ``repair`` writes.
"""

from perdure.repair._comparison import Comparer, Comparison
from perdure.repair._diagnosis import Diagnosis, Problem, Remedy, diagnose
from perdure.repair._repair import REPORT_NAME, RepairReport, plan, repair
from perdure.repair._salvage import write_segment
from perdure.repair._survey import SegmentFile, SnapshotFile, Survey, survey

__all__ = [
    "REPORT_NAME",
    "Comparer",
    "Comparison",
    "Diagnosis",
    "Problem",
    "Remedy",
    "RepairReport",
    "SegmentFile",
    "SnapshotFile",
    "Survey",
    "diagnose",
    "plan",
    "repair",
    "survey",
    "write_segment",
]
