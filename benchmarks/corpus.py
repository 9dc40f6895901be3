"""Sends every file of a folder to a running app and says how it coped: statuses, slowest files, failures and hangs.

    python benchmarks/corpus.py FOLDER [--url http://127.0.0.1:8501] [--clients N] [--limit SECONDS]

For folders of odd, broken or hostile images. Exits with 1 if an answer was a 5xx or did not come in time, if the
connection broke, or if /ready took longer than a second meanwhile.
"""

import argparse
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tqdm import tqdm

READY_SECONDS = 1.0
SLOWEST = 5


class Sent(NamedTuple):
    """One file's answer; status 0 if there was none."""

    path: Path
    status: int
    seconds: float
    said: str


def send(url: str, path: Path, limit: float) -> Sent:
    """Ask for a prediction of one file."""
    parts = urlsplit(url)
    started = time.perf_counter()
    try:
        with closing(HTTPConnection(parts.hostname, parts.port, timeout=limit)) as connection:
            headers = {"Content-Type": "application/octet-stream"}
            connection.request("POST", f"{parts.path}/api/predict", path.read_bytes(), headers)
            answer = connection.getresponse()
            status, said = answer.status, answer.read().decode(errors="replace")
    except (OSError, HTTPException) as error:
        status, said = 0, f"{type(error).__name__}: {error}"
    return Sent(path, status, time.perf_counter() - started, said)


def watch(url: str, ended: threading.Event, times: list[float], limit: float) -> None:
    """Ask /ready again and again; infinity for an answer that is not 200."""
    parts = urlsplit(url)
    while not ended.wait(0.1):
        started = time.perf_counter()
        try:
            with closing(HTTPConnection(parts.hostname, parts.port, timeout=limit)) as connection:
                connection.request("GET", f"{parts.path}/ready")
                answer = connection.getresponse()
                answer.read()
                times.append(time.perf_counter() - started if answer.status == 200 else float("inf"))
        except (OSError, HTTPException):
            times.append(float("inf"))


def main() -> None:
    """Send everything and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8501")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--limit", type=float, default=90.0, help="seconds for one answer")
    options = parser.parse_args()
    paths = sorted(path for path in options.folder.rglob("*") if path.is_file())
    if not paths:
        parser.error(f"there are no files in {options.folder}")
    url, ended, ready = options.url.rstrip("/"), threading.Event(), []
    watcher = threading.Thread(target=watch, args=(url, ended, ready, options.limit), daemon=True)
    watcher.start()
    with ThreadPoolExecutor(options.clients) as pool:
        answers = pool.map(lambda path: send(url, path, options.limit), paths)
        found = list(tqdm(answers, "sending", len(paths), unit="file", disable=None))
    ended.set()
    watcher.join()

    print(f"{len(found)} files")
    for status, count in sorted(Counter(one.status for one in found).items()):
        print(f"  {status or 'no answer'}: {count}")
    print("slowest:")
    for one in sorted(found, key=lambda one: -one.seconds)[:SLOWEST]:
        print(f"  {one.seconds:6.2f} s  {one.status}  {one.path}")
    print(f"/ready: {len(ready)} answers, slowest {max(ready, default=0):.2f} s")
    failed = [one for one in found if one.status == 0 or one.status >= 500]
    for one in failed:
        print(f"FAILED {one.status} {one.path}: {one.said[:200]}")
    if failed or max(ready, default=0) > READY_SECONDS:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
