import importlib.util
import itertools
import sys
import textwrap
import time
import warnings

import pytest

from perdure.errors import NotDeterministicError, PrevalentError
from perdure.system._determinism import check_class, read_class
from perdure.system._findings import DeterminismWarning
from perdure.system._reading import commands_of, functions_called, methods_of

_numbers = itertools.count()


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Write a module, import it, return it."""

    def load(text, name=None):
        name = name or f"read_by_test_{next(_numbers)}"
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


def command(load, head, body):
    """The findings for a class with one command."""
    lines = textwrap.indent(textwrap.dedent(body).strip(), " " * 8)
    parameters = "self, item=None, key=None"
    text = f"{textwrap.dedent(head).strip()}\nclass Box:\n    def put({parameters}):\n{lines}\n"
    return read_class(load(text).Box)


ERRORS = [
    ("import datetime", "self.at = datetime.datetime.now()", "perdure.clock.now()"),
    ("import datetime as dt", "self.at = dt.datetime.now(dt.timezone.utc)", "perdure.clock.now()"),
    ("from datetime import datetime as D", "self.at = D.utcnow()", "perdure.clock.utcnow()"),
    ("from datetime import datetime", "self.at = datetime.today()", "perdure.clock.now()"),
    ("from datetime import date", "self.at = date.today()", "perdure.clock.today()"),
    ("from datetime import datetime", "now = datetime.now\nself.at = now()", "perdure.clock.now()"),
    ("", "import datetime\nself.at = datetime.datetime.now()", "perdure.clock.now()"),
    ("", "from time import time as t\nself.at = t()", "perdure.clock.time()"),
    ("import time", "self.at = time.time()", "perdure.clock.time()"),
    ("from time import time", "self.at = time()", "perdure.clock.time()"),
    ("import time", "self.at = time.time_ns()", "perdure.clock.time()"),
    ("import time", "self.at = time.monotonic()", "perdure.clock.time()"),
    ("import time", "self.at = time.perf_counter()", "perdure.clock.time()"),
    ("import time", "self.at = time.localtime()", "perdure.clock.time()"),
    ("import time", "self.at = time.gmtime()", "perdure.clock.time()"),
    ("import time", "self.at = time.ctime()", "perdure.clock.time()"),
    ("import time", "self.at = time.strftime('%Y')", "perdure.clock.time()"),
    ("import random", "self.n = random.random()", "perdure.rng.random()"),
    ("from random import choice", "self.n = choice(item)", "perdure.rng.choice()"),
    ("import random", "item.sort(key=lambda _: random.random())", "perdure.rng.random()"),
    ("import random", "item.sort(key=random.randrange)", "perdure.rng.randrange()"),
    ("import random", "self.n = random.Random().random()", "perdure.rng"),
    ("import random", "self.n = random.SystemRandom(1).random()", "perdure.rng"),
    ("import random\ndice = random.Random(5)", "self.n = dice.random()", "perdure.rng"),
    ("import uuid", "self.id = uuid.uuid4()", "perdure.uuid4()"),
    ("from uuid import uuid1", "self.id = str(uuid1())", "perdure.uuid4()"),
    ("import os", "self.id = os.urandom(8)", "perdure.rng.randbytes()"),
    ("import secrets", "self.id = secrets.token_hex()", "pass it in"),
    ("from secrets import choice", "self.id = choice(item)", "pass it in"),
    ("import time", "self.all = [time.time() for _ in item]", "perdure.clock.time()"),
    ("import time", "def stamp():\n    return time.time()\nself.at = stamp()", "perdure.clock.time()"),
    ("import time", "match item:\n    case [x]:\n        self.at = time.time()", "perdure.clock.time()"),
    ("import time", "try:\n    self.at = time.time()\nfinally:\n    pass", "perdure.clock.time()"),
]


@pytest.mark.parametrize(("head", "body", "replacement"), ERRORS)
def test_clock_or_randomness_in_a_command_is_an_error_with_its_replacement(load, head, body, replacement):
    errors = [finding for finding in command(load, head, body) if finding.severity == "error"]
    assert len(errors) == 1
    assert errors[0].method == "Box.put"
    assert replacement in errors[0].replacement
    assert errors[0].rule in ("clock", "randomness")


WARNINGS = [
    ("", "self.text = open(item).read()", "io"),
    ("", "self.text = input()", "io"),
    ("from pathlib import Path", "self.text = Path(item).read_text()", "io"),
    ("import os", "os.remove(item)", "io"),
    ("import os", "os.makedirs(item)", "io"),
    ("import os", "self.there = os.path.exists(item)", "io"),
    ("import subprocess", "subprocess.run(item)", "io"),
    ("from urllib.request import urlopen", "urlopen(item)", "io"),
    ("import socket", "socket.create_connection(item)", "io"),
    ("import shutil", "shutil.rmtree(item)", "io"),
    ("import time", "time.sleep(1)", "io"),
    ("import os", "self.home = os.environ['HOME']", "environment"),
    ("from os import environ", "self.home = environ.get('HOME')", "environment"),
    ("import os", "self.home = os.getenv('HOME')", "environment"),
    ("import platform", "self.host = platform.node()", "environment"),
    ("from pathlib import Path", "self.here = Path.cwd()", "environment"),
    ("", "self.key = id(item)", "identity"),
    ("", "self.key = hash(item)", "hash"),
    ("", "for x in {'a', 'b'}:\n    self.x = x", "set-order"),
    ("", "for x in set(item):\n    self.x = x", "set-order"),
    ("", "self.all = list(set(item))", "set-order"),
    ("", "self.all = [x for x in frozenset(item)]", "set-order"),
    ("", "seen = {x for x in item}\nself.first = next(iter(seen))", "set-order"),
    ("", "seen = set(item)\nself.text = ','.join(seen - {'a'})", "set-order"),
    ("", "seen = set(item)\nself.one = seen.pop()", "set-order"),
    ("", "self.tags = set(item)\nfor x in self.tags:\n    self.x = x", "set-order"),
    ("import threading", "threading.Thread(target=print).start()", "background"),
    ("import asyncio", "asyncio.run(item)", "background"),
    ("from concurrent.futures import ThreadPoolExecutor", "ThreadPoolExecutor()", "background"),
    ("N = 0", "global N\nN = 1", "global"),
    ("CACHE = {}", "CACHE[item] = 1", "global"),
    ("SEEN = []", "SEEN.append(item)", "global"),
    ("import itertools\nNEXT = itertools.count()", "self.n = next(NEXT)", "global"),
    ("", "Box.count = 1", "global"),
    ("", "self.__class__.count = 1", "global"),
    ("", "type(self).count = 1", "global"),
    ("", "type(self).index[item] = 1", "global"),
]


@pytest.mark.parametrize(("head", "body", "rule"), WARNINGS)
def test_what_may_differ_or_leaves_the_object_is_a_warning(load, head, body, rule):
    findings = command(load, head, body)
    assert [(finding.severity, finding.rule) for finding in findings] == [("warning", rule)]


FINE = [
    ("import time", "time = item\nself.at = time.time()"),
    ("import random", "random = self.random\nself.at = random.random()"),
    ("import random", "self.at = (lambda random: random.random())(item)"),
    ("import random", "self.at = [random.random() for random in item]"),
    ("import random", "for random in item:\n    random.random()"),
    ("import time", "with item as time:\n    time.time()"),
    ("import random", "self.at = self.random()"),
    ("import datetime", "self.at = datetime.datetime(2020, 1, 1) + datetime.timedelta(1)"),
    ("from datetime import datetime", "self.at = datetime.fromisoformat(item)"),
    ("from datetime import datetime", "self.ok = isinstance(item, datetime)"),
    ("import time", "self.at = time.strftime('%Y', time.gmtime(item))"),
    ("import random", "self.n = random.Random(item).random()"),
    ("import uuid", "self.id = uuid.UUID(item)"),
    ("import secrets", "self.ok = secrets.compare_digest(item, key)"),
    ("import os", "self.path = os.path.join(os.fspath(item), 'x')"),
    ("import io", "self.text = io.StringIO(item).read()"),
    ("import subprocess", "try:\n    pass\nexcept subprocess.CalledProcessError:\n    pass"),
    ("", "print(item)"),
    ("import logging\nlog = logging.getLogger(__name__)", "log.info('put %s', item)"),
    ("", "for x in sorted(set(item)):\n    self.x = x"),
    ("", "self.n = sum(x for x in set(item))"),
    ("", "self.all = sorted(list({'a', 'b'}))"),
    ("", "self.n = len(set(item)) + max({'a', 'b'}, key=len).count('a')"),
    ("", "for x in {1, 2}:\n    self.x = x"),
    ("", "self.tags = {x for x in set(item)}"),
    ("", "self.x.y[item] = 1"),
    ("CACHE = {'a': 1}", "self.x = CACHE.get(item)"),
    ("CACHE = {}", "CACHE = {}\nCACHE[item] = 1"),
    ("", "self.at = self._clock.now()"),
    ("", "item.pop()\nself.x.pop()"),
    ("import time\nTIME = time", "self.name = TIME.__name__"),
]


@pytest.mark.parametrize(("head", "body"), FINE)
def test_ordinary_code_is_not_reported(load, head, body):
    assert command(load, head, body) == []


def test_file_line_and_call_are_told(load):
    module = load(
        """
        import time

        class Wiki:
            def touch(self):
                self.at = (
                    time.time()
                )
        """
    )
    [finding] = read_class(module.Wiki)
    assert (finding.file, finding.line) == (module.__file__, 7)
    assert str(finding) == f"{module.__file__}:7: Wiki.touch: time.time(); use perdure.clock.time()"


SEED = """
import datetime

