"""The tests that the page on invariants names do fail when the rule is broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

import perdure
from tests.crash import _figures as figures
from tests.crash._mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
SOURCE = Path(perdure.__file__).parent
TESTS_FAILED = 1


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[int]]]:
    """What pytest says of each mutation's tests: two at a time, because most of it is waiting for processes."""
    with ThreadPoolExecutor(2) as pool:
        futures = {}
        for number, rule in enumerate(MUTATIONS):
            futures[rule] = pool.submit(run_mutated, MUTATIONS[rule], tmp_path_factory.mktemp(f"source{number}"))
        yield futures
        for future in futures.values():
            future.cancel()


def run_mutated(mutation: Mutation, folder: Path) -> int:
    """The exit status of pytest on a copy of the package with that change in it."""
    shutil.copytree(SOURCE, folder / "perdure")
    path = folder / "perdure" / mutation.file
    path.write_text(path.read_text("utf-8").replace(mutation.old, mutation.new), "utf-8")
    try:
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutation.tests],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, timeout=300,
        ).returncode  # fmt: skip
    finally:
        shutil.rmtree(folder)


@pytest.mark.crash
@pytest.mark.leaky("the next mutation is tried meanwhile")
@pytest.mark.parametrize("rule", MUTATIONS)
def test_breaking_a_rule_fails_its_test(rule: str, verdicts: dict[str, Future[int]]) -> None:
    # Not 2 or more: then the tests could not even be collected, which shows nothing.
    figures.found(rule, verdicts[rule].result() == TESTS_FAILED)


def test_every_mutation_still_has_its_place() -> None:
    for rule, mutation in MUTATIONS.items():
        assert (SOURCE / mutation.file).read_text("utf-8").count(mutation.old) == 1, rule
        for test in mutation.tests:
            assert (ROOT / test.partition("::")[0]).exists(), rule
