"""perdure verify"""

from __future__ import annotations

from pathlib import Path

import perdure
from tests.unit.cli._directories import damage, make_wiki, open_wiki, tree
from tests.unit.cli.conftest import SOURCE, App, Run


def test_a_good_directory_is_good_and_stays_as_it_is(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    before = tree(tmp_path / "wiki")
    done = run("verify", tmp_path / "wiki")
    assert (done.code, done.out.splitlines()[-1]) == (0, "good")
    done = run("verify", tmp_path / "wiki", app.spec)
    assert done.code == 0
    assert "entries 1 to 5: replayed to the state of the next snapshot" in done.out
    assert "entries 6 to 9: replayed to the state of the next snapshot" in done.out
    assert tree(tmp_path / "wiki") == before


def test_damage_is_reported_with_its_place(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    damage(tmp_path / "wiki")
    before = tree(tmp_path / "wiki")
    done = run("verify", tmp_path / "wiki", "--json")
    assert done.code == 1
    problem = done.json["problems"][0]
    assert problem["seq"] == 8
    assert problem["path"].endswith("journal-00000001")
    assert problem["offset"] > 0
    assert "perdure repair" in run("verify", tmp_path / "wiki").out
    assert tree(tmp_path / "wiki") == before


def test_every_problem_is_reported(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    damage(tmp_path / "wiki")
    for path in (tmp_path / "wiki").glob("snapshot-*9"):
        path.write_bytes(path.read_bytes()[:-1])
    assert len(run("verify", tmp_path / "wiki", "--json").json["problems"]) == 2


def test_a_torn_tail_is_no_problem(app: App, tmp_path: Path, run: Run) -> None:
    wiki = open_wiki(app, tmp_path / "wiki")
    wiki.create("Home", "x")
    wiki.create("Home", "y")
    perdure.control(wiki).close()
    path = next((tmp_path / "wiki").glob("journal-*"))
    path.write_bytes(path.read_bytes()[:-60])
    done = run("verify", tmp_path / "wiki")
    assert done.code == 0
    assert "never became durable" in done.out


def test_changed_code_is_found(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    app.write(SOURCE.replace("self.pages[name].text = text", "self.pages[name].text = text.upper()"))
    done = run("verify", tmp_path / "wiki", app.spec)
    assert done.code == 1
    assert "entries 6 to 9: different" in done.out
    assert "entries 1 to 5: replayed" in done.out


def test_a_command_that_comes_out_differently_is_named(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    app.write(SOURCE.replace('raise ValueError("no")', "return"))
    done = run("verify", tmp_path / "wiki", app.spec, "--json")
    assert done.code == 1
    replay = done.json["replays"][0]
    assert (replay["verdict"], replay["seq"]) == ("failed", 3)


def test_a_method_that_was_removed_is_named(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    app.write(SOURCE.replace("def edit", "def change"))
    done = run("verify", tmp_path / "wiki", app.spec)
    assert done.code == 1
    assert "Wiki.edit, which no longer exists" in done.out
    assert run("verify", tmp_path / "wiki", app.spec, "--rename", "Wiki.edit=Wiki.change").code == 0


def test_an_order_that_depends_on_the_hash_seed_is_found(app: App, tmp_path: Path, run: Run) -> None:
    wiki = open_wiki(app, tmp_path / "wiki", validate="off")
    for _ in range(3):
        wiki.in_order_of_a_set()
    perdure.control(wiki).take_snapshot()
    perdure.control(wiki).close()
    done = run("verify", tmp_path / "wiki", app.spec)
    assert done.code == 1
    assert "entries 1 to 3: different" in done.out


def test_it_says_what_it_could_not_compare(app: App, tmp_path: Path, run: Run) -> None:
    wiki = open_wiki(app, tmp_path / "wiki")
    wiki.create("Home", "x")
    perdure.control(wiki).close()
    done = run("verify", tmp_path / "wiki", app.spec)
    assert done.code == 0
    assert "no newer snapshot to compare the state with" in done.out
    assert "nothing could be compared" in done.out


def test_what_others_may_write_in_is_not_loaded(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    (tmp_path / "wiki").chmod(0o777)
    for verb in (["verify"], ["export"], ["diff", 0, 1]):
        done = run(verb[0], tmp_path / "wiki", *verb[1:], app.spec)
        assert done.code != 0
        assert "others may write in the directory" in done.err
    for name in ("info", "log", "verify", "export"):
        assert run(name, tmp_path / "wiki").code == 0, name


def test_a_class_that_moved(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    other = App(tmp_path)
    done = run("verify", tmp_path / "wiki", other.spec)
    assert done.code == 1
    assert "If the class has moved: renames=" in done.out
    renames = [f"--rename={app.name}.{name}={other.name}.{name}" for name in ("Wiki", "Page")]
    assert run("verify", tmp_path / "wiki", other.spec, *renames).code == 0


def test_what_cannot_be_imported_is_said(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    for spec in ("nothing_of_that_name:Wiki", f"{app.name}:Nothing", "no colon"):
        done = run("verify", tmp_path / "wiki", spec)
        assert done.code == 2


def test_beside_a_writer(app: App, tmp_path: Path, run: Run) -> None:
    make_wiki(app, tmp_path / "wiki")
    wiki = open_wiki(app, tmp_path / "wiki")
    wiki.create("more", "x")
    assert run("verify", tmp_path / "wiki").code == 0
    assert run("verify", tmp_path / "wiki", app.spec).code == 0
    perdure.control(wiki).close()