class WikiPage():
    def __init__(self, id, content):
        self.id = id
        self.content = content
        self.history = []
        self.last_modify = datetime.datetime.now()

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
"""


def test_clock_in_the_constructor_of_another_class_is_only_warned_of(load):
    module = load(SEED)
    [finding] = read_class(module.Wiki)
    assert (finding.severity, finding.line, finding.method) == ("warning", 9, "Wiki.create_page")
    assert finding.replacement == "use perdure.clock.now()"
    assert "WikiPage.__init__" in finding.what
    with pytest.warns(DeterminismWarning, match=r"perdure\.clock\.now\(\)"):
        check_class(module.Wiki)


def test_methods_of_constructed_classes_that_are_called_are_warned_of(load):
    module = load(
        """
        import time

        class Page:
            def touch(self):
                self.at = time.time()
            def unused(self):
                self.at = time.time()

        class Wiki:
            def add(self, key):
                self.pages[key] = Page()
            def touch(self, key):
                self.pages[key].touch()
            def both(self, key):
                page = Page()
                page.touch()
        """
    )
    findings = read_class(module.Wiki)
    assert [(f.severity, f.line, f.method) for f in findings] == [("warning", 6, "Wiki.both")]


def test_default_factory_of_a_constructed_dataclass_is_warned_of(load):
    module = load(
        """
        from dataclasses import dataclass, field
        from datetime import datetime
        import uuid

        @dataclass
        class Page:
            id: str = field(default_factory=uuid.uuid4)
            at: datetime = field(default_factory=datetime.now)
            tags: list = field(default_factory=list)

        class Wiki:
            def add(self):
                self.page = Page()
        """
    )
    findings = read_class(module.Wiki)
    assert [f.severity for f in findings] == ["warning", "warning"]
    assert {f.replacement for f in findings} == {"use perdure.uuid4()", "use perdure.clock.now()"}


def test_own_init_may_use_clock_and_randomness(load):
    module = load(
        """
        import random, time

        class Wiki:
            def __init__(self):
                self.at = time.time()
                self.salt = random.random()
        """
    )
    assert read_class(module.Wiki) == []


def test_queries_are_not_read(load):
    module = load(
        """
        import time
        from perdure.system._decorators import readonly

        class Wiki:
            @readonly
            def age(self):
                return time.time() - self.at

            @property
            def old(self):
                return time.time() > self.at

            def __len__(self):
                return int(time.time())

            @staticmethod
            def now():
                return time.time()

            @classmethod
            def fresh(cls):
                return cls(time.time())

            def _seconds(self):
                return time.time()

            @readonly
            def seconds(self):
                return self._seconds()
        """
    )
    assert read_class(module.Wiki) == []


@pytest.mark.parametrize("use", ["self.age()", "self.old", "self.now()", "Wiki.now()", "map(self.age, [1])", "stamp()"])
def test_queries_and_functions_that_a_command_uses_are_read(load, use):
    module = load(
        f"""
        import time
        from perdure.system._decorators import readonly

        def stamp():
            return inner()

        def inner():
            return time.time()

        class Wiki:
            @readonly
            def age(self):
                return time.time()

            @property
            def old(self):
                return time.time()

            @staticmethod
            def now():
                return time.time()

            def command(self):
                self.at = {use}
        """
    )
    [finding] = read_class(module.Wiki)
    assert (finding.severity, finding.method) == ("error", "Wiki.command")


def test_super_and_setters_are_followed(load):
    module = load(
        """
        import time

        class Base:
            def touch(self):
                self.at = time.time()

        class Wiki(Base):
            def touch(self):
                super().touch()

            @property
            def title(self):
                return self._title

            @title.setter
            def title(self, value):
                self._title = value, time.time()
        """
    )
    findings = read_class(module.Wiki)
    assert [(f.severity, f.line, f.method) for f in findings] == [
        ("error", 6, "Wiki.touch"),
        ("error", 18, "Wiki.title.setter"),
    ]


def test_inherited_commands_of_another_module_are_read(load):
    load(
        """
        import time

        def stamp():
            return time.time()

        class Base:
            def touch(self):
                self.at = stamp()
        """,
        "base_of_test",
    )
    module = load("import base_of_test\n\nclass Wiki(base_of_test.Base):\n    pass\n")
    [finding] = read_class(module.Wiki)
    assert finding.file.endswith("base_of_test.py")
    assert finding.line == 5
    assert "stamp" in finding.what


def test_default_of_a_parameter_is_read(load):
    module = load("import time\nclass Wiki:\n    def touch(self, at=time.time()):\n        self.at = at\n")
    [finding] = read_class(module.Wiki)
    assert finding.severity == "error"


def test_generator_and_async_commands_are_refused(load):
    module = load(
        """
        from perdure.system._decorators import readonly

        class Wiki:
            def each(self):
                yield 1

            async def later(self):
                pass

            async def stream(self):
                yield 1

            @readonly
            def fine(self):
                yield 1

            @readonly
            async def fine_later(self):
                pass

            def __iter__(self):
                yield 1

            def _walk(self):
                yield 1

            def grow(self):
                self.all = list(self._walk())
        """
    )
    findings = read_class(module.Wiki)
    assert [(f.severity, f.rule, f.method) for f in findings] == [
        ("error", "generator", "Wiki.each"),
        ("error", "async", "Wiki.later"),
        ("error", "async", "Wiki.stream"),
    ]


def test_generator_commands_are_refused_without_source():
    space = {}
    exec("class Wiki:\n    def each(self):\n        yield 1\n    def plain(self):\n        pass\n", space)
    assert [f.rule for f in read_class(space["Wiki"])] == ["generator", "unread"]


def test_a_class_without_source_is_warned_of_once():
    space = {"time": time}
    exec("class Wiki:\n    def a(self):\n        self.at = time.time()\n    def b(self):\n        pass\n", space)
    (finding,) = read_class(space["Wiki"])
    assert (finding.severity, finding.rule, finding.method) == ("warning", "unread", "Wiki.a, b")
    with pytest.warns(DeterminismWarning, match="Wiki.a, b: has no source that could be read"):
        check_class(space["Wiki"])


def test_classes_in_functions_see_their_closure():
    import time

    clock = time.time

    class Wiki:
        def touch(self):
            self.at = clock()

    assert [f.severity for f in read_class(Wiki)] == ["error"]


def test_error_lists_every_place_and_names_the_way_out(load):
    module = load(
        "import time\nclass Wiki:\n    def a(self):\n        time.time()\n    def b(self):\n        time.time()\n"
    )
    with pytest.raises(NotDeterministicError) as caught:
        check_class(module.Wiki)
    assert caught.type is PrevalentError
    assert f"{module.__file__}:4: Wiki.a: time.time(); use perdure.clock.time()" in str(caught.value)
    assert f"{module.__file__}:6: Wiki.b" in str(caught.value)
    assert "@readonly" in caught.value.hint


def test_validate_warn_turns_errors_into_warnings_at_the_caller_and_off_is_silent(load):
    module = load("import time\nclass Wiki:\n    def a(self):\n        time.time()\n        open('x')\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_class(module.Wiki, validate="warn")
        check_class(module.Wiki, validate="off")
    assert [w.category for w in caught] == [DeterminismWarning] * 2
    assert {w.filename for w in caught} == {__file__}


@pytest.mark.parametrize("builtin", [dict, list, set, int, object])
def test_builtin_types_have_no_methods_to_read(builtin):
    assert methods_of(builtin) == {}
    assert read_class(builtin) == []


def test_methods_of_knows_accessors_wrappers_and_what_hides_them(load):
    module = load(
        """
        import collections, functools

        def traced(f):
            @functools.wraps(f)
            def wrapper(*a):
                return f(*a)
            return wrapper

        class Base(collections.UserDict):
            def kept(self): ...
            def hidden(self): ...
            def replaced(self): ...

        class Wiki(Base):
            hidden = None
            def replaced(self): ...
            @traced
            def wrapped(self): ...
            @property
            def title(self): ...
            @title.setter
            def title(self, value): ...
            quick = lambda self: 1
        """
    )
    found = methods_of(module.Wiki)
    assert set(found) == {"kept", "replaced", "wrapped", "title", "title.setter", "quick"}
    assert found["kept"].owner is module.Base
    assert found["replaced"].owner is module.Wiki
    assert found["wrapped"].node.name == "wrapped"
    assert found["title.setter"].line == 22
    assert set(commands_of(module.Wiki)) == {"kept", "replaced", "wrapped", "title.setter", "quick"}


def test_functions_called_are_those_of_the_same_module_however_deep(load):
    module = load(
        """
        import json

        def a(x): return b(x)
        def b(x): return json.dumps(x)
        def c(x): return x

        class Wiki:
            def put(self, x):
                self.other(a(x))
            def other(self, x):
                c(x)
        """
    )
    called = functions_called(methods_of(module.Wiki)["put"])
    assert [source.name for source in called] == ["a", "b"]


def test_stale_or_broken_source_is_no_source(load, tmp_path):
    module = load("class Wiki:\n    def put(self):\n        pass\n")
    with open(module.__file__, "w") as file:
        file.write("class Wiki:\n    def (((\n")
    assert methods_of(module.Wiki)["put"].node is None
    assert [finding.rule for finding in read_class(module.Wiki)] == ["unread"]


def test_lazy_objects_of_the_module_are_not_woken(load):
    module = load(
        """
        class Lazy:
            def __getattribute__(self, name):
                raise RuntimeError(name)
            def __eq__(self, other):
                raise RuntimeError
            __hash__ = None

        settings = Lazy()

        class Wiki:
            def put(self):
                self.x = settings.x
                settings()
                list(settings)
                settings.y.append(1)
        """
    )
    assert read_class(module.Wiki) == []


ORDINARY = """
import bisect, collections, copy, dataclasses, enum, functools, heapq, itertools, json, logging, math, operator, re
import datetime, random, time, uuid
from collections import Counter, defaultdict, deque, namedtuple
from decimal import Decimal
from typing import ClassVar, Generic, NamedTuple, TypeVar

