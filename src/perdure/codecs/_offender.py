"""Finding the part of a value that cannot be stored, for the message. Runs only when an error is raised anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

TRIALS_MAX = 2_000
DEPTH_MAX = 32


def offender(value: object, is_refused: Callable[[object], bool]) -> tuple[str, object]:
    """Where in ``value`` the first part sits that ``is_refused`` on its own, as in ``value["pages"][3].author``."""
    where, trials = "value", 0
    for _ in range(DEPTH_MAX):
        for step, part in _parts(value):
            trials += 1
            if trials > TRIALS_MAX:
                return where, value
            if is_refused(part):
                where, value = where + step, part
                break
        else:
            break
    return where, value


def type_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, part in islice(value.items(), TRIALS_MAX):
            yield " (a key)", key
            yield f"[{_short(key)}]", part
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(islice(value, TRIALS_MAX)):
            yield f"[{index}]", part
    elif isinstance(value, (set, frozenset)):
        for part in islice(value, TRIALS_MAX):
            yield " (a member)", part
    elif not isinstance(value, type):
        fields = getattr(value, "__dict__", None)
        if isinstance(fields, dict):
            for name, part in islice(fields.items(), TRIALS_MAX):
                yield f".{name}", part


def _short(key: object) -> str:
    # Values stay out of messages; a key is needed to find the place, but not all of a long one.
    text = repr(key) if isinstance(key, (str, int)) else type(key).__name__
    return text if len(text) <= 40 else text[:37] + "..."
