"""Sends honest and hostile requests to an app for a while, and counts restarts and honest requests that went wrong.

    python benchmarks/soak.py [--minutes 30] [--seed 0] [--image manasight/app --memory 1g]

With `--image` the app runs in a container of that much memory without swap; without it, as a process of this machine.
Honest clients predict drawn cards and compare every answer with the first one, ask /ready and /api/model, and visit the
page. Hostile ones send the files of tests/unit/hostile_files.py, forms and chunks without end, connections that drip,
and floods of WebSocket frames. Exits with 1 if the app restarted or ended, or if an honest request was wrong: another
answer, a status other than 200, or none within a minute. 429 and 503 with a sentence count as refused: an honest client
tries again after a second, and goes wrong after ten tries.
"""

import argparse
import json
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import psutil
import requests
from servers import ROOT, app, free_port, memory
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

SAMPLES = sorted((ROOT / "app" / "samples").glob("*.jpg"))
ANSWER_SECONDS, TRIES = 60.0, 10
REPORT_SECONDS = 60.0


class Watched:
    """The app under test: its address, memory in MB, and how often it ended."""

    def __init__(self, url: str, memory_now: Callable[[], float], restarts: Callable[[], int]) -> None:
        """Two functions that look at the running app."""
        self.url, self.memory_now, self.restarts = url, memory_now, restarts


@contextmanager
def as_process() -> Iterator[Watched]:
    """The app of this checkout."""
    with app() as (url, process):
        yield Watched(url, lambda: memory(process), lambda: int(not process.is_running()))


@contextmanager
def as_container(image: str, limit: str, checkout: bool) -> Iterator[Watched]:
    """An image's app, as compose runs it: read-only, without privileges, and with this much memory.

    With `checkout`, its code is this checkout's.
    """
    port = free_port()
    options = ["--memory", limit, "--memory-swap", limit, "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"]  # noqa: S108 - in the container
    if checkout:
        for folder in ("app", "contract"):
            options += ["--volume", f"{ROOT / folder}:/opt/manasight/{folder}:ro"]
    command = ["docker", "run", "--detach", "--restart", "on-failure", *options, "--publish", f"127.0.0.1:{port}:8501"]
    name = _output([*command, image])
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 240
        while not _is_ready(url):
            if time.monotonic() > deadline:
                raise SystemExit(f"the container does not become ready:\n{_output(['docker', 'logs', name])[-2000:]}")
            time.sleep(0.5)
        started = _inspect(name, "{{.State.StartedAt}}")

        def restarts() -> int:
            return int(_inspect(name, "{{.RestartCount}}")) + (_inspect(name, "{{.State.StartedAt}}") != started)

        yield Watched(url, lambda: _container_memory(name), restarts)
    finally:
        _output(["docker", "rm", "--force", "--volumes", name])


def _output(command: list[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - words of this file
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:3])} failed: {done.stderr.strip()[-500:]}")
    return done.stdout.strip()


def _inspect(name: str, field: str) -> str:
    return _output(["docker", "inspect", "--format", field, name])


def _container_memory(name: str) -> float:
    """Megabytes, without the page cache, as the kernel counts them for the limit."""
    text = _output(["docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", name]).split("/")[0].strip()
    units = {"GiB": 1024**3 / 1e6, "MiB": 1024**2 / 1e6, "KiB": 1024 / 1e6}
    return next((float(text.removesuffix(unit)) * size for unit, size in units.items() if text.endswith(unit)), 0.0)


def _is_ready(url: str) -> bool:
    with suppress(requests.RequestException):
        return requests.get(f"{url}/ready", timeout=5).ok
    return False


