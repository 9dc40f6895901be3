"""A real headless Chromium for the tests of the page."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Error, Page, expect, sync_playwright

# What Chromium would do by itself and a test must not wait for or depend on: updates, syncing, first-run pages, QUIC.
QUIET = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The distribution's Chromium or Chrome, else the one that playwright installed."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    # Chromium's sandbox refuses to run as root, which is who runs the tests in a container.
    expect.set_options(timeout=60_000)  # a page takes its time on a machine that trains meanwhile
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=found, args=QUIET + root)
        except Error as error:
            pytest.fail(
                "No Chromium to test the page with: install it (Debian: apt-get install chromium; elsewhere: "
                f"playwright install chromium). {str(error).splitlines()[0]}",
                pytrace=False,
            )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page at a laptop's size; what its scripts, its security policy or the app complain of fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: "Content Security Policy" in said.text and errors.append(said.text))
    yield page
    boxes = page.get_by_test_id("stException").all_inner_texts()
    context.close()
    assert not errors, f"the page's scripts failed: {errors}"
    assert not boxes, f"the app failed: {boxes}"
