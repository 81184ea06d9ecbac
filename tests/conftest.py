"""What every test gets: Hypothesis profiles, the leak checks, and a share of the time that crash tests may take."""

from __future__ import annotations

import gc
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

CRASH_SECONDS_DEFAULT = 20.0
THREAD_GRACE_S = 5.0
FD_FOLDER = Path("/proc/self/fd")

# Deadlines are off everywhere: a sync takes as long as the disk likes. `make test ARGS=--hypothesis-profile=thorough`
# looks longer. Failures found by chance are printed with the blob that reproduces them. CI says the same of the same
# tree each time; on a desk every run looks elsewhere.
_slow_disks = [HealthCheck.too_slow]
settings.register_profile("default", deadline=None, max_examples=60, print_blob=True, suppress_health_check=_slow_disks)
settings.register_profile("ci", settings.get_profile("default"), max_examples=100, derandomize=True, database=None)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=2000)
settings.load_profile("ci" if os.environ.get("CI") else "default")

_call_failed = pytest.StashKey[bool]()
_crash_count = pytest.StashKey[int]()


# --- which tests run, and for how long ---


def pytest_configure() -> None:
    # Started in the background (`make test &`), a shell has Ctrl-C ignored, and children inherit it: tests of it
    # would wait for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seconds = crash_seconds_total()
    for item in items:
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs to be root"))
        if item.get_closest_marker("crash") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(2 * seconds + 300))


def pytest_collection_finish(session: pytest.Session) -> None:
    # Only those that go on for as long as they may: the others take what they take.
    count = sum(1 for item in session.items if "crash_seconds" in getattr(item, "fixturenames", ()))
    session.config.stash[_crash_count] = max(count, 1)


def crash_seconds_total() -> float:
    """How long all long forms together may take: ``PERDURE_CRASH_SECONDS``."""
    return float(os.environ.get("PERDURE_CRASH_SECONDS", CRASH_SECONDS_DEFAULT))


@pytest.fixture
def crash_seconds(request: pytest.FixtureRequest) -> float:
    """How long this crash test should go on: its equal share of the total, so that the whole run keeps its promise."""
    return crash_seconds_total() / request.config.stash.get(_crash_count, 1)


# --- what crash tests tried ---


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # Here, because beside workers the process that prints loads no other conftest. Each test reports three times, and
    # the report of its teardown has all properties.
    figures = [
        (name, value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "teardown"
        for name, value in report.user_properties
        if name.startswith("figure: ")
    ]
    if figures:
        from tests.crash import _figures

        terminalreporter.section("what was tried")
        for line in _figures.table(figures):
            terminalreporter.write_line(line)


# --- leaks ---


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when != "teardown" and not report.passed:
        item.stash[_call_failed] = True
    return report


@pytest.fixture(autouse=True)
def _nothing_is_left_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves file descriptors or non-daemon threads behind, unless it is marked ``leaky("why")``.

    Being the first fixture of function scope, it looks again after all others have been torn down. A test that has
    failed is not looked at: its traceback keeps its files alive.
    """
    marker = request.node.get_closest_marker("leaky")
    if marker is not None:
        if not marker.args:
            pytest.fail("@pytest.mark.leaky needs a reason", pytrace=False)
        yield
        return
    threads_before = set(threading.enumerate())
    fds_before = open_fds()
    yield
    if request.node.stash.get(_call_failed, False):
        return
    threads = leaked_threads(threads_before)
    fds = leaked_fds(fds_before)
    if threads:
        pytest.fail(f"threads left running: {', '.join(thread.name for thread in threads)}", pytrace=False)
    if fds:
        listing = ", ".join(f"{fd} → {target}" for fd, target in sorted(fds.items()))
        pytest.fail(f"file descriptors left open: {listing}", pytrace=False)


def open_fds() -> dict[int, str]:
    """Each open descriptor and what it is open on; empty where there is no /proc."""
    found = {}
    if FD_FOLDER.is_dir():
        for name in os.listdir(FD_FOLDER):
            try:
                found[int(name)] = os.readlink(FD_FOLDER / name)
            except FileNotFoundError:
                # The descriptor of the listing itself, closed by now.
                continue
    return found


def leaked_fds(before: dict[int, str]) -> dict[int, str]:
    """What is open now and was not before. The collector is asked only when something is, to keep the others fast."""
    for attempt in range(30):
        # Opened once per process by multiprocessing, at first use, and kept on purpose.
        kept = {
            getattr(multiprocessing.resource_tracker._resource_tracker, "_fd", None),
            getattr(multiprocessing.forkserver._forkserver, "_forkserver_alive_fd", None),
        }
        now = open_fds()
        leaked = {fd: target for fd, target in now.items() if before.get(fd) != target and fd not in kept}
        if not leaked:
            return {}
        if attempt == 0:
            gc.collect()
        else:
            # A daemon thread or a child's pipe may be on its way out.
            time.sleep(0.1)
    return leaked


def leaked_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    """The non-daemon threads that were not there before and do not end by themselves within ``THREAD_GRACE_S``."""
    deadline_s = time.monotonic() + THREAD_GRACE_S
    leaked = [thread for thread in threading.enumerate() if thread not in before and not thread.daemon]
    for thread in leaked:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    return [thread for thread in leaked if thread.is_alive()]


@pytest.fixture(autouse=True)
def no_command_is_running() -> Iterator[None]:
    """Whatever interrupts it, a command leaves its thread as it was; and what one test breaks harms no other."""
    yield
    from perdure.clock import running

    left, running.moment = running.moment, None
    assert left is None
