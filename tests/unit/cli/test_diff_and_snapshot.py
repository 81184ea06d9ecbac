"""perdure diff and perdure snapshot"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import perdure
from tests.unit.cli._directories import make_wiki, open_wiki, tree
from tests.unit.cli.conftest import App, Run


def test_what_changed_between_two_moments(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    before = tree(tmp_path / "wiki")
    done = run("diff", tmp_path / "wiki", 1, 9, app.spec)
    assert done.code == 0
    assert "~ wiki.pages['Home'].text  'Welcome' → 'Hello'" in done.out
    assert "+ wiki.pages['Second']  Page(" in done.out
    assert "+ wiki.events[0]  'failed'" in done.out
    assert tree(tmp_path / "wiki") == before
    removed = run("diff", tmp_path / "wiki", 9, 1, app.spec)
    assert "- wiki.pages['Second']" in removed.out
    assert "nothing differs" in run("diff", tmp_path / "wiki", 4, 4, app.spec).out


def test_json_difference(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    found = run("diff", tmp_path / "wiki", 7, 8, app.spec, "--json").json
    assert found == [{"kind": "changed", "path": ".pages['Home'].text", "before": "'Welcome'", "after": "'Hello'"}]


def test_difference_beside_a_writer(app: App, tmp_path: Path, run: Run) -> None:
    wiki = open_wiki(app, tmp_path / "wiki")
    wiki.create("one", "x")
    wiki.create("two", "x")
    perdure.control(wiki).take_snapshot()
    assert "two" in run("diff", tmp_path / "wiki", 1, 2, app.spec).out
    perdure.control(wiki).close()


def test_moments_that_are_not_there(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    done = run("diff", tmp_path / "wiki", 1, 99, app.spec)
    assert done.code == 2
    assert "the last command has seq 9" in done.err


def test_builtin_systems_need_no_class(tmp_path: Path, run: Run) -> None:
    with perdure.open(list, tmp_path / "l", keep_history=True) as kept:  # type: ignore[var-annotated]
        kept.append(1)
        kept.append(2)
        kept.insert(0, 0)
    assert run("diff", tmp_path / "l", 2, 3).out == "+ list[0]  0\n"
    assert run("snapshot", tmp_path / "l").code == 0


def test_a_snapshot_is_taken_and_nothing_is_pruned(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    wiki = open_wiki(app, tmp_path / "wiki")
    wiki.create("more", "x")
    digest = perdure.control(wiki).digest()
    perdure.control(wiki).close()
    names = {path.name for path in (tmp_path / "wiki").iterdir()}
    done = run("snapshot", tmp_path / "wiki", app.spec, "--json")
    assert done.json["seq"] == 10
    assert done.json["digest"] == digest
    assert names < {path.name for path in (tmp_path / "wiki").iterdir()}


def test_a_snapshot_makes_no_new_system(app: App, tmp_path: Path, run: Run) -> None:
    (tmp_path / "empty").mkdir()
    assert run("snapshot", tmp_path / "empty", app.spec).code == 2
    assert not list((tmp_path / "empty").iterdir())
    assert run("snapshot", tmp_path / "nowhere", app.spec).code == 2


def test_a_snapshot_beside_a_writer_is_refused(app: App, tmp_path: Path, run: Run) -> None:
    wiki = open_wiki(app, tmp_path / "wiki")
    wiki.create("one", "x")
    done = run("snapshot", tmp_path / "wiki", app.spec)
    assert done.code == 2
    assert "open already" in done.err
    perdure.control(wiki).close()


def test_the_class_must_be_named(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    done = run("snapshot", tmp_path / "wiki")
    assert done.code == 2
    assert app.spec in done.err


def test_what_a_script_wrote_can_be_used_and_stays_the_scripts(app: App, tmp_path: Path) -> None:
    def perdure_(*arguments: object) -> str:
        command = [sys.executable, "-m", "perdure", *map(str, arguments)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def script() -> None:
        subprocess.run([sys.executable, app.path, tmp_path / "wiki"], check=True, stdout=subprocess.DEVNULL)

    script()
    perdure_("snapshot", tmp_path / "wiki", app.spec)
    script()
    perdure_("snapshot", tmp_path / "wiki", app.spec)
    assert "replayed to the state of the next snapshot" in perdure_("verify", tmp_path / "wiki", app.spec)
    assert "Home1" in perdure_("diff", tmp_path / "wiki", 1, 2, app.spec)
    (tmp_path / "f").write_text(perdure_("export", tmp_path / "wiki", app.spec))
    perdure_("import", tmp_path / "copy", tmp_path / "f", app.spec)
    script()
    assert "__main__.Wiki" in perdure_("info", tmp_path / "copy")
