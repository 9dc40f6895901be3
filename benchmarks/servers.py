"""What the benchmarks of servers share: starting one and waiting for it, free ports, memory, Chromium."""

import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import requests

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server(command: list[str], url: str, body: bytes | None = None, **environment: str) -> Iterator[psutil.Popen]:
    """A program that serves, in a folder of its own; yields its process once it answers well.

    Args:
        command: the program.
        url: what it is asked for, with GET, or with POST if there is a body.
        body: what is sent.
        environment: variables beside this process's own.

    Raises:
        SystemExit: with its last words, if it ends, or has not answered after two minutes.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = {"MANASIGHT_HOME": folder, "XDG_DATA_HOME": folder, "XDG_CONFIG_HOME": folder}
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = psutil.Popen(
                command, cwd=folder, env=os.environ | own | environment, stdout=output, stderr=output
            )
        try:
            deadline = time.monotonic() + 120
            while not _answers(url, body):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"nothing answers on {url}:\n{log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.005)
            yield process
        finally:
            if process.poll() is None:  # psutil refuses to end what has ended by itself
                process.terminate()
                try:
                    process.wait(60)
                except psutil.TimeoutExpired:
                    process.kill()
                    process.wait(60)


@contextmanager
def app(
    path: str = "/ready", body: bytes | None = None, main: Path = ROOT / "app" / "main.py", **environment: str
) -> Iterator[tuple[str, psutil.Popen]]:
    """The app without a registry; yields its address and its process once `path` answers, as `server` says."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "streamlit", "run", str(main), f"--server.port={port}"]
    with server(command, url + path, body, MLFLOW_TRACKING_URI="", **environment) as process:
        yield url, process


@contextmanager
def mlflow_server(folder: Path) -> Iterator[tuple[str, psutil.Popen]]:
    """MLflow with one worker on `folder/mlflow.db`; yields its address and its process once it answers."""
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"),
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    quiet["MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW"] = "35"  # as the image and `manasight serve` have it
    with server(command, f"{url}/health", **quiet) as process:
        yield url, process


def memory(process: psutil.Process) -> float:
    """Resident megabytes of a process and its children; one of these may end meanwhile."""
    total = process.memory_info().rss
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            total += child.memory_info().rss
    return total / 1e6


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of a process and its children, those that have ended included."""
    own = process.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            total += sum(child.cpu_times()[:2])
    return total


def chromium() -> str | None:
    """The distribution's Chromium or Chrome; None for the one that playwright installed."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def _answers(url: str, body: bytes | None) -> bool:
    try:
        return requests.request("GET" if body is None else "POST", url, data=body, timeout=30).ok
    except requests.RequestException:
        return False