from perdure.system._decorators import abort_exception, readonly, unlocked

T = TypeVar("T")
log = logging.getLogger(__name__)
WORD = re.compile(r"[a-z]+")
Point = namedtuple("Point", "x y")
LIMITS = {"small": 10, "large": 100}

class Insufficient(Exception):
    pass

class Color(enum.Enum):
    RED = 1

@dataclasses.dataclass(order=True)
class Task:
    due: datetime.date
    name: str = dataclasses.field(compare=False)
    tags: set[str] = dataclasses.field(default_factory=set, compare=False)

    def late(self, today):
        return self.due < today

class Bank:
    currency: ClassVar[str] = "EUR"

    def __init__(self):
        self.opened = datetime.datetime.now()
        self.accounts = defaultdict(Decimal)

    @abort_exception
    def transfer(self, a, b, amount):
        if self.accounts[a] < amount:
            raise Insufficient(a)
        self.accounts[a] -= amount
        self.accounts[b] += Decimal(amount).quantize(Decimal("0.01"))
        log.info("moved %s", amount)

    @readonly
    def age(self):
        return datetime.datetime.now() - self.opened

class Todo:
    def __init__(self):
        self.tasks, self.done = [], set()

    def add(self, name, due, *tags):
        heapq.heappush(self.tasks, Task(due, name, set(tags)))

    def finish(self, today):
        while self.tasks and self.tasks[0].late(today):
            self.done.add(heapq.heappop(self.tasks).name)
        return sorted(self.done)

