"""The same damage and the same kills for perdure and for others: ``crash_rivals.py [SECONDS]``.

Each stores numbered texts, one durable write each, in the most durable mode that its documentation offers. *Damage*:
after a clean close one file is cut, has a bit flipped, a stretch zeroed, junk behind its end, or is deleted; then it is
opened and everything is read. *Kills*: a writing process is killed with SIGKILL again and again, and what it had been
told is looked for. Those that are not installed are left out. SECONDS: for each one's kills, 10 by default.
"""

from __future__ import annotations

import contextlib
import dbm
import json
import logging
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

ENTRIES = 9
READ_S_MAX = 20.0
Put = Callable[[str, str], object]


class Opened(NamedTuple):
    """A store that is open: ``put`` returns when the entry is durable; ``items``: all of them; ``told``: a warning."""

    put: Put
    items: Callable[[], dict[str, str]]
    close: Callable[[], object]
    told: str = ""


class Texts:
    """What the two prevalent systems keep."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def put(self, key: str, text: str) -> None:
        self.texts[key] = text


def open_perdure(place: Path, **options: Any) -> Opened:
    import perdure

    system = perdure.open(Texts, place, durability="always", **options)
    control = perdure.control(system)
    told = f"{control.report.cut_bytes} bytes cut" if control.report.cut_bytes else ""
    return Opened(system.put, lambda: dict(system.texts), control.close, told)


def open_coopy(place: Path, **options: Any) -> Opened:
    from coopy.base import init_persistent_system

    place.mkdir(exist_ok=True)
    system = init_persistent_system(Texts, str(place), durability="sync", recovery="strict", **options)
    return Opened(system.put, lambda: dict(system.texts), system.close)


def open_sqlitedict(place: Path) -> Opened:
    from sqlitedict import SqliteDict

    place.mkdir(exist_ok=True)
    # It sets `synchronous=OFF` itself, and has no option for another.
    store = SqliteDict(str(place / "store.sqlite"), journal_mode="DELETE")

    def put(key: str, text: str) -> None:
        store[key] = text
        store.commit(blocking=True)

    return Opened(put, lambda: dict(store.items()), store.close)


def open_diskcache(place: Path) -> Opened:
    from diskcache import Cache

    store = Cache(str(place), sqlite_synchronous=2, sqlite_journal_mode="delete", eviction_policy="none")
    return Opened(store.__setitem__, lambda: {key: store[key] for key in store}, store.close)


def open_shelve(place: Path) -> Opened:
    import shelve

    place.mkdir(exist_ok=True)
    store = shelve.open(str(place / "store"))  # noqa: SIM115

    def put(key: str, text: str) -> None:
        store[key] = text
        store.sync()

    return Opened(put, lambda: dict(store.items()), store.close)


SUBJECTS: dict[str, tuple[str, Callable[[Path], Opened]]] = {
    "perdure": ("perdure", open_perdure),
    "perdure, secret=": ("perdure", lambda place: open_perdure(place, secret=b"kept elsewhere")),
    "coopy": ("coopy", open_coopy),
    "coopy, secret=": ("coopy", lambda place: open_coopy(place, secret=b"kept elsewhere")),
    "sqlitedict": ("sqlitedict", open_sqlitedict),
    "diskcache": ("diskcache", open_diskcache),
    "shelve": ("", open_shelve),
}


def text_of(number: int) -> str:
    return f"text {number} " + "abcdefgh"[number % 8] * 40


def wanted(count: int) -> dict[str, str]:
    return {f"key {number}": text_of(number) for number in range(count)}


# ---- in a child, so that nothing that is damaged can harm this process


def in_child(work: Callable[[int], None]) -> tuple[int, int]:
    """Runs ``work`` with the descriptor to report to; returns the child's id and where to read."""
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid:
        os.close(sender)
        return pid, receiver
    os.close(receiver)
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        work(sender)
    except BaseException as error:  # Whatever a store makes of damage: that is the answer.
        with contextlib.suppress(OSError):
            os.write(sender, b"\n!" + type(error).__name__.encode())
    finally:
        os._exit(0)


