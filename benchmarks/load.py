"""Measures the app behind a sticky proxy, with 1 to 3 replicas, and MLflow with many runs at once.

    python benchmarks/load.py [--minutes 30] [--replicas 1 2 3] [--programs 6] [--visitors 1] [--runs 50]

The minutes are shared among the numbers of replicas. Programs send what programs send, in this mix: seven in ten one
small picture, the rest a scan, eight pictures at once, a heat map, a question about the model, or a file that is no
picture, which must be refused. Visitors are real Chromium pages that give the app a picture, look at its labels and
leave; that works only if uploads and page reach the same replica. Then MLflow, with one worker on SQLite, gets so many
runs at once, and is asked for all that it acknowledged. Needs Caddy and Chromium (Debian: caddy, `make chromium`).
"""

import argparse
import io
import os
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import mlflow
import numpy as np
import psutil
import requests
from PIL import Image
from playwright.sync_api import Error, sync_playwright
from servers import ROOT, app, chromium, free_port, memory, mlflow_server, server
from tqdm import tqdm

os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
SAMPLES = sorted((ROOT / "app" / "samples").glob("*.jpg"))


def print_times(name: str, seconds: list[float]) -> None:
    """One line: how many answers, and how long they took."""
    p50, p95, p99 = np.percentile(seconds, (50, 95, 99)) * 1000
    print(f"  {name:24}{len(seconds):7} answers{p50:8.0f} ms p50{p95:8.0f} ms p95{p99:8.0f} ms p99")


def mix() -> list[tuple[str, int, Callable[[requests.Session, str], requests.Response], int]]:
    """What programs ask: name, how many in a hundred, the request, and the status that is right."""
    small = SAMPLES[0].read_bytes()
    scan = io.BytesIO()
    Image.open(SAMPLES[0]).resize((1500, 2100)).save(scan, "JPEG", quality=90)
    eight = [("file", (path.name, path.read_bytes())) for path in SAMPLES]

    def post(data: bytes, query: str = "") -> Callable[[requests.Session, str], requests.Response]:
        return lambda session, url: session.post(f"{url}/api/predict{query}", data=data, timeout=120)

    return [
        ("a small picture", 70, post(small), 200),
        ("a scan of 1500×2100", 10, post(scan.getvalue()), 200),
        ("eight at once", 5, lambda session, url: session.post(f"{url}/api/predict", files=eight, timeout=120), 200),
        ("a heat map", 5, post(small, "?heatmap=creature"), 200),
        ("the model", 5, lambda session, url: session.get(f"{url}/api/model", timeout=120), 200),
        ("no picture", 5, post(b"no picture" * 1000), 422),
    ]


class Load:
    """Programs and visitors for some seconds, and what they met."""

    def __init__(self, url: str, seconds: float) -> None:
        """Where, and for how long."""
        self.url, self.end = url, time.monotonic() + seconds
        self.times: dict[str, list[float]] = {}
        self.faults: Counter[str] = Counter()
        self.lock = threading.Lock()

    def note(self, name: str, seconds: float, fault: str = "") -> None:
        """Keep one answer."""
        with self.lock:
            self.times.setdefault(name, []).append(seconds)
            if fault:
                self.faults[f"{name}: {fault}"] += 1

    def program(self, seed: int) -> None:
        """Ask until the end, as one client with its cookie, with pauses as for other work."""
        rng, kinds = random.Random(seed), mix()
        with requests.Session() as session:
            while time.monotonic() < self.end:
                ((name, _, ask, right),) = rng.choices(kinds, [kind[1] for kind in kinds])
                started = time.perf_counter()
                try:
                    status = ask(session, self.url).status_code
                    fault = "" if status == right else str(status)
                except requests.RequestException as error:
                    fault = type(error).__name__
                self.note(name, time.perf_counter() - started, fault)
                time.sleep(rng.expovariate(20))

    def visitor(self, seed: int) -> None:
        """Visit, give a picture, wait for its labels, leave; until the end."""
        rng = random.Random(seed)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
            while time.monotonic() < self.end:
                context = browser.new_context()
                started, fault = time.perf_counter(), ""
                try:
                    page = context.new_page()
                    page.goto(self.url)
                    page.locator(".st-key-files input[type=file]").set_input_files(rng.choice(SAMPLES))
                    page.get_by_role("list", name="Labels").get_by_role("listitem").first.wait_for()
                except Error as error:
                    fault = str(error).splitlines()[0]
                self.note("a visit with a picture", time.perf_counter() - started, fault)
                context.close()
                time.sleep(rng.uniform(1, 3))
            browser.close()

    def run(self, programs: int, visitors: int, processes: Sequence[psutil.Process]) -> None:
        """All of them at once; prints what they met and what the replicas hold."""
        seconds, before = self.end - time.monotonic(), [memory(process) for process in processes]
        people = [threading.Thread(target=self.program, args=(seed,)) for seed in range(programs)]
        people += [threading.Thread(target=self.visitor, args=(seed,)) for seed in range(visitors)]
        for person in people:
            person.start()
        with tqdm(total=round(seconds), unit="s", disable=None, leave=False) as bar:
            while (left := self.end - time.monotonic()) > 0:
                time.sleep(min(1, left))
                bar.update(1)
        for person in people:
            person.join()
        for name, times in sorted(self.times.items(), key=lambda item: -len(item[1])):
            print_times(name, times)
        whole = sum(map(len, self.times.values()))
        after = ", ".join(f"{old:.0f} → {memory(new):.0f}" for old, new in zip(before, processes, strict=True))
        print(f"  {whole / seconds:.1f} answers a second, {self.faults.total()} wrong {dict(self.faults) or ''}")
        print(f"  memory of the replicas, MB: {after}", flush=True)


