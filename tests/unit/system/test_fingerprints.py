import importlib.util
import itertools
import subprocess
import sys
import textwrap

import pytest

from perdure.system._fingerprints import changed_methods, fingerprints

_numbers = itertools.count()


@pytest.fixture
def digest(tmp_path, monkeypatch):
    """The fingerprints of the class Wiki in a module with this text."""

    def digest(text):
        name = f"printed_by_test_{next(_numbers)}"
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return fingerprints(module.Wiki)

    return digest


PLAIN = """
def slug(text):
    return text.lower()

class Page:
    def __init__(self, text):
        self.text = text

class Wiki:
    def add(self, key, text=""):
        self._check(key)
        self.pages[slug(key)] = Page(text)

    def remove(self, key):
        del self.pages[key]

    def _check(self, key):
        if not key:
            raise ValueError("empty")
"""

LAID_OUT_OTHERWISE = '''
"""A module."""
from __future__ import annotations

def slug(text: str) -> str:
    """Lower it."""
    return text.lower()  # so there

class Page:
    """A page."""
    def __init__(self, text: str) -> None:
        self.text: str
        self.text = (text)

class Wiki:
    """A wiki."""

    def remove(self, key: str) -> None:
        """Remove it."""
        del self.pages[
            key
        ]

    def add(self, key: str, text: str = \'\') -> None:
        self._check(key)
        self.pages[ slug( key ) ] = Page( text )

    def _check(self, key):
        if not key: raise ValueError('em' 'pty')
'''


def test_one_digest_of_sixteen_hex_digits_per_command(digest):
    prints = digest(PLAIN)
    assert list(prints) == ["_check", "add", "remove"]
    assert all(len(value) == 16 and int(value, 16) >= 0 for value in prints.values())
    assert len(set(prints.values())) == 3


def test_comments_layout_docstrings_hints_and_lines_do_not_count(digest):
    text = LAID_OUT_OTHERWISE.replace("        self.text: str\n", "")
    assert digest(text) == digest(PLAIN)


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("text.lower()", "text.upper()", ["add"]),
        ("self.text = text", "self.text = text.strip()", ["add"]),
        ('"empty"', '"none"', ["_check", "add"]),
        ("del self.pages[key]", "self.pages.pop(key)", ["remove"]),
        ('text=""', "text=None", ["add"]),
        ("def remove(self, key)", "def remove(self, name, key=1)", ["remove"]),
        ("def remove", "def delete", ["remove"]),
        ("def remove", "def more(self): pass\n    def remove", []),
        ("not key", "not (key)", []),
        ("del self.pages[key]", "del self.pages[key,]", ["remove"]),
        ("del self.pages[key]", "pass; del self.pages[key]", []),
        ("del self.pages[key]", "del self.pages[1]", ["remove"]),
    ],
)
def test_a_change_shows_in_every_command_that_it_reaches(digest, old, new, changed):
    assert changed_methods(digest(PLAIN), digest(PLAIN.replace(old, new))) == changed


@pytest.mark.parametrize(
    ("one", "other"), [("1", "True"), ("1", "1.0"), ("'a'", "b'a'"), ("None", "()"), ("0.0", "-0.0")]
)
def test_constants_that_are_equal_but_not_the_same_differ(digest, one, other):
    text = "class Wiki:\n    def put(self):\n        self.x = {}\n"
    assert digest(text.format(one)) != digest(text.format(other))


def test_changed_methods_names_changed_and_removed_not_added():
    assert changed_methods({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "9", "d": "4"}) == ["b", "c"]
    assert changed_methods({}, {"a": "1"}) == []


