"""The page for people in a real browser: Debian's chromium, without a window, driven by selenium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration._servers import unavailable
from tests.server._process import BOTH, WRITER, Served

HOSTILE = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("page"), "--keep-history", "--durability", "everysec") as server:
        for number in range(30):
            server.call("write", f"page {number}", "some text " * (number + 1))
        server.call("write", HOSTILE, HOSTILE)
        server.call("add_note", {"text": "water the plants", "at": "2024-05-06T07:08:09Z"}, "home")
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        unavailable("chromium", "apt-get install chromium chromium-driver")
    try:
        from selenium import webdriver
    except ImportError:
        unavailable("chromium", "pip install selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    folder = tmp_path_factory.mktemp("chromium")
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1280,1000",
        "--no-first-run", "--disable-extensions", "--disable-background-networking", "--force-device-scale-factor=1",
        f"--user-data-dir={folder}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver, env={**os.environ, "HOME": str(folder)})
    started = webdriver.Chrome(options=options, service=service)
    try:
        started.set_page_load_timeout(60)
        yield started
    finally:
        started.quit()


def wait_for(browser: Any, condition: Any, what: str) -> Any:
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    # What was found may have been written anew before it was read: then it is looked for again.
    ignored = (StaleElementReferenceException,)
    return WebDriverWait(browser, 30, 0.1, ignored).until(lambda _: condition(), what)


def log_in(browser: Any, server: Served, token: str) -> None:
    browser.delete_all_cookies()
    browser.get(server.url)
    browser.find_element("id", "token").send_keys(token)
    browser.find_element("css selector", "form button").click()
    wait_for(browser, lambda: browser.find_elements("id", "figures"), "no page behind the form")


def tree(browser: Any) -> str:
    # Also what is folded in, which `text` would leave out.
    return str(browser.find_element("id", "state").get_attribute("textContent"))


@pytest.mark.timeout(240)
def test_a_person_logs_in_and_looks_at_the_past(filled: Served, browser: Any, tmp_path: Path) -> None:
    browser.get(filled.url)
    browser.find_element("id", "token").send_keys("not the right one")
    browser.find_element("css selector", "form button").click()
    wait_for(browser, lambda: "not known" in browser.page_source, "a wrong token says nothing")
    log_in(browser, filled, BOTH)
    assert "page 29" in tree(browser)
    assert "water the plants" in tree(browser)

    # The slider, as a hand would move it: what it shows comes without a new page.
    browser.execute_script("window.kept = true")
    slider = browser.find_element("id", "slider")
    assert slider.get_attribute("max") == "32"
    browser.execute_script(
        "arguments[0].value = 5; arguments[0].dispatchEvent(new Event('input'));"
        "arguments[0].dispatchEvent(new Event('change'));",
        slider,
    )
    wait_for(browser, lambda: browser.find_element("id", "shown-seq").text == "5", "the past is not shown")
    assert "page 4" in tree(browser)
    assert "page 5" not in tree(browser)
    assert browser.find_element("id", "seq").get_attribute("value") == "5"
    assert browser.execute_script("return window.kept")
    assert browser.current_url.endswith("?seq=5")

    # What others do appears by itself.
    filled.call("write", "while you look", "x")
    wait_for(
        browser, lambda: "while you look" in browser.find_element("id", "figures").text, "the figures do not come anew"
    )
    assert browser.find_element("id", "slider").get_attribute("max") == "33"


@pytest.mark.timeout(240)
def test_nothing_that_is_stored_runs_and_the_policy_holds(filled: Served, browser: Any) -> None:
    log_in(browser, filled, BOTH)
    assert "<script>document.title=" in tree(browser)
    assert browser.title == "Wiki · perdure"
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'document.title = \"inline\"';"
        "document.body.append(s);"
    )
    assert browser.title == "Wiki · perdure"
    assert browser.get_cookies()[0]["httpOnly"]
    assert browser.execute_script("return document.cookie") == ""
    errors = [each["message"] for each in browser.get_log("browser") if "Content Security Policy" in each["message"]]
    assert len(errors) == 1, errors  # The one that this test made.


@pytest.mark.timeout(240)
def test_who_may_not_read_sees_no_values_in_the_browser_either(filled: Served, browser: Any) -> None:
    log_in(browser, filled, WRITER)
    text = browser.find_element("tag name", "body").text
    assert "may not read" in text
    assert "page 29" not in text
    assert not browser.find_elements("id", "slider")
    browser.find_element("css selector", "button.quiet").click()
    wait_for(browser, lambda: browser.find_elements("id", "token"), "leaving does not end the session")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_screen_in_light_and_dark(filled: Served, browser: Any, scheme: str, tmp_path: Path) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    log_in(browser, filled, BOTH)
    grounds = {"light": "rgb(244, 246, 249)", "dark": "rgb(18, 22, 28)"}
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == grounds[scheme]
    wide = browser.execute_script("return document.documentElement.scrollWidth > document.documentElement.clientWidth")
    assert not wide
    folder = Path(os.environ.get("PERDURE_SCREENSHOTS", tmp_path))
    path = folder / f"page-{scheme}.png"
    assert browser.save_screenshot(str(path))
    assert path.stat().st_size > 20_000
