"""Power cuts over a system: your own class, your own commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from perdure.errors import PerdureError
from perdure.fs import Fs
from perdure.system import control
from perdure.system import open as open_system
from perdure.testing.crashsim._events import Log
from perdure.testing.crashsim._explore import explore
from perdure.testing.crashsim._report import Report

_FOLDER = "system"


def explore_system(
    factory: Callable[[], Any],
    commands: Sequence[Callable[[Any], object]],
    *,
    models: Sequence[str] = ("posix", "btrfs", "ext4"),
    nested: bool = False,
    kill_restart: bool = False,
    limit: int = 256,
    seed: int = 0,
    seconds_max: float | None = None,
    **open_options: Any,
) -> Report:
    """Tests your own class against power cuts. ::

        report = crashsim.explore_system(Wiki, [
            lambda wiki: wiki.create_page("Home", "Welcome"),
            lambda wiki: perdure.control(wiki).take_snapshot(),
            lambda wiki: wiki.delete_page("Home"),
        ])
        assert not report.failures, report

    ``factory``: a class, or what makes the initial state. ``commands``: each is called with the proxy, in order; what
    they raise is taken as their outcome, unless it is an error of perdure's own. ``open_options``: for
    ``perdure.open``. The rest is as for ``explore``.

    The promise that is checked on every directory that a power cut may leave: it opens, and the state is the one after
    the first n commands, for an n that is at least the number of those that had been answered (with durability
    "everysec" and "never": at least 0), and at most the number of those that had been called.
    """
    run = _SystemRun(factory, commands, open_options)
    return explore(
        run.workload,
        run.check,
        recover=run.restart,
        models=models,
        nested=nested,
        kill_restart=kill_restart,
        limit=limit,
        seed=seed,
        seconds_max=seconds_max,
    )


class _SystemRun:
    def __init__(
        self, factory: Callable[[], Any], commands: Sequence[Callable[[Any], object]], options: dict[str, Any]
    ) -> None:
        self._factory = factory
        self._commands = commands
        self._options = options
        self._answers_last = options.get("durability", "always") == "always"
        # After 0, 1, 2, … commands. Several may be equal: a query, or a snapshot, changes nothing.
        self._digests: list[str] = []

    def workload(self, directory: str, fs: Fs, log: Log) -> None:
        system = open_system(self._factory, os.path.join(directory, _FOLDER), fs=fs, **self._options)
        try:
            self._digests.append(control(system).digest())
            for number, command in enumerate(self._commands, 1):
                log.tried(number)
                _call(command, system)
                self._digests.append(control(system).digest())
                if self._answers_last:
                    log.acknowledged(number)
        finally:
            control(system).close()
        log.acknowledged(len(self._commands))

    def restart(self, directory: str, fs: Fs, log: Log) -> None:
        """What a restarted program does: it shows what it found, and closes."""
        system = open_system(self._factory, os.path.join(directory, _FOLDER), fs=fs, **self._options)
        try:
            found = control(system).digest()
            if self._answers_last and found in self._digests:
                log.acknowledged(self._digests.index(found))
        finally:
            control(system).close()

    def check(self, directory: str, acknowledged: int, tried: int) -> str | None:
        """Opens it twice: what was found must stay."""
        place = os.path.join(directory, _FOLDER)
        before: str | None = None
        for turn in ("first", "second"):
            try:
                system = open_system(self._factory, place, **{**self._options, "snapshot": "manual"})
            except PerdureError as error:
                return f"refused at the {turn} opening: {type(error).__name__}: {error}"
            try:
                found = control(system).digest()
            finally:
                control(system).close()
            if before is not None and found != before:
                return "another state at the second opening"
            before = found
            if found not in self._digests[acknowledged : tried + 1]:
                return self._told(found, acknowledged, tried)
        return None

    def _told(self, found: str, acknowledged: int, tried: int) -> str:
        if found not in self._digests:
            return f"a state that never was, after {acknowledged} to {tried} commands"
        return f"the state after {self._digests.index(found)} commands; {acknowledged} answered, {tried} called"


def _call(command: Callable[[Any], object], system: Any) -> BaseException | None:
    """What the command raised of its own: what it left is looked at next. An error of perdure's ends the run."""
    try:
        command(system)
    except PerdureError:
        raise
    except Exception as error:  # The command's own, handed back.
        return error
    return None