CORPUS = r'''
import dataclasses

class Wiki:
    def strings(self, x, w):
        self.a = f"{x}" f"b{x!r:>{w}}c" "d" f"{'n' + 'm'}" f"" u"e"
        self.b = f'{x:}', f"{{}}{x=}", f"{x:%Y-%m}", rb"\x", "\N{BULLET}é\U0001f600\ud800"
        self.c = "joined" " and " f"{self.a[0]}"
        self.d = f"{x:{w}.{w}}", f"""
        {
            x
        }"""

    def numbers(self):
        return 1, 1.5, 1e400, 2j, -0.0, True, None, ..., 10**30, 123456789012345678901234567890

    def flow(self, a, /, b=1, *args, c, d=None, **kw):
        with open(a) as f, (b): pass
        try:
            assert a, "x"
        except* (ValueError, KeyError) as e:
            raise
        else:
            pass
        finally:
            del a
        while True:
            if b: break
            else: continue
        else:
            pass
        match b:
            case [1, *rest] | (2 as rest): pass
            case {"k": v, **kw}: return v
            case Wiki(x=1) if c: ...
            case None: pass
        for i, (j, *k) in b: yield_ = lambda *a, z=1: (z, *a)

    def more(self, *xs):
        @property
        async def inner():
            async for x in xs: await x
            [a async for a in xs]
            async with xs: pass
        class Local(dict, metaclass=type):
            """Doc."""
            y: int = 1
        global G
        x: "int" = xs[::2, 1]
        return {**x, 1: 2}, {*xs}, {k: v for k, v in x if k if v}, (n := 1), not x, a if b else c, x @ x, x < 1 <= 2

    def generic(self, xs: list[int]) -> "int":
        from . import a as b, c
        import d.e as f
        nonlocal_ = 1_000
        return xs[1:2, ..., *xs]
'''

# Written down on Python 3.11. A change here makes every stored journal look as if its code had changed.
GOLDEN = {
    "flow": "2ee7461466e87a3c",
    "generic": "a30828367655c6d3",
    "more": "630fac57b01f5b9a",
    "numbers": "dbea49676539d19b",
    "strings": "cf125968bea67e4e",
}


def test_digests_are_the_same_on_every_python(digest):
    assert digest(CORPUS) == GOLDEN


def test_digests_do_not_depend_on_the_hash_seed(tmp_path):
    (tmp_path / "wiki.py").write_text(PLAIN)
    script = (
        "import wiki; from perdure.system._fingerprints import fingerprints; space = {}; "
        'exec(\'class Lost:\\n def put(self, x):\\n  return x in {"a", "b", "c", (1, "d")}\', space); '
        "print(fingerprints(wiki.Wiki), fingerprints(space['Lost']))"
    )
    path = [str(tmp_path), *sys.path]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}; {script}"],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "123"
    }
    assert len(outputs) == 1
    assert "put" in outputs.pop()


def test_without_source_the_compiled_code_is_taken():
    def lost(body):
        space = {}
        exec(f"class Wiki:\n    def put(self, x):\n        {body}\n", space)
        return fingerprints(space["Wiki"])

    assert lost("self.x = x") == lost("self.x = x")
    assert lost("self.x = 1") != lost("self.x = 2")
    assert lost("self.x = lambda: 1") != lost("self.x = lambda: 2")


def test_builtin_types_have_none():
    assert fingerprints(dict) == {}


MADE_BY_PYTHON = """
import collections
import dataclasses
import enum
import typing

@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Point:
    x: int
    y: str = "x"
    z: list = dataclasses.field(default_factory=list)

class Colour(enum.Enum):
    RED = 1

class Named(typing.NamedTuple):
    a: int
    b: int = 2

Other = collections.namedtuple("Other", "a b")

class Wiki:
    def add(self, x):
        self.added = [Point(x), Colour.RED, Named(1), Other(1, 2), f"{x!r:>{x}} {{}} {x=}"]
"""


def test_what_python_itself_makes_of_a_class_is_the_same_on_every_python(digest):
    # The number was the same on 3.11, 3.12 and 3.13; the code that dataclass and namedtuple make is not.
    assert digest(MADE_BY_PYTHON) == {"add": "3307a6b49a0f3f5c"}


def test_a_changed_field_of_a_data_class_shows(digest):
    assert digest(MADE_BY_PYTHON) != digest(MADE_BY_PYTHON.replace('y: str = "x"', 'y: str = "y"'))
    assert digest(MADE_BY_PYTHON) != digest(MADE_BY_PYTHON.replace("order=True", "order=False"))
    assert digest(MADE_BY_PYTHON) == digest(MADE_BY_PYTHON.replace("y: str", "y: object"))
