"""Requests made from the server's own description: schemathesis looks for what it says and does not do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server._process import BOTH, ROOT, Served

APP = "tests.server.fuzzed:Shop"
_CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,missing_required_header,unsupported_method,ignored_auth"
)


def run(server: Served, *options: str) -> None:
    program = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            str(program), "run", f"{server.url}/openapi.json", "--checks", _CHECKS, "--workers", "1", "--no-color",
            "--generation-database", "none", "--header", f"Authorization: Bearer {BOTH}", *options,
        ],
        cwd=server.folder, capture_output=True, text=True, timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Tested: 5" in done.stdout
    assert server.is_running()
    assert server.request("GET", "/health").json == {"status": "ok"}
    assert "Traceback" not in server.log()


@pytest.mark.timeout(300)
def test_the_server_does_what_its_document_says(tmp_path: Path) -> None:
    """Each bound and each kind of value that the document names, once."""
    with Served(tmp_path, "--durability", "everysec", app=APP) as server:
        run(server, "--phases", "coverage")


@pytest.mark.crash
@pytest.mark.timeout(700)
def test_requests_by_chance_are_answered_as_the_document_says(tmp_path: Path) -> None:
    """Other ones in each run, but in CI."""
    seed = ["--seed", "1"] if os.environ.get("CI") else []
    with Served(tmp_path, "--durability", "everysec", app=APP) as server:
        run(server, "--phases", "coverage,fuzzing", "--max-examples", "60", *seed)
