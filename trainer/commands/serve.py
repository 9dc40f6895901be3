"""`manasight serve`: the app and MLflow's page on this machine, started together and stopped together."""

import errno
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import requests

from contract.environment import bypass_proxies
from contract.registry import ALIAS, model_name
from trainer.errors import UserError
from trainer.paths import database_uri, make_home

# Seconds that a server may take to answer, the app to take over the champion, and a server to end once it is asked to.
START, CHAMPION, STOP = 120, 20, 10
# The ports' options, and what `make demo` takes in their place.
PORTS = ("--port (make demo: PORT=…)", "--mlflow_port (make demo: MLFLOW_PORT=…)")
# What stands for every address of this machine → where this machine itself asks.
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - an address to compare or to listen on in a container


def serve(port: int = 8501, mlflow_port: int = 5000, address: str = "127.0.0.1", check: bool = False) -> None:
    """Serve the champion in the app, and MLflow's page on the runs of this folder, until Ctrl-C.

    Args:
        port: the app's port.
        mlflow_port: MLflow's port.
        address: where both listen; 0.0.0.0 lets other machines in, and :: those with IPv6 too.
        check: only look whether the ports are free.
    """
    if port == mlflow_port:
        raise UserError(f"the app and MLflow cannot share port {port}; choose another with {' or '.join(PORTS)}")
    for number, option in zip((port, mlflow_port), PORTS, strict=True):
        require_free(address, number, option)
    if check:
        return
    found = importlib.util.find_spec("app")
    main = Path(str(found.origin)).with_name("main.py") if found else None
    # A copy of the package alone lacks the page's files and the starter.
    if (
        main is None
        or not (main.parent / "page" / "page.css").is_file()
        or importlib.util.find_spec("streamlit") is None
    ):
        raise UserError("the app is not installed here; install it with `pip install -e .[app]` in Manasight's folder")
    home = make_home().resolve()
    host = WILDCARDS.get(address, address)
    bypass_proxies(host)
    host = f"[{host}]" if ":" in host else host
    page, here = f"http://{host}:{port}", f"http://{host}:{mlflow_port}"
    mlflow = [
        # With one worker asyncio opens the socket: for it `::` is IPv6 only, and no name is every address.
        *("-m", "mlflow", "server", "--host", "" if address == "::" else address),
        *("--port", str(mlflow_port), "--workers", "1"),
        *("--backend-store-uri", database_uri(home / "mlflow.db")),
        *("--artifacts-destination", (home / "artifacts").as_uri()),
    ]
    app = [
        *("-m", "streamlit", "run", str(main), "--server.headless", "true"),
        *("--server.port", str(port), "--server.address", address),
    ]
    # MLflow's job runner and its consumers would take 2 GB and are not needed for a page.
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    # A connection for each of its 40 threads.
    quiet["MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW"] = os.environ.get("MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW") or "35"
    if address not in ("127.0.0.1", *WILDCARDS):
        # MLflow refuses requests to addresses that are neither localhost nor private, the app's too.
        own = ",".join(f"{name}:{mlflow_port}" for name in (host, "localhost", "127.0.0.1"))
        quiet["MLFLOW_SERVER_ALLOWED_HOSTS"] = os.environ.get("MLFLOW_SERVER_ALLOWED_HOSTS") or own
        # And its own page's, whose searches are POST requests.
        quiet["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = os.environ.get("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS") or here
    servers = [
        (mlflow, home / "mlflow.log", quiet, f"{here}/health"),
        (app, home / "app.log", {"MLFLOW_TRACKING_URI": here}, f"{page}/ready"),
    ]
    running: list[subprocess.Popen] = []
    try:
        # One after the other: the app looks for a champion once it is there, and then for half a minute not again.
        for command, log, environment, url in servers:
            running.append(start(command, log, environment))
            wait_until_ready(running[-1], log, url)
        wait_for_champion(page, here)
        shown = "localhost" if host == "127.0.0.1" else host
        print(f"app     http://{shown}:{port}   (log: {home / 'app.log'})")
        print(f"MLflow  http://{shown}:{mlflow_port}/#/experiments{runs_page(here)}   (log: {home / 'mlflow.log'})")
        print("Ctrl-C stops both", flush=True)
        while all(process.poll() is None for process in running):
            time.sleep(0.5)
        raise UserError(f"a server stopped by itself; the reason is in '{home}/app.log' or '{home}/mlflow.log'")
    except KeyboardInterrupt:
        print("\nstopping both")
    finally:
        stop(running)


def require_free(address: str, port: int, option: str) -> None:
    """Raise UserError if something listens on the port already."""
    if not 1 <= port <= 65535:
        raise UserError(f"{port} is not a port; give {option} a number from 1 to 65535")
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just given up counts as free
        try:
            probe.bind((address, port))
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise UserError(f"'{address}' is not an address of this machine; correct --address") from error
            if isinstance(error, PermissionError):
                raise UserError(f"you may not listen on port {port}; choose one above 1023 with {option}") from error
            raise UserError(
                f"port {port} cannot be used ({error.strerror}); stop what runs there or choose another with {option}"
            ) from error


def start(command: list[str], log: Path, environment: dict[str, str]) -> subprocess.Popen:
    """Start a Python process in a session of its own, so that Ctrl-C reaches it only through `stop`."""
    with log.open("wb") as file:
        return subprocess.Popen(  # noqa: S603 - the commands are this file's own
            [sys.executable, *command],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=os.environ | environment,
            start_new_session=True,
        )


def wait_until_ready(process: subprocess.Popen, log: Path, url: str) -> None:
    """Wait until a server answers.

    Raises:
        UserError: if it ends or does not answer in time.
    """
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UserError(f"a server ended with status {process.returncode} before it answered; see '{log}'")
        try:
            if requests.get(url, timeout=2).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    raise UserError(f"{url} did not answer within {START} seconds; see '{log}'")


def wait_for_champion(page: str, mlflow: str) -> None:
    """Wait until the app serves the champion, if there is one; not for long, because it may refuse it."""
    asked = f"{mlflow}/api/2.0/mlflow/registered-models/alias"
    deadline = time.monotonic() + CHAMPION
    while time.monotonic() < deadline:
        with suppress(requests.RequestException):
            found = requests.get(asked, {"name": model_name(), "alias": ALIAS}, timeout=2)
            served = requests.get(f"{page}/api/model", timeout=2).json()
            if not found.ok or found.json()["model_version"]["version"] == served.get("version"):
                return
        time.sleep(0.2)


def runs_page(mlflow: str) -> str:
    """The part of an address that opens the runs of the latest run's experiment; empty if there is no such run.

    MLflow's page would otherwise open an experiment in its view of GenAI traces, whatever kind it is.
    """
    latest = make_home() / "runs" / "latest"
    with suppress(OSError, ValueError, KeyError):
        query = {"run_id": latest.read_text().strip()}
        found = requests.get(f"{mlflow}/api/2.0/mlflow/runs/get", query, timeout=5).json()
        return f"/{found['run']['info']['experiment_id']}/runs?workflowType=machine_learning"
    return ""


def stop(running: list[subprocess.Popen]) -> None:
    """End processes and their children: ask first, and after a while insist."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for process in running:
            try:
                os.killpg(process.pid, sign)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + STOP
        while time.monotonic() < deadline and any(process.poll() is None for process in running):
            time.sleep(0.05)
