"""Whatever a perdure has once written is read for ever: the golden directories of every version of the formats."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop import golden_classes
from tools.make_golden import read

GOLDEN = Path(__file__).with_name("golden")
CASES = sorted(path for path in GOLDEN.glob("v*/*.json"))
REFUSED = [path for path in CASES if "error" in json.loads(path.read_text("utf-8"))]


@pytest.fixture(params=["UTC", "America/New_York"])
def _zone(request: pytest.FixtureRequest) -> Iterator[None]:
    """Another time zone than that of the writer, where it was half past five."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


def name_of(case: Path) -> str:
    return f"{case.parent.name}-{case.stem}"


def private_copy(directory: Path, target: Path) -> Path:
    """A clone of the repository has the modes of the user's umask; perdure refuses what others may write in."""
    shutil.copytree(directory, target)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    return target


@pytest.mark.parametrize("case", CASES, ids=name_of)
@pytest.mark.usefixtures("_zone")
def test_golden_directory_is_read_as_it_was_written(case: Path, tmp_path: Path) -> None:
    expected = json.loads(case.read_text("utf-8"))
    cls = getattr(golden_classes, expected.pop("class"))
    directory = private_copy(case.with_suffix(""), tmp_path / "copy")
    assert read(directory, cls, expected.pop("options")) == expected


@pytest.mark.parametrize("case", REFUSED, ids=name_of)
def test_what_is_refused_is_left_as_it_was(case: Path, tmp_path: Path) -> None:
    expected = json.loads(case.read_text("utf-8"))
    directory = private_copy(case.with_suffix(""), tmp_path / "copy")
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    read(directory, getattr(golden_classes, expected["class"]), expected["options"])
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_every_kind_of_directory_is_there() -> None:
    names = {path.stem for path in CASES}
    assert {"several-segments", "secret", "torn-tail", "damaged-record", "damaged-snapshot", "json"} <= names
    errors = {json.loads(path.read_text("utf-8")).get("error") for path in CASES}
    assert {None, "CorruptError", "MissingError", "FormatVersionError"} <= errors
