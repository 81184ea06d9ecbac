"""The examples of the two documents that the library grew from, with only the import changed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure import init_persistent_system, init_system
from perdure.testing import assert_replayable


class Todo:
    def __init__(self) -> None:
        self.tasks: list[dict[str, str]] = []

    def add_task(self, name: str, description: str) -> None:
        task = dict(name=name, description=description)  # noqa: C408 - as the document has it
        self.tasks.append(task)


class WikiPage:
    def __init__(self, id: str, content: str) -> None:
        self.id = id
        self.content = content
        self.history: list[str] = []
        self.last_modify = perdure.clock.now()


class Wiki:
    def __init__(self) -> None:
        self.pages: dict[str, WikiPage] = {}

    def create_page(self, page_id: str, content: str) -> WikiPage:
        page = None
        if page_id in self.pages:
            page = self.pages[page_id]
        if not page:
            page = WikiPage(page_id, content)
            self.pages[page_id] = page
        return page


COOPY_SCRIPT = """
from perdure import init_persistent_system
class Todo(object):
    def __init__(self):
        self.tasks = []

    def add_task(self, name, description):
        task = dict(name=name, description=description)
        self.tasks.append(task)

persistent_todo_list = init_persistent_system(Todo())
persistent_todo_list.add_task("Some Task Name", "A Task Description")
print(len(persistent_todo_list.tasks))
"""

COPYCAT_SCRIPT = """
import datetime
import perdure as pr
from perdure import init_system

class WikiPage():
    def __init__(self, id, content):
        self.id = id
        self.content = content
        self.history = []
        self.last_modify = pr.clock.now()


class Wiki():
    def __init__(self):
        self.pages = {}

    def create_page(self, page_id, content):
        page = None
        if page_id in self.pages:
            page = self.pages[page_id]
        if not page:
            page = WikiPage(page_id, content)
            self.pages[page_id] = page
        else:
            update_page(page_id, content)

        return page

wiki = pr.init_system(Wiki(), "files")

wiki.create_page('Home','Welcome')
wiki.create_page('Pywiki','Sample text page')
wiki.create_page('Copycat','Visit: http://bitbucket.org/loogica/copycat')

wiki = init_system(Wiki(), "files")
for k in wiki.pages:
    print(k)
wiki = init_system(Wiki, "files")
print(len(wiki.pages))
"""


def run(script: str, folder: Path, *, warned: bool = False) -> str:
    """What the program prints. Warnings are errors, or, ``warned``, are part of it."""
    program = folder / "program.py"
    program.write_text(textwrap.dedent(script))
    source = str(Path(perdure.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "PYTHONWARNINGS": "always" if warned else "error"}
    done = subprocess.run(
        [sys.executable, str(program)], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert warned or done.stderr == ""
    return done.stdout + done.stderr


def test_coopys_first_example_keeps_its_tasks_from_run_to_run(tmp_path: Path) -> None:
    assert [run(COOPY_SCRIPT, tmp_path) for _ in range(3)] == ["1\n", "2\n", "3\n"]
    assert (tmp_path / "todo").is_dir()


def test_copycats_tutorial_prints_its_pages(tmp_path: Path) -> None:
    script = COPYCAT_SCRIPT.replace(
        "wiki.create_page('Home'", "if not wiki.pages:\n  wiki.create_page('Home'", 1
    ).replace("\nwiki.create_page(", "\n  wiki.create_page(")
    for _ in range(2):
        assert run(script, tmp_path) == "Home\nPywiki\nCopycat\n3\n"


def test_copycats_bug_stays_the_programs_own(tmp_path: Path) -> None:
    """Its ``update_page`` is not defined: run a second time it raises, and the system goes on."""
    run(COPYCAT_SCRIPT, tmp_path)
    program = tmp_path / "again.py"
    program.write_text(
        COPYCAT_SCRIPT.replace(
            "wiki.create_page('Home','Welcome')",
            "try:\n  wiki.create_page('Home','Welcome')\nexcept NameError as e:\n  print(e)",
        ).replace("\nwiki.create_page(", "\n0 and wiki.create_page(")
    )
    for _ in range(2):
        assert "name 'update_page' is not defined" in run(program.read_text(), tmp_path)


def test_the_tutorial_runs_with_its_date_problem_and_is_told_the_remedy(tmp_path: Path) -> None:
    script = COPYCAT_SCRIPT.replace("pr.clock.now()", "datetime.datetime.now()")
    told = run(script, tmp_path, warned=True)
    assert "Home\nPywiki\nCopycat\n3\n" in told
    assert "program.py:11" in told
    assert "use perdure.clock.now()" in told


def test_the_date_in_the_method_itself_is_refused_with_its_remedy(tmp_path: Path) -> None:
    script = COPYCAT_SCRIPT.replace("page = None", "page = None; self.changed = datetime.datetime.now()")
    script = script.replace(
        'wiki = pr.init_system(Wiki(), "files")',
        'try:\n  pr.init_system(Wiki(), "files")\nexcept pr.PrevalentError as error:\n  raise SystemExit(print(error))',
    )
    told = run(script, tmp_path)
    assert "program.py:19" in told
    assert "use perdure.clock.now()" in told
    assert not (tmp_path / "files").exists()


def test_the_default_folder_is_the_class_in_lower_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    todo = init_persistent_system(Todo())
    todo.add_task("a", "b")
    assert todo.basedir_abspath() == str(tmp_path / "todo")  # type: ignore[attr-defined]
    todo.close()  # type: ignore[attr-defined]


def test_called_again_it_gives_the_same_system(tmp_path: Path) -> None:
    first = init_system(Wiki, tmp_path / "w")
    assert init_system(Wiki(), tmp_path / "w") is first
    with pytest.raises(perdure.UsageError, match="Wiki"):
        init_system(Todo, tmp_path / "w")
    first.close()  # type: ignore[attr-defined]
    second = init_system(Wiki, tmp_path / "w")
    assert second is not first
    second.close()  # type: ignore[attr-defined]


def test_a_factory_is_taken_too(tmp_path: Path) -> None:
    made = init_persistent_system(lambda: Wiki(), tmp_path / "w")
    made.create_page("Home", "Welcome")
    made.close()  # type: ignore[attr-defined]
    again: Any = init_persistent_system(lambda: Wiki(), tmp_path / "w")
    assert list(again.pages) == ["Home"]
    assert_replayable(again)
    again.close()


def test_snapshot_time_takes_snapshots_by_itself(tmp_path: Path) -> None:
    wiki: Any = init_system(Wiki, tmp_path / "w", snapshot_time=0.1)
    wiki.create_page("Home", "Welcome")
    taken = threading.Event()
    for _ in range(100):
        if (tmp_path / "w" / "snapshot-00000000000000000001").exists():
            break
        taken.wait(0.05)
    else:
        pytest.fail("no snapshot was taken")
    wiki.close()


def test_what_coopys_proxies_have_is_there(tmp_path: Path) -> None:
    wiki: Any = init_system(Wiki, tmp_path / "w")
    wiki.create_page("Home", "Welcome")
    assert wiki.take_snapshot() == 1
    wiki.start_snapshot_manager(100)
    with pytest.raises(perdure.UsageError):
        wiki.start_snapshot_manager(0)
    with pytest.raises(perdure.UsageError, match="commands of its own"):
        wiki.start_slave("127.0.0.1", 5466, "x")
    wiki.close()