class Soak:
    """Clients that go on until the time is over, and what they met."""

    def __init__(self, url: str, seconds: float, seed: int) -> None:
        """Nothing is sent yet."""
        self.url, self.seed = url, seed
        self.end = time.monotonic() + seconds
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.lock = threading.Lock()
        self.expected: dict[str, str] = {}
        parts = urlsplit(url)
        self.address = (parts.hostname or "", parts.port or 80)
        sys.path.insert(0, str(ROOT / "tests" / "unit"))
        from hostile_files import HOSTILE

        self.files = {name: make() for name, make in HOSTILE.items()}

    def count(self, name: str) -> None:
        """One more of something."""
        with self.lock:
            self.counts[name] += 1

    def repeat(self, name: str, number: int, act: Callable[[random.Random], None], pause: float) -> None:
        """One client: does something again and again, with pauses."""
        rng = random.Random(f"{self.seed} {name} {number}")
        while time.monotonic() < self.end:
            try:
                act(rng)
            except (OSError, requests.RequestException) as error:
                if name.startswith("honest"):
                    self.wrong.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
            except Exception as error:
                self.wrong.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
            self.count(name)
            time.sleep(rng.expovariate(1 / pause))

    # Honest clients

    def ask(self, method: str, path: str, **options: object) -> requests.Response:
        """An answer of 200 after at most ten tries."""
        for _ in range(TRIES):
            answer = requests.request(method, self.url + path, timeout=ANSWER_SECONDS, **options)
            if answer.status_code not in (429, 503):
                break
            self.count(f"refused {answer.status_code}")
            time.sleep(1)
        if not answer.ok:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:150]}")
        return answer

    def predict(self, rng: random.Random) -> None:
        """One card, or several in a form: the same labels every time."""
        chosen = rng.sample(SAMPLES, rng.choice((1, 1, 1, 4, 8)))
        files = [("file", (path.name, path.read_bytes())) for path in chosen]
        for path, found in zip(chosen, self.ask("POST", "/api/predict", files=files).json()["images"], strict=True):
            labels = json.dumps(found.get("labels"))
            with self.lock:
                expected = self.expected.setdefault(path.name, labels)
            if labels != expected or labels == "null":
                raise RuntimeError(f"{path.name}: {found}, expected {expected}")

    def heat_map(self, rng: random.Random) -> None:
        """A heat map of a card."""
        path = rng.choice(SAMPLES)
        answer = self.ask("POST", f"/api/predict?heatmap={path.stem.split('-')[0]}", data=path.read_bytes())
        if not answer.content.startswith(b"\x89PNG"):
            raise RuntimeError("a heat map is not a PNG")

    def look(self, _rng: random.Random) -> None:
        """What probes and clients ask."""
        self.ask("GET", "/api/model")
        self.ask("GET", "/ready")

    def visit(self, _rng: random.Random) -> None:
        """Open the page and wait until it is drawn."""
        with self.page() as page:
            message = BackMsg()
            message.rerun_script.query_string = ""
            page.send(message.SerializeToString())
            self.wait_for_page(page)

    def page(self) -> ClientConnection:
        """The page's WebSocket."""
        address = f"{self.url.replace('http', 'ws', 1)}/_stcore/stream"
        return connect(address, subprotocols=["streamlit"], max_size=None, open_timeout=ANSWER_SECONDS)

    @staticmethod
    def wait_for_page(page: ClientConnection) -> None:
        """Read until the script has finished."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline:
            found = ForwardMsg.FromString(page.recv(timeout=ANSWER_SECONDS))
            if found.WhichOneof("type") == "script_finished":
                return
        raise RuntimeError("the page was not drawn")

    # Hostile clients

    def hostile_file(self, rng: random.Random) -> None:
        """One file that costs a decoder its limits, or several."""
        names = rng.choices(list(self.files), k=rng.choice((1, 1, 1, 6)))
        files = [("file", (name, self.files[name])) for name in names]
        query = rng.choice(("", "", "?heatmap=creature"))
        answer = requests.post(f"{self.url}/api/predict{query}", files=files, timeout=120)
        if answer.status_code >= 500 and answer.status_code != 503:
            raise RuntimeError(f"{names}: {answer.status_code}")

    def hostile_bytes(self, rng: random.Random) -> None:
        """A request that never ends as it should."""
        head = b"POST /api/predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n"
        pieces = rng.choice(
            (
                (chunked + b"1\r\nx\r\n" * 100_000, 10, 0),
                (chunked + b"1;" + b"e" * 2_000_000, 1, 1),
                (head + b"Content-Length: 60000000\r\n\r\n" + bytes(1_000_000), 1, 3),
                (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 100_000, 3, 0),
                (b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n" * 5_000, 1, 0),
                (rng.randbytes(10_000), 3, 1),
            )
        )
        with socket.create_connection(self.address, timeout=20) as connection:
            for _ in range(pieces[1]):
                connection.sendall(pieces[0])
                time.sleep(pieces[2])

    def hostile_page(self, rng: random.Random) -> None:
        """A WebSocket that floods."""
        frame, times = rng.choice(
            (
                (b"\x82\xff" + struct.pack("!Q", 60_000_000) + bytes(4) + bytes(20_000_000), 1),
                (b"\x89\x80" + bytes(4), 500_000),
                (b"\x82\x80" + bytes(4), 500_000),
                (b"\x82\x86" + bytes(4) + rng.randbytes(6), 10_000),
            )
        )
        with self.page() as page, suppress(OSError):
            page.socket.settimeout(20)
            page.socket.sendall(frame * times)

    def drip(self, _rng: random.Random) -> None:
        """Connections that never finish their head."""
        found = [socket.create_connection(self.address, timeout=20) for _ in range(40)]
        for connection in found:
            connection.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\nX-a: ")
        time.sleep(15)
        for connection in found:
            connection.close()

    def run(self, watched: Watched) -> float:
        """Start all clients and report every minute until they end; the most memory that was seen, in MB."""
        clients = {
            "honest prediction": (self.predict, 3, 0.5),
            "honest heat map": (self.heat_map, 1, 3.0),
            "honest look": (self.look, 1, 1.0),
            "honest visit": (self.visit, 1, 3.0),
            "hostile file": (self.hostile_file, 2, 2.0),
            "hostile bytes": (self.hostile_bytes, 1, 4.0),
            "hostile page": (self.hostile_page, 1, 5.0),
            "hostile drip": (self.drip, 1, 10.0),
        }
        threads = [
            threading.Thread(target=self.repeat, args=(name, number, act, pause), daemon=True)
            for name, (act, count, pause) in clients.items()
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        most, reported = 0.0, time.monotonic()
        while any(thread.is_alive() for thread in threads):
            time.sleep(2)
            with suppress(psutil.Error):
                most = max(most, watched.memory_now())
            if time.monotonic() - reported > REPORT_SECONDS:
                reported = time.monotonic()
                left = max(0.0, self.end - reported) / 60
                print(
                    f"{left:5.1f} min left, {most:.0f} MB at most, wrong: {len(self.wrong)}, {dict(self.counts)}",
                    flush=True,
                )
        return most


def main() -> None:
    """Soak and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--image", default="", help="an image of the app; without one, the app of this checkout")
    parser.add_argument("--memory", default="1g", help="of the container, which gets no swap")
    parser.add_argument("--checkout", action="store_true", help="run this checkout's code in the image")
    options = parser.parse_args()
    container = options.image and as_container(options.image, options.memory, options.checkout)
    with container or as_process() as watched:
        soak = Soak(watched.url, 60 * options.minutes, options.seed)
        most = soak.run(watched)
        restarts = watched.restarts()
    for name, count in sorted(soak.counts.items()):
        print(f"{count:7} {name}")
    for sentence in soak.wrong[:20]:
        print(f"WRONG {sentence}")
    print(f"{options.minutes:g} minutes: {restarts} restarts, {len(soak.wrong)} wrong, at most {most:.0f} MB")
    raise SystemExit(1 if restarts or soak.wrong else 0)


if __name__ == "__main__":
    main()
