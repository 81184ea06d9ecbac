# ruff: noqa: E501, PT011 (a body on one line is read at a glance; which message an error has is not the point here)
import collections
import importlib.util
import itertools
import sys
import textwrap

import pytest

from perdure.system._guards import guard_lines, left_unchanged

_numbers = itertools.count()

# Every class is written to a file of its own: pytest rewrites `assert` in this one, and then text and code differ.
HEAD = """
import collections, dataclasses, enum, functools

class NotFound(Exception):
    def __init__(self, name, why=""):
        self.name = name

class Color(enum.Enum):
    RED = 1

ALLOWED = {"a", "b"}
DEFAULTS = collections.defaultdict(list)

class Counting:
    def __init__(self):
        self.asked = 0
    def get(self, key):
        self.asked += 1

class Bank:
    def __init__(self):
        self.accounts = {"a": 5}
        self.lazy = collections.defaultdict(int)
        self.names = ["x"]
        self.each = iter([1, 2, 3])
        self.counting = Counting()
        self.color = Color.RED
        self.n = 0

    @property
    def open(self):
        return True

    @functools.cached_property
    def total(self):
        return sum(self.accounts.values())

    def changing(self):
        self.n += 1

"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    def load(text):
        name = f"guarded_by_test_{next(_numbers)}"
        path = tmp_path / f"{name}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def verdict(load):
    """Run a body as a method of Bank and tell what is said of the exception that leaves it."""

    def verdict(body, key="zz", item=None):
        body = textwrap.indent(textwrap.dedent(body).strip(), " " * 8)
        module = load(f"{HEAD}    def command(self, key, item=None):\n{body}\n")
        with pytest.raises(Exception) as caught:
            module.Bank().command(key, item)
        return left_unchanged(module.Bank.command, caught.value)

    return verdict


PROVEN = {
    "if and raise": "if key not in self.accounts:\n    raise KeyError(key)\nself.n = 1",
    "docstring first": "'''Text.'''\nif key not in self.accounts:\n    raise KeyError(key)\nself.n = 1",
    "assert": "assert key in self.accounts, f'{key} is unknown'\nself.n = 1",
    "second check": "if not key:\n    raise ValueError\nif len(key) > 1:\n    raise NotFound(key, why='long')\nself.n = 1",
    "else branch": "if not key:\n    pass\nelif key == 'a':\n    return 1\nelse:\n    raise ValueError(key)",
    "branch before a change": "if key:\n    raise ValueError\nelse:\n    self.n = 1",
    "local name": "wanted = key.strip().lower()\nif wanted not in self.accounts:\n    raise KeyError(wanted)\nself.n = 1",
    "subscript of a dict": "balance = self.accounts[key]\nself.n = balance",
    "subscript in the test": "if self.accounts['a'] < 10:\n    raise ValueError('poor')\nself.accounts['a'] -= 10",
    "several lines": "if (\n    key\n    not in self.accounts\n):\n    raise NotFound(\n        key,\n    )\nself.n = 1",
    "get and walrus": "if (held := self.accounts.get(key)) is None:\n    raise KeyError(key)\nself.n = held",
    "builtin that raises": "n = int(key)\nself.n = n",
    "isinstance": "if not isinstance(key, int):\n    raise TypeError(f'{key!r} is {type(key).__name__}')\nself.n = key",
    "module constant": "if key not in ALLOWED:\n    raise ValueError(key)\nself.n = 1",
    "property": "if self.open:\n    raise ValueError\nself.n = 1",
    "enum": "if self.color is Color.RED:\n    raise ValueError\nself.n = 1",
    "any over names": "if any(name == 'x' for name in self.names):\n    raise ValueError\nself.n = 1",
    "format": "if key:\n    raise ValueError('{} is {:.2f}'.format(key, 1.0))\nself.n = 1",
    "percent": "if key:\n    raise ValueError('%s' % key)\nself.n = 1",
    "from": "if key:\n    raise ValueError from None\nself.n = 1",
    "len of a number": "n = len(5)\nself.n = n",
}


@pytest.mark.parametrize("body", PROVEN.values(), ids=PROVEN)
def test_exception_from_the_guard_left_everything_unchanged(verdict, body):
    assert verdict(body) is True


UNPROVEN = {
    "after a change": "self.n = 1\nif key:\n    raise ValueError",
    "change itself": "self.accounts[key] += 1",
    "same line": "if not key: raise KeyError\nint(key); self.n = 1",
    "same line after": "self.n = 1; int(key)",
    "call of a method": "self.changing()\nraise ValueError",
    "call in the test": "if self.changing() is None:\n    raise ValueError",
    "change in a branch": "if key:\n    self.n = 1\nif key:\n    raise ValueError",
    "change in the same branch": "if key:\n    self.n = 1\n    raise ValueError",
    "defaultdict": "if not self.lazy[key]:\n    raise ValueError",
    "defaultdict of the module": "if not DEFAULTS[key]:\n    raise ValueError",
    "defaultdict by a local name": "held = self.lazy\nif not held[key]:\n    raise ValueError",
    "defaultdict by percent": "if '%(x)s' % self.lazy:\n    raise ValueError",
    "defaultdict by format": "if '{0[x]}'.format(self.lazy):\n    raise ValueError",
    "defaultdict in a list": "if not [self.lazy][0][key]:\n    raise ValueError",
    "iterator used up": "if 2 in self.each:\n    raise ValueError",
    "iterator used up by list": "if list(self.each):\n    raise ValueError",
    "iterator used up by star": "if [*self.each]:\n    raise ValueError",
    "iterator used up by a comprehension": "if [x for x in self.each]:\n    raise ValueError",
    "next": "if next(self.each):\n    raise ValueError",
    "own get": "if self.counting.get(key) is None:\n    raise ValueError",
    "cached property": "if self.total:\n    raise ValueError",
    "cached property by getattr": "if getattr(self, 'total'):\n    raise ValueError",
    "getattr of any name": "if getattr(self, 'tot' + 'al'):\n    raise ValueError",
    "name bound twice": "held = self.lazy\nif held[key] == 0:\n    held = {}\n    raise ValueError",
    "key function": "if sorted(self.names, key=lambda x: self.changing()):\n    raise ValueError",
    "any over a call": "if not any(self.changing() for name in self.names):\n    raise ValueError",
    "augmented local": "held = self.names\nheld += ['y']\nraise ValueError",
    "loop": "for x in self.names:\n    self.n += 1\n    raise ValueError",
    "try": "try:\n    raise ValueError\nfinally:\n    self.n = 1",
    "with": "with key:\n    raise ValueError",
    "shadowed builtin": "len = self.changing\nif len() is None:\n    raise ValueError",
    "raised value": "raise key",
    "delete": "del self.accounts[key]",
    "global": "global ALLOWED\nALLOWED = 1\nraise ValueError",
    "import": "import nothing_of_this_name",
}


@pytest.mark.parametrize("body", UNPROVEN.values(), ids=UNPROVEN)
def test_exception_after_a_possible_change_is_not_proven(verdict, body):
    assert verdict(body) is False


def test_slots_are_looked_at(load):
    module = load(
        "class Bank:\n"
        "    __slots__ = ('accounts',)\n"
        "    def command(self, key):\n"
        "        if self.accounts[key] == 0:\n"
        "            raise ValueError\n"
        "        self.accounts = None\n"
    )
    for accounts, expected in (({"a": 0}, True), (collections.defaultdict(int), False)):
        bank = module.Bank()
        bank.accounts = accounts
        with pytest.raises(ValueError) as caught:
            bank.command("a")
        assert left_unchanged(module.Bank.command, caught.value) is expected


def test_lines_of_the_guard_end_before_the_first_change(load):
    module = load(
        "class Bank:\n"
        "    def command(self, key):\n"
        "        '''Text.'''\n"
        "        if key:\n"
        "            raise ValueError(\n"
        "                key)\n"
        "        x = 1; self.n = x\n"
        "        raise KeyError\n"
    )
    assert guard_lines(module.Bank.command) == {3, 4, 5, 6}


def test_recursion_counts_from_the_outermost_call(load):
    module = load(
        "class Bank:\n"
        "    def command(self, depth):\n"
        "        if depth == 0:\n"
        "            raise ValueError\n"
        "        self.n = depth\n"
        "        self.command(depth - 1)\n"
    )
    with pytest.raises(ValueError) as caught:
        module.Bank().command(1)
    assert not left_unchanged(module.Bank.command, caught.value)


def test_exception_that_never_was_in_the_method_proves_nothing(load):
    module = load("class Bank:\n    def command(self, key):\n        raise ValueError\n")
    with pytest.raises(TypeError) as caught:
        module.Bank().command()
    assert not left_unchanged(module.Bank.command, caught.value)
    assert not left_unchanged(module.Bank.command, ValueError())
    assert not left_unchanged([].append, caught.value)


def test_wrapper_is_judged_by_its_own_body(load):
    module = load(
        "import functools\n"
        "def counted(function):\n"
        "    @functools.wraps(function)\n"
        "    def wrapper(self, *args):\n"
        "        self.n = 1\n"
        "        return function(self, *args)\n"
        "    return wrapper\n"
        "class Bank:\n"
        "    @counted\n"
        "    def command(self, key):\n"
        "        raise ValueError\n"
    )
    with pytest.raises(ValueError) as caught:
        module.Bank().command(1)
    assert not left_unchanged(module.Bank.command, caught.value)


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_generators_and_async_have_no_guard(load, kind):
    module = load(f"class Bank:\n    {kind} command(self):\n        if self: raise ValueError\n        yield 1\n")
    assert guard_lines(module.Bank.command) is None


def test_without_source_nothing_is_proven():
    space = {}
    exec("def command(self):\n    raise ValueError\n", space)
    with pytest.raises(ValueError) as caught:
        space["command"](None)
    assert guard_lines(space["command"]) is None
    assert not left_unchanged(space["command"], caught.value)


def test_source_edited_since_the_import_proves_nothing(load):
    text = "class Bank:\n    def command(self):\n        {}\n        raise ValueError\n"
    module = load(text.format("self.n = 1"))
    with open(module.__file__, "w") as file:
        file.write(text.format("x = 1"))
    with pytest.raises(ValueError) as caught:
        module.Bank().command()
    assert guard_lines(module.Bank.command) is None
    assert not left_unchanged(module.Bank.command, caught.value)


def test_state_really_is_unchanged_wherever_it_is_said_to_be(verdict, load):
    for body in [*PROVEN.values(), *UNPROVEN.values()]:
        text = textwrap.indent(textwrap.dedent(body).strip(), " " * 8)
        module = load(f"{HEAD}    def command(self, key, item=None):\n{text}\n")
        bank = module.Bank()
        before = _picture(bank, module)
        try:
            bank.command("zz")
        except Exception as error:
            if left_unchanged(module.Bank.command, error):
                assert _picture(bank, module) == before, body


def _picture(bank, module):
    left = bank.each.__length_hint__()
    return repr({**vars(bank), "each": left, "counting": vars(bank.counting)}) + repr(module.DEFAULTS)
