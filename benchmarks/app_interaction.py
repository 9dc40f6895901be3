"""Measures what a visitor waits for: from a key or a click to the changed page, in a real Chromium.

    python benchmarks/app_interaction.py [--rounds N]

The page itself takes the times: from the event to the first moment at which the page shows what was asked for, and from
the moment at which the browser sent it. Between the two, Streamlit's slider waits 200 ms for the hand to rest. None of
these needs an inference; the first line is one, for comparison. Needs Chromium (`make chromium`).
"""

import argparse
import statistics
import time
from collections.abc import Callable

import requests
from playwright.sync_api import Page, sync_playwright
from servers import ROOT, app, chromium

SAMPLES = sorted((ROOT / "app/samples").glob("*.jpg"))

# `shows` is a function in the page's language; the clock runs from the next event of the kind to its first truth.
WATCH = """([kind, shows]) => {
  const holds = eval(shows);
  window.waited = new Promise((resolve, reject) => {
    setTimeout(() => reject(`no ${shows} within 10 s of a ${kind}`), 10000);
    addEventListener(kind, (event) => {
      const start = performance.now();
      window.sent = undefined;
      const look = () => {
        if (!holds()) return;
        const now = performance.now();
        resolve([now - start, now - window.sent]);
        observer.disconnect();
      };
      const observer = new MutationObserver(look);
      observer.observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
    }, { capture: true, once: true });
  });
}"""
# Notes when the page first sent something to the server after an event.
NOTE_SENT = """
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) { window.sent ??= performance.now(); return send.call(this, data); };
"""
MARK = "document.querySelector('.ms-mark')?.style.left"
PICTURE = "document.querySelector('[data-testid=stImage] img')?.src"


def timed(page: Page, kind: str, shows: str, act: Callable[[], None]) -> tuple[float, float]:
    """Milliseconds to the page that shows what was asked for: from the event, and from when the browser sent it."""
    page.evaluate(WATCH, [kind, f"() => {shows}"])
    act()
    found = page.evaluate("window.waited")
    page.wait_for_timeout(300)  # the page has settled before the next event
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with app() as (address, _):
        measure(address, options.rounds)


def measure(address: str, rounds: int) -> None:
    """Open the page and print the median and the worst time of each interaction."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page()
        page.add_init_script(NOTE_SENT)
        page.goto(address)
        body = SAMPLES[0].read_bytes()
        inference = []
        for _ in range(rounds):
            started = time.perf_counter()
            requests.post(f"{address}/api/predict", data=body, headers={"Content-Type": "image/jpeg"}, timeout=60)
            inference.append((time.perf_counter() - started) * 1000)

        page.locator(".st-key-files input[type=file]").set_input_files(SAMPLES[0])
        page.get_by_role("table").first.wait_for()
        slider = page.get_by_role("slider")
        shift, heat = [], []
        for index in range(rounds):
            slider.focus()
            before = page.evaluate(MARK)
            key = "ArrowRight" if index % 2 == 0 else "ArrowLeft"
            shift.append(timed(page, "keydown", f"{MARK} !== {before!r}", lambda key=key: page.keyboard.press(key)))
        pills = page.get_by_test_id("stPills" if page.get_by_test_id("stPills").count() else "stButtonGroup").last
        buttons = pills.get_by_role("radio" if pills.get_by_role("radio").count() else "button")
        for index in range(rounds):
            before = page.evaluate(PICTURE)
            button = buttons.nth(index % 2)
            heat.append(timed(page, "click", f"{PICTURE} !== {before!r} && {PICTURE}", button.click))

        page.goto(address)
        page.get_by_role("button", name="Try these samples").click()
        page.locator(".ms-name").nth(len(SAMPLES) - 1).wait_for()
        cells = "document.querySelectorAll('.ms-name').length"
        wanted = page.get_by_role("button", name="creature").first
        creatures = sum("creature" in path.stem for path in SAMPLES)
        pick = [
            timed(page, "click", f"{cells} === {(len(SAMPLES), creatures)[index % 2 == 0]}", wanted.click)
            for index in range(rounds)
        ]
        browser.close()
    print(f"{'':18}{'median':>10}{'worst':>10}{'of it, sent to shown':>24}{'worst':>10}")
    print(f"{'/api/predict':18}{statistics.median(inference):7.0f} ms{max(inference):7.0f} ms")
    for name, values in (("threshold moved", shift), ("heat map", heat), ("filter of a grid", pick)):
        whole, answer = zip(*values, strict=True)
        figures = (statistics.median(whole), max(whole), statistics.median(answer), max(answer))
        print(f"{name:18}{figures[0]:7.0f} ms{figures[1]:7.0f} ms{figures[2]:21.0f} ms{figures[3]:7.0f} ms")


if __name__ == "__main__":
    main()
