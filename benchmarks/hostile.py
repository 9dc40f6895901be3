"""Sends hostile files one by one to an app of its own, and prints what each costs the app and everybody else.

    python benchmarks/hostile.py [FOLDER] [--app app/main.py] [--only WORD] [--limit SECONDS]

Without a folder, the files are those of tests/unit/hostile.py. Meanwhile one client asks /ready and another one for
predictions of an ordinary image. The bounds for a request of at most 10 MB are 5 s of CPU time, 300 MB, /ready within
1 s, and three times the idle p95 for the other client; exits with 1 if a file exceeds one of them.
"""

import argparse
import contextlib
import io
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import requests
from PIL import Image
from servers import ROOT, app, cpu_seconds, memory

CPU_SECONDS, MEGABYTES, READY_SECONDS, SLOWER = 5.0, 300.0, 1.0, 3.0
IDLE_SECONDS = 6.0


def ordinary() -> bytes:
    """A JPEG of the size of a card."""
    buffer = io.BytesIO()
    Image.effect_noise((390, 550), 60).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


@dataclass
class Others:
    """What the other clients saw, in seconds for each answer, and the most memory that the app took, in MB.

    An answer that is not 200, or does not come, counts as infinity.
    """

    ready: list[float] = field(default_factory=list)
    predictions: list[float] = field(default_factory=list)
    peak: float = 0.0

    @property
    def p95(self) -> float:
        """Of the predictions."""
        return float(np.percentile(self.predictions, 95, method="higher")) if self.predictions else 0.0


@contextlib.contextmanager
def watched(url: str, process: psutil.Process, image: bytes, limit: float) -> Iterator[Others]:
    """Ask the app as two other clients, and look at its memory, until the block ends."""
    others, ended = Others(), threading.Event()

    def ask(path: str, body: bytes | None, times: list[float], pause: float) -> None:
        session = requests.Session()
        while not ended.wait(pause):
            started = time.perf_counter()
            try:
                answer = session.request("GET" if body is None else "POST", url + path, data=body, timeout=limit)
                times.append(time.perf_counter() - started if answer.ok else float("inf"))
            except requests.RequestException:
                times.append(float("inf"))

    def look() -> None:
        while not ended.wait(0.02):
            with contextlib.suppress(psutil.Error):
                others.peak = max(others.peak, memory(process))

    threads = [
        threading.Thread(target=look),
        threading.Thread(target=ask, args=("/ready", None, others.ready, 0.1)),
        threading.Thread(target=ask, args=("/api/predict", image, others.predictions, 0.15)),
    ]
    for thread in threads:
        thread.start()
    try:
        yield others
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def measure(name: str, data: bytes, main: Path, limit: float) -> bool:
    """Send one file and print its line; whether it kept within the bounds."""
    image = ordinary()
    with app("/api/predict", image, main=main) as (url, process):
        cpu = cpu_seconds(process)
        with watched(url, process, image, limit) as idle:
            time.sleep(IDLE_SECONDS)
        usual = (cpu_seconds(process) - cpu) / max(1, len(idle.predictions))
        resting, cpu, started = memory(process), cpu_seconds(process), time.perf_counter()
        with watched(url, process, image, limit) as others:
            try:
                answer = requests.post(
                    f"{url}/api/predict", data=data, headers={"Content-Type": "image/jpeg"}, timeout=limit
                )
                status, said = str(answer.status_code), answer.text
            except requests.RequestException as error:
                status, said = type(error).__name__, ""
            seconds = time.perf_counter() - started
        spent = cpu_seconds(process) - cpu - usual * len(others.predictions)
    grown = max(0.0, others.peak - resting)
    ready = max(others.ready, default=0.0)
    fine = (
        spent <= CPU_SECONDS
        and grown <= MEGABYTES
        and ready <= READY_SECONDS
        and others.p95 <= SLOWER * idle.p95
        and status in ("200", "422")
    )
    cells = [name, f"{len(data) / 1e6:.2f}", status, f"{seconds:.1f}", f"{max(0.0, spent):.1f}", f"{grown:.0f}"]
    cells += [f"{ready:.2f}", f"{1000 * idle.p95:.0f} → {1000 * others.p95:.0f}", "" if fine else "exceeds a bound"]
    print(f"| {' | '.join(cells)} |", flush=True)
    if not fine and said:
        print(f"  {said[:160]}", file=sys.stderr)
    return fine


def main() -> None:
    """Send every file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--app", type=Path, default=ROOT / "app" / "main.py")
    parser.add_argument("--only", default="", help="only files whose names contain this")
    parser.add_argument("--limit", type=float, default=90.0, help="seconds to wait for one answer")
    options = parser.parse_args()
    if options.folder:
        files = {path.name: path.read_bytes for path in sorted(options.folder.rglob("*")) if path.is_file()}
    else:
        sys.path.insert(0, str(ROOT / "tests" / "unit"))
        import hostile_files as made

        files = made.HOSTILE
    chosen = {name: make for name, make in files.items() if options.only in name}
    if not chosen:
        parser.error("there are no files to send")
    print("| file | MB | status | s | CPU s | memory MB | slowest /ready s | others' p95 ms, idle → then | |")
    print("|---|---|---|---|---|---|---|---|---|")
    results = [measure(name, make(), options.app.resolve(), options.limit) for name, make in chosen.items()]
    raise SystemExit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
