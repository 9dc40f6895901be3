"""Lists every address beyond this machine that each command of `manasight` and the app connect to, unasked.

Each command runs under strace, first with --help and then for real, in a home of its own; DNS lookups count even where
the resolver is on this machine. Needs Linux and strace (apt-get install strace), takes about ten minutes. Exits with 1
if it finds any.
"""

import argparse
import ipaddress
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import requests
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parent.parent
STRACE = ("strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg")
ADDRESS = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"')
DNS = 53
# A page of mtgpics.com with the pictures of a set.
DECK = "/set?set=m19"
# Where libraries keep what they report: a file here says that reporting was on, even if nothing was sent yet.
REPORTS = (".cache/Microsoft", ".config/mlflow", ".streamlit")


def outward(trace: str) -> list[str]:
    """The addresses beyond this machine in what strace wrote, and every name server."""
    found = {(host, int(port)) for port, host in ADDRESS.findall(trace)}
    return sorted(f"{host}:{port}" for host, port in found if port == DNS or not is_here(host))


def is_here(host: str) -> bool:
    """Whether an address is this machine's own; the unspecified one connects to it."""
    address = ipaddress.ip_address(host)
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a new user has. Nothing of a test or of CI, where libraries do not report of their own accord."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "VIRTUAL_ENV") if name in os.environ}
    return kept | {"HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


def traced(command: Sequence[str], home: Path, **more: str) -> tuple[int, str, list[str]]:
    """Run a command in `home` and watch it; returns its status, its output and the addresses that it connected to."""
    trace = home / "trace"
    done = subprocess.run(  # noqa: S603 - the commands are this file's own
        [*STRACE, "-o", str(trace), sys.executable, *command],
        cwd=home,
        env=environment(home, **more),
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr, outward(trace.read_text())


def traced_servers(command: Sequence[str], home: Path, ready: str) -> tuple[int, str, list[str]]:
    """The same for servers: wait until they print `ready`, use what they serve as a browser does, and stop them."""
    trace = home / "trace"
    process = subprocess.Popen(  # noqa: S603 - the commands are this file's own
        [*STRACE, "-o", str(trace), sys.executable, *command],
        cwd=home,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout
    printed = ""
    for line in process.stdout:
        printed += line
        if ready in line:
            break
    for url in re.findall(r"http://[^/\s]+", printed):
        use(url)
    os.killpg(process.pid, signal.SIGINT)
    printed += process.stdout.read()
    return process.wait(60), printed, outward(trace.read_text())


def use(url: str) -> None:
    """Ask the app or MLflow what their pages ask, and open the app's page from another origin too."""
    paths = ("/", "/ready", "/api/model", "/api/2.0/mlflow/experiments/search?max_results=1")
    for path in (*paths, "/ajax-api/3.0/mlflow/server-info", "/ajax-api/3.0/mlflow/ui-telemetry"):
        requests.get(url + path, timeout=30)
    sample = (ROOT / "app/samples/artifact.jpg").read_bytes()
    requests.post(f"{url}/api/predict", data=sample, headers={"Content-Type": "image/jpeg"}, timeout=60)
    for origin in (url, "https://elsewhere.example"):
        try:
            socket = f"ws://{urlsplit(url).netloc}/_stcore/stream"
            with connect(socket, origin=origin, open_timeout=30):  # type: ignore[arg-type]
                time.sleep(1)
        except WebSocketException:  # refused, or MLflow, which has none
            continue


def reports(home: Path) -> list[str]:
    """What libraries left behind for their reports."""
    return [name for name in REPORTS if (home / name).exists()]


def name_of(words: Sequence[str]) -> str:
    """The command, as trainer/cli.py calls it, that some arguments begin with."""
    return " ".join(words[: 2 if words[0] == "data" else 1])


def runs(port: int, mlflow_port: int, cards: str) -> list[list[str]]:
    """Every command, in an order that works.

    Args:
        port: the app's, of `serve`.
        mlflow_port: MLflow's.
        cards: the address of what stands in for Scryfall and mtgpics.com.
    """
    fit = "--data.input_size [32,32] --trainer.max_epochs 1 --data.workers 0 --trainer.limit_train_batches 2"
    return [
        line.split()
        for line in (
            "data demo drawn --count 108 --workers 1",
            "data describe drawn --check",
            "data split drawn/train split --near_duplicate_bits -1",
            f"data suspects drawn --model {ROOT}/models/starter/model.onnx --out suspects.csv",
            "data scryfall fetched --set m19",
            f"data mtgpics --deck-url {cards}{DECK} --save-dir deck",
            "data push drawn s3://data/drawn",
            "data pull s3://data/drawn pulled",
            f"fit --data.root drawn --model.weights none {fit}",
            "evaluate",
            "export",
            "promote",
            "predict drawn/test",
            "explain --count 1",
            f"experiments --data drawn --model.weights {ROOT}/models/starter/model.onnx {fit}",
            f"train --data.root drawn --model.weights none {fit}",
            f"worker --nnodes=1 --nproc-per-node=1 --rdzv-backend=c10d --rdzv-endpoint=127.0.0.1:{port} --rdzv-id=one "
            f"--local-addr=127.0.0.1 -m trainer.cli fit --data.root drawn --model.weights none {fit}",
            f"serve --port {port} --mlflow_port {mlflow_port}",
        )
    ]


def main() -> int:
    """Print a line per command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", choices=("help", "runs"), help="one half of it")
    only = parser.parse_args().only
    sys.path[:0] = [str(ROOT / "tests/unit"), str(ROOT)]
    from card_server import CardServer, card
    from s3_server import s3_server
    from servers import free_port

    from trainer.cli import COMMANDS

    bad = 0

    def line(what: str, status: int, found: list[str], left: list[str], output: str) -> None:
        nonlocal bad
        bad += bool(found or left or status)
        print(f"{what:<24} status {status}  {json.dumps(found + left) if found or left else 'nothing'}", flush=True)
        if status:
            print(output[-2000:])

    with TemporaryDirectory() as folder:
        home = Path(folder)
        for name in () if only == "runs" else COMMANDS:
            status, output, found = traced(["-m", "trainer.cli", *name.split(), "--help"], home)
            line(f"{name} --help", status, found, reports(home), output)
        tried = runs(free_port(), free_port(), "")
        if forgotten := set(COMMANDS) - set(map(name_of, tried)):
            raise SystemExit(f"no run tries: {', '.join(sorted(forgotten))}")
        with s3_server(home / "s3") as keys, CardServer() as cards:
            cards.cards = [card("Bear", "Creature — Bear", "G"), card("Ring", "Artifact")]
            cards.pages[DECK] = (b"<html><img src='../pics/reg/m19/001.jpg' alt='Bear'></html>", "text/html")
            keys |= {"MANASIGHT_SCRYFALL_URL": cards.url}
            keys |= {"JOB_COMPLETION_INDEX": "0", "MANASIGHT_HOME": ".manasight"}
            for words in () if only == "help" else runs(free_port(), free_port(), cards.url):
                if words[0] == "serve":
                    status, output, found = traced_servers(["-m", "trainer.cli", *words], home, "Ctrl-C")
                else:
                    status, output, found = traced(["-m", "trainer.cli", *words], home, **keys)
                if words[0] == "worker":  # PyTorch logs the other workers' names, which it asks DNS for
                    found = [address for address in found if not address.endswith(f":{DNS}")]
                line(name_of(words), status, found, reports(home), output)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
