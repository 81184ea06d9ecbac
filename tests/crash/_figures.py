"""What the crash tests tried, counted where it is tried, for the table at the end of a run."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from perdure.testing.crashsim import Report

CRASH_STATES = "states after a power cut"
NESTED_STATES = "states after a second cut, during recovery"
KILLS = "processes killed or told to end"
DAMAGED_FILES = "damaged files"
DISK_FAILURES = "failing calls of the disk"
INTERRUPTS = "interrupts"
ALLOCATIONS = "failing allocations"
FUZZ_EXECUTIONS = "fuzz executions"
ROWS = (
    CRASH_STATES,
    NESTED_STATES,
    KILLS,
    DAMAGED_FILES,
    DISK_FAILURES,
    INTERRUPTS,
    ALLOCATIONS,
    FUZZ_EXECUTIONS,
)
_MISTAKE = "mistake: "

counts: Counter[tuple[str, str]] = Counter()
"""(row or mistake, "tried" or "failed") → how often, in this process, since it started."""


def tried(row: str, count: int = 1, problems: Collection[str] = ()) -> None:
    """Counts ``count`` tries, and raises ``AssertionError`` if there are problems: after counting those, too."""
    if row not in ROWS:
        raise ValueError(f"no row of the table: {row!r}")
    counts[row, "tried"] += count
    counts[row, "failed"] += len(problems)
    assert not problems, "\n".join([f"{len(problems)} of {count}:", *list(problems)[:10]])


@contextlib.contextmanager
def trying(row: str) -> Iterator[None]:
    """Counts one try, and a failure if the body raises."""
    tried(row)
    try:
        yield
    except BaseException:
        counts[row, "failed"] += 1
        raise


def explored(report: Report, note: str = "") -> None:
    """Counts the states of an exploration, and raises ``AssertionError`` if one of them breaks the promise."""
    nested = sum(model.nested for model in report.models.values())
    counts[NESTED_STATES, "tried"] += nested
    counts[CRASH_STATES, "tried"] += report.states - nested
    counts[CRASH_STATES, "failed"] += len(report.failures)
    assert not report.failures, f"{note}\n{report}" if note else str(report)


def found(mistake: str, evidence: object) -> None:
    """Notes that a mistake was put in, and raises ``AssertionError`` if nothing shows it."""
    counts[_MISTAKE + mistake, "tried"] += 1
    counts[_MISTAKE + mistake, "failed"] += not evidence
    assert evidence, f"nobody noticed: {mistake}"


def table(properties: Iterable[tuple[str, object]]) -> list[str]:
    """The lines of the table. ``properties``: of all tests, as ``as_properties`` made them."""
    total: Counter[tuple[str, str]] = Counter()
    for name, value in properties:
        row, _, side = name.removeprefix("figure: ").rpartition(", ")
        if name.startswith("figure: ") and isinstance(value, int):
            total[row, side] += value
    lines = [f"{row:<45}{total[row, 'tried']:>12,}{total[row, 'failed']:>10,}" for row in ROWS if total[row, "tried"]]
    mistakes = {row for row, _ in total if row.startswith(_MISTAKE)}
    if mistakes:
        missed = sum(1 for row in mistakes if total[row, "failed"])
        lines.append(f"{'mistakes put in, and not found':<45}{len(mistakes):>12,}{missed:>10,}")
    return [f"{'':<45}{'tried':>12}{'failures':>10}", *lines] if lines else []


def as_properties(before: Counter[tuple[str, str]]) -> list[tuple[str, int]]:
    """What was counted since ``before``, to travel with a test's report, also out of a worker process."""
    return [(f"figure: {row}, {side}", n) for (row, side), n in (counts - before).items()]
