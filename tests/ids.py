"""Ids of parametrized tests that are the same in every run and process: without addresses."""

from __future__ import annotations

import re


def id_of(value: object) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