class Index:
    def __init__(self):
        self.words = {}

    def put(self, key, text):
        for word, n in Counter(WORD.findall(text.lower())).most_common():
            self.words.setdefault(word, set()).add(key)

    def find(self, *words):
        return sorted(set.intersection(*(self.words.get(w, set()) for w in words)))

class Cache(Generic[T]):
    def __init__(self, size):
        self.items = collections.OrderedDict()
        self.size = size

    def put(self, key: str, value: T) -> None:
        self.items[key] = value
        self.items.move_to_end(key)
        while len(self.items) > self.size:
            self.items.popitem(last=False)

class Chat:
    def __init__(self):
        self.rooms = {}
        self.recent = deque(maxlen=LIMITS["small"])

    def say(self, room, who, text, *, at=None):
        time = at or self._clock.now()
        message = {"who": who, "text": text, "at": time.isoformat(), "id": uuid.UUID(int=len(self.recent)).hex}
        self.rooms.setdefault(room, []).append(message)
        self.recent.append(copy.deepcopy(message))
        return json.dumps(message, sort_keys=True)

class Game:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.board = [[0] * 3 for _ in range(3)]

    def roll(self):
        return self.random.randint(1, 6)

    def play(self, x, y, random=None):
        match self.board[x][y]:
            case 0:
                self.board[x][y] = random.choice([1, 2]) if random else 1
            case taken:
                raise ValueError(f"{Point(x, y)} is {taken}")

