"""Bytes that nobody wrote, into everything that reads bytes: perdure's own errors, in little time and little memory."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import perdure
from tests.crash import _figures as figures
from tests.crash._decoders import BOMBS, DECODERS

ROOT = Path(__file__).parents[2]
SECONDS_MAX = 20.0
"""For one input of some kilobytes, on a machine that is busy with other things."""
SECONDS_ALONE_MIN = 5.0
MEMORY_BYTES_MAX = 48 << 20


@pytest.mark.parametrize("name", DECODERS)
def test_what_is_right_is_read(name: str) -> None:
    decoder = DECODERS[name]
    seeds = decoder.seeds()
    assert seeds
    accepted = 0
    for seed in seeds:
        try:
            decoder.read(seed)
            accepted += 1
        except perdure.PerdureError:
            # A seed may need what this opening does not have, such as the secret.
            continue
    assert accepted


@pytest.mark.parametrize("name", DECODERS)
def test_hostile_bytes_raise_nothing_but_perdures_own_errors(name: str) -> None:
    decoder = DECODERS[name]
    for data in decoder.hostile():
        started = time.monotonic()
        try:
            decoder.try_both(data)
        except Exception as error:
            error.add_note(f"{name}: {len(data)} bytes, {data[:200]!r}")
            raise
        assert time.monotonic() - started < SECONDS_MAX, data[:200]
        figures.tried(figures.FUZZ_EXECUTIONS)


@pytest.mark.parametrize("name", DECODERS)
def test_no_few_bytes_ask_for_much_memory(name: str) -> None:
    decoder = DECODERS[name]
    seed = decoder.seeds()[-1]
    tracemalloc.start()
    try:
        for bomb in BOMBS:
            for data in (bomb, seed[: len(seed) // 2] + bomb, seed + bomb):
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                decoder.try_both(data)
                peak = tracemalloc.get_traced_memory()[1] - before
                assert peak < MEMORY_BYTES_MAX, f"{peak >> 20} MiB for {len(data)} bytes: {data[:100]!r}"
    finally:
        tracemalloc.stop()


edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 20), st.one_of(st.binary(max_size=8), st.sampled_from(BOMBS))), max_size=4
)


@pytest.mark.parametrize("name", DECODERS)
@given(data=st.data())
def test_edited_bytes_raise_nothing_but_perdures_own_errors(name: str, data: st.DataObject) -> None:
    decoder = DECODERS[name]
    given_bytes = data.draw(st.sampled_from(decoder.seeds()), "seed")
    for where, removed, added in data.draw(edits, "edits"):
        place = int(where * len(given_bytes))
        given_bytes = given_bytes[:place] + added + given_bytes[place + removed :]
    decoder.try_both(given_bytes)
    figures.tried(figures.FUZZ_EXECUTIONS)


@pytest.mark.crash
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris")
@pytest.mark.parametrize("name", ["all", *DECODERS])
def test_a_fuzzer_finds_nothing(name: str, tmp_path: Path, crash_seconds: float) -> None:
    if name != "all" and crash_seconds < SECONDS_ALONE_MIN:
        pytest.skip("too little time for each alone: all of them are fuzzed as one")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    seconds = max(2, round(crash_seconds))
    source = str(Path(perdure.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash._fuzz", name, str(corpus), f"-max_total_time={seconds}", "-timeout=60",
         "-rss_limit_mb=1024", "-print_final_stats=1", f"-artifact_prefix={tmp_path}/", "-max_len=4096"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": os.pathsep.join([source, str(ROOT)])}, capture_output=True,
        text=True, timeout=seconds + 200,
    )  # fmt: skip
    executed = re.search(r"stat::number_of_executed_units: +(\d+)", done.stderr)
    found = [path.read_bytes() for path in tmp_path.iterdir() if path.is_file()]
    problems = [f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{found}"] if done.returncode else []
    figures.tried(figures.FUZZ_EXECUTIONS, int(executed[1]) if executed else 0, problems)
    assert executed is not None