class Warned(logging.Handler):
    """Whether anything was logged as a warning, or worse."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1


def read_everything(opener: Callable[[Path], Opened], place: Path, sender: int) -> None:
    handler = Warned(logging.WARNING)
    logging.getLogger().addHandler(handler)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        store = opener(place)
        items = store.items()
    told = bool(store.told or handler.count or [each for each in caught if "deprecat" not in str(each.message)])
    data = json.dumps([items, told]).encode()
    while data:
        data = data[os.write(sender, data) :]


def found_in(opener: Callable[[Path], Opened], place: Path) -> tuple[dict[str, str], bool] | str:
    """The items and whether something was told, or how it refused."""
    pid, receiver = in_child(lambda sender: read_everything(opener, place, sender))
    data, deadline = b"", time.monotonic() + READ_S_MAX
    try:
        while True:
            ready, _, _ = select.select([receiver], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                os.kill(pid, signal.SIGKILL)
                return "hangs"
            part = os.read(receiver, 65536)
            if not part:
                break
            data += part
    finally:
        os.close(receiver)
        _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return "crashes"
    if not data or b"\n!" in data:
        return "refused"
    items, told = json.loads(data)
    return items, told


# ---- damage


def damages(files: dict[str, bytes]) -> Iterator[tuple[str, bytes | None]]:
    """(file, new content or None: deleted). The same positions for all, as far as their files reach."""
    chance = random.Random(11)
    for name, data in sorted(files.items()):
        yield name, None
        if not data:
            continue
        for place in sorted(chance.sample(range(len(data)), min(len(data), 80))):
            yield name, data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]
        for place in sorted(chance.sample(range(len(data)), min(len(data), 40))):
            yield name, data[:place]
        for place in sorted(chance.sample(range(len(data)), min(len(data), 20))):
            yield name, data[:place] + bytes(min(64, len(data) - place)) + data[place + 64 :]
        for size in (1, 16, 512, 4096):
            yield name, data + bytes(size)
            yield name, data + chance.randbytes(size)


def damage(opener: Callable[[Path], Opened], place: Path) -> Counter[str]:
    def fill(sender: int) -> None:
        store = opener(place)
        for key, text in wanted(ENTRIES).items():
            store.put(key, text)
        store.close()

    pid, receiver = in_child(fill)
    os.waitpid(pid, 0)
    os.close(receiver)
    files = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    verdicts: Counter[str] = Counter()
    for name, content in damages(files):
        for each, data in files.items():
            path = place / each
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_bytes(data)
        if content is None:
            (place / name).unlink()
        else:
            (place / name).write_bytes(content)
        verdicts[verdict(found_in(opener, place))] += 1
        for path in sorted(place.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    return verdicts


def verdict(found: tuple[dict[str, str], bool] | str) -> str:
    if isinstance(found, str):
        return found
    items, told = found
    if items == wanted(ENTRIES):
        return "whole"
    return "less, and told" if told else "wrong or less, in silence"


# ---- kills


def kills(opener: Callable[[Path], Opened], place: Path, seconds: float) -> Counter[str]:
    chance = random.Random(3)
    verdicts: Counter[str] = Counter()
    deadline = time.monotonic() + seconds
    known = 0

    def write(sender: int) -> None:
        store = opener(place)
        number = len(store.items())
        while True:
            os.write(sender, b"t%d\n" % number)
            store.put(f"key {number}", text_of(number))
            os.write(sender, b"a%d\n" % number)
            number += 1

    while time.monotonic() < deadline:
        pid, receiver = in_child(write)
        time.sleep(chance.uniform(0.05, 0.25))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(receiver, "rb") as file:
            lines = file.read().split(b"\n")
        acknowledged = max([known, *(int(line[1:]) + 1 for line in lines if line[:1] == b"a")])
        tried = max([known, *(int(line[1:]) + 1 for line in lines if line[:1] == b"t")])
        found = found_in(opener, place)
        if isinstance(found, str):
            verdicts["does not open any more"] += 1
            shutil.rmtree(place)
            known = 0
            continue
        count = len(found[0])
        right = found[0] == wanted(count) and acknowledged <= count <= tried
        verdicts["right" if right else "lost, or wrong"] += 1
        known = count
        if not right or count > 2000:
            shutil.rmtree(place)
            known = 0
    return verdicts


# ---- the tables


def name_of(subject: str, package: str) -> str | None:
    """With its version; ``None`` where it is not installed."""
    if not package:
        return f"{subject} of Python {sys.version_info[0]}.{sys.version_info[1]} ({_first_dbm()})"
    try:
        return f"{package} {version(package)}{subject.removeprefix(package)}"
    except PackageNotFoundError:
        return None


def _first_dbm() -> str:
    """Which of the databases that shelve may find here it takes."""
    with tempfile.TemporaryDirectory() as folder:
        dbm.open(os.path.join(folder, "d"), "c").close()
        return str(dbm.whichdb(os.path.join(folder, "d")))


DAMAGE_COLUMNS = ["whole", "refused", "less, and told", "wrong or less, in silence", "crashes", "hangs"]
KILL_COLUMNS = ["right", "lost, or wrong", "does not open any more"]


def table(title: str, columns: list[str], rows: dict[str, Counter[str]]) -> None:
    print(f"\n| {title} | tried | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * (len(columns) + 1))
    for name, verdicts in rows.items():
        print(f"| {name} | {verdicts.total():,} | " + " | ".join(f"{verdicts[column]:,}" for column in columns) + " |")


def main(seconds: float) -> None:
    damaged, killed = {}, {}
    # Damage is looked at in memory: there it does not matter what was synced.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    for subject, (package, opener) in SUBJECTS.items():
        name = name_of(subject, package)
        if name is None:
            print(f"{subject} is not installed and left out")
            continue
        # Imported and used here once, rather than in each child: what they look up the first time is known then.
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            opener(Path(folder, "first")).close()
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            damaged[name] = damage(opener, Path(folder, "damage"))
        with tempfile.TemporaryDirectory() as folder:
            killed[name] = kills(opener, Path(folder, "kills"), seconds)
        print(f"{name}: {damaged[name].total()} damaged files, {killed[name].total()} kills", flush=True)
    table("damage after a clean close", DAMAGE_COLUMNS, damaged)
    table("SIGKILL", KILL_COLUMNS, killed)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0)