class Graph:
    def __init__(self):
        self.edges = defaultdict(list)

    def connect(self, a, b):
        self.edges[a].append(b)
        self.edges[b].append(a)

    def _walk(self, start, seen):
        for other in self.edges[start]:
            if other not in seen:
                seen.add(other)
                yield other
                yield from self._walk(other, seen)

    def prune(self, start):
        keep = {start} | set(self._walk(start, {start}))
        self.edges = {k: v for k, v in self.edges.items() if k in keep}

class Settings(dict):
    def __setitem__(self, key, value):
        super().__setitem__(key.lower(), value)

    def update_all(self, **changes):
        with_prefix = map(operator.itemgetter(0), sorted(changes.items()))
        for key in with_prefix:
            self[key] = changes[key]

class Stats:
    __slots__ = ("values",)

    def __init__(self):
        self.values = []

    def add(self, value):
        bisect.insort(self.values, value)
        return math.fsum(self.values) / len(self.values), functools.reduce(operator.add, self.values)

    @property
    def median(self):
        return self.values[len(self.values) // 2]

class Poll:
    def __init__(self, *options):
        self.votes = dict.fromkeys(options, 0)
        self.voters = set()

    @unlocked
    def vote(self, who, option):
        if who in self.voters:
            return False
        self.voters.add(who)
        self.votes[option] += 1
        winner, *_ = sorted(self.votes, key=self.votes.get, reverse=True)
        return winner == option and Color.RED is not None

class Calendar:
    def __init__(self):
        self.events = []

    def book(self, start: datetime.datetime, hours: float):
        end = start + datetime.timedelta(hours=hours)
        if any(s < end and start < e for s, e in self.events):
            raise ValueError(f"taken: {start:%H:%M}")
        self.events = sorted([*self.events, (start, end)])
        return time.mktime(start.timetuple())
"""


def test_a_dozen_realistic_classes_have_nothing_to_report(load):
    module = load(ORDINARY)
    names = ["Bank", "Todo", "Index", "Cache", "Chat", "Game", "Graph", "Settings", "Stats", "Poll", "Calendar", "Task"]
    assert [str(finding) for name in names for finding in read_class(getattr(module, name))] == []


def test_reading_a_large_class_is_quick(load):
    methods = "".join(
        f"    def m{n}(self, a):\n        self.d[a] = [x for x in a if x]\n        return self.m{n + 1}(h{n}(a))\n"
        for n in range(150)
    )
    functions = "".join(f"def h{n}(x):\n    return x\n" for n in range(150))
    module = load(f"{functions}class Wiki:\n{methods}")
    started = time.perf_counter()
    assert read_class(module.Wiki) == []
    assert time.perf_counter() - started < 5


def test_a_cached_property_is_warned_of(load):
    """Whoever reads it first stores it, and a replay that nobody reads leaves another state."""
    text = """
    import functools
    class Box:
        @functools.cached_property
        def size(self):
            return 1
    """
    (found,) = read_class(load(text).Box)
    assert (found.severity, found.rule, found.method) == ("warning", "cache", "Box.size")