def load_app(replicas: int, seconds: float, programs: int, visitors: int) -> None:
    """The app in so many processes behind Caddy."""
    port = free_port()
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        urls, processes = zip(*(stack.enter_context(app()) for _ in range(replicas)), strict=True)
        config = Path(folder) / "Caddyfile"
        upstreams = " ".join(url.removeprefix("http://") for url in urls)
        balance = f"reverse_proxy {upstreams} {{\n  lb_policy cookie replica secret\n }}"
        config.write_text(
            f"{{\n admin off\n auto_https off\n}}\nhttp://127.0.0.1:{port} {{\n bind 127.0.0.1\n {balance}\n}}\n"
        )
        proxy = ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]
        stack.enter_context(server(proxy, f"http://127.0.0.1:{port}/ready"))
        print(f"{replicas} replicas, {programs} programs, {visitors} visitors, {seconds:.0f} s")
        Load(f"http://127.0.0.1:{port}", seconds).run(programs, visitors, processes)


def load_mlflow(runs: int) -> None:
    """So many runs log at once; everything that was acknowledged is asked for afterwards."""
    with tempfile.TemporaryDirectory() as folder, mlflow_server(Path(folder)) as (url, process):
        client, before = mlflow.MlflowClient(url), memory(process)
        experiment = client.create_experiment("load")
        blob = Path(folder) / "blob"
        blob.write_bytes(random.Random(0).randbytes(1_000_000))
        times: dict[str, list[float]] = {"a batch of 50 metrics": [], "an artifact of 1 MB": [], "begin or end": []}

        def timed(name: str, call: Callable, *words: object) -> object:
            started = time.perf_counter()
            result = call(*words)
            times[name].append(time.perf_counter() - started)
            return result

        def one(number: int) -> str:
            run = timed("begin or end", client.create_run, experiment).info.run_id
            for epoch in range(20):
                points = [mlflow.entities.Metric(f"m{k}", number + epoch / 100, 0, epoch) for k in range(50)]
                timed("a batch of 50 metrics", client.log_batch, run, points)
            timed("an artifact of 1 MB", client.log_artifact, run, str(blob))
            timed("begin or end", client.set_terminated, run)
            return run

        started = time.perf_counter()
        with ThreadPoolExecutor(runs) as pool:
            made = list(tqdm(pool.map(one, range(runs)), total=runs, unit="run", disable=None, leave=False))
        seconds = time.perf_counter() - started
        for number, run in enumerate(made):
            history = client.get_metric_history(run, "m49")
            whole = [point.value for point in history] == [number + epoch / 100 for epoch in range(20)]
            whole &= [item.file_size for item in client.list_artifacts(run)] == [1_000_000]
            if not (whole and client.get_run(run).info.status == "FINISHED"):
                raise SystemExit(f"MLflow lost a part of run {run}")
        kept = f"{runs * 1000} metrics and {runs} artifacts"
        print(f"MLflow, {runs} runs at once: {seconds:.1f} s, nothing lost of {kept}")
        for name, values in times.items():
            print_times(name, values)
        print(f"  memory, MB: {before:.0f} → {memory(process):.0f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--replicas", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--programs", type=int, default=6)
    parser.add_argument("--visitors", type=int, default=1)
    parser.add_argument("--runs", type=int, default=50, help="of MLflow at once; 0 leaves it out")
    options = parser.parse_args()
    if options.replicas and not shutil.which("caddy"):
        raise SystemExit("this needs the proxy Caddy: apt-get install caddy, or https://caddyserver.com")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    for replicas in options.replicas:
        load_app(replicas, options.minutes * 60 / len(options.replicas), options.programs, options.visitors)
    if options.runs:
        load_mlflow(options.runs)


if __name__ == "__main__":
    main()
