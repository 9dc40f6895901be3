"""Starts the real app and prints how long it takes to its first prediction and how much memory it holds then.

    python benchmarks/app_start.py [--model FILE] [--runs N]

Two times are printed: on the clock, and the process's own work (user and system CPU time), which says the same on a
machine that others use. The picture goes to /api/predict, which shares all but the drawing with the page.
"""

import argparse
import io
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import requests
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def measure(model: Path, folder: str) -> tuple[float, float, float]:
    """Start the app once; seconds on the clock, CPU seconds, and resident megabytes after the first prediction."""
    buffer = io.BytesIO()
    Image.effect_noise((745, 1040), 60).convert("RGB").save(buffer, "JPEG")
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app" / "main.py"), "--server.port", str(port)]
    started = time.perf_counter()
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment["MANASIGHT_MODEL"] = str(model)
    with (Path(folder) / "app.log").open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - this interpreter and a path of this repository
            command, cwd=folder, env=environment, stdout=output, stderr=output
        )
    try:
        while True:
            try:
                answer = requests.post(f"http://127.0.0.1:{port}/api/predict", data=buffer.getvalue(), timeout=30)
                break
            except requests.ConnectionError:
                if process.poll() is not None:
                    raise SystemExit((Path(folder) / "app.log").read_text()) from None
                time.sleep(0.005)
        clock = time.perf_counter() - started
        answer.raise_for_status()
        seen = psutil.Process(process.pid)
        times = seen.cpu_times()
        return clock, times.user + times.system, seen.memory_info().rss / 1024**2
    finally:
        process.terminate()
        process.wait(20)


def main() -> None:
    """Print the median of several starts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "starter" / "model.onnx")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = [measure(arguments.model.resolve(), folder) for _ in range(arguments.runs)]
    clock, work, memory = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"start to first prediction: {clock:.2f} s on the clock, {work:.2f} s of its own work (goal ≤ 1.5)")
    print(f"resident memory after it:  {memory:.0f} MB (goal ≤ 400)")
    sys.exit(work > 1.5 or memory > 400)


if __name__ == "__main__":
    main()
