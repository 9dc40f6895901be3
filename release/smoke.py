"""Run an image where it was built, before it gets a tag: right machine code, right version, right answer.

    python3 smoke.py app|trainer|trainer-cuda|mlflow IMAGE linux/amd64|linux/arm64 [--seconds 120]

`--record` replaces the stored prediction that app and trainer are compared with by an app image's. Uses only the
standard library and Docker.
"""

import argparse
import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from tags import ROOT, version

# The container is on this machine: no proxy of the environment is on the way.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# Beside the model that went in.
STORED = ROOT / (os.environ.get("MODEL") or "models/starter") / "prediction.json"
# Platforms compute float32 in another order; they agree to 1e-4, and another model or another resize does not.
TOLERANCE = 1e-3


class SmokeError(Exception):
    """What is wrong with the image, in one sentence."""


def docker(*command: str, seconds: float = 120) -> str:
    """Standard output of a Docker command.

    Raises:
        SmokeError: if it fails or takes too long.
    """
    try:
        done = subprocess.run(["docker", *command], capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise SmokeError(f"`docker {' '.join(command[:3])} …` took more than {seconds:.0f} s") from None
    if done.returncode:
        raise SmokeError(f"`docker {' '.join(command[:3])} …` failed: {done.stderr.strip()[-400:]}")
    return done.stdout


def check_machine_code(image: str, platform: str) -> str:
    """What the build's own check says about the image's files: all machine code must be for its platform.

    Raises:
        SmokeError: naming files that are not, or if there are none.
    """
    name = f"manasight-smoke-{uuid.uuid4().hex[:8]}"
    docker("create", "--platform", platform, "--name", name, image, seconds=600)
    check = [sys.executable, ROOT / "docker/site_packages.py", "check-elf", "-", "--arch", platform.partition("/")[2]]
    try:
        with subprocess.Popen(["docker", "export", name], stdout=subprocess.PIPE) as export:
            done = subprocess.run(check, stdin=export.stdout, capture_output=True, text=True, check=False)
            export.stdout.close()
    finally:
        docker("rm", "--force", name, seconds=600)
    if done.returncode:
        raise SmokeError(done.stderr.strip())
    return done.stdout.strip()


def check_labels(image: str) -> None:
    """The image must say that it is the tree's version.

    Raises:
        SmokeError: if it says something else.
    """
    labels = json.loads(docker("image", "inspect", image, "--format", "{{json .Config.Labels}}")) or {}
    said = labels.get("org.opencontainers.image.version")
    if said != version():
        raise SmokeError(f"the image's label says version {said}, the tree is {version()}")


@contextlib.contextmanager
def running(image: str, platform: str, port: int, *command: str, entrypoint: str | None = None) -> Iterator[str]:
    """A container as the docs say to run it, locked down; gives the address of its port on this machine."""
    options = ["--detach", "--platform", platform, "--publish", f"127.0.0.1::{port}"]
    options += ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]  # noqa: S108 - a path in the container
    if entrypoint:
        options += ["--entrypoint", entrypoint]
    name = docker("run", *options, image, *command).strip()
    try:
        yield "http://" + docker("port", name, str(port)).splitlines()[0]
    except SmokeError as error:
        last = subprocess.run(["docker", "logs", "--tail", "20", name], capture_output=True, text=True, check=False)
        raise SmokeError(f"{error}\n{last.stdout}{last.stderr}") from None
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, timeout=60, check=True)


def wait_for(address: str, seconds: float) -> float:
    """Seconds until an address answers 200.

    Raises:
        SmokeError: if it does not in time.
    """
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        with contextlib.suppress(OSError), DIRECT.open(address, timeout=10) as answer:
            if answer.status == 200:
                return time.monotonic() - start
        time.sleep(0.1)
    raise SmokeError(f"{address} did not answer 200 within {seconds:.0f} s")


def post(address: str, body: bytes, kind: str, seconds: float = 60) -> dict:
    """The JSON with which an address answers.

    Raises:
        SmokeError: if it refuses.
    """
    request = urllib.request.Request(address, data=body, headers={"Content-Type": kind})  # noqa: S310 - this machine's own address
    try:
        with DIRECT.open(request, timeout=seconds) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise SmokeError(f"{address} answered {error.code}: {error.read()[:200]!r}") from None


def compare(probabilities: dict[str, float]) -> float:
    """The largest difference from the stored prediction.

    Raises:
        SmokeError: if classes differ, or a probability by more than the tolerance.
    """
    stored = json.loads(STORED.read_text())["probabilities"]
    if set(stored) != set(probabilities):
        raise SmokeError(f"the image answers for {sorted(probabilities)}, the stored prediction for {sorted(stored)}")
    difference = max(abs(stored[label] - probabilities[label]) for label in stored)
    if not difference <= TOLERANCE:
        raise SmokeError(f"a probability differs by {difference:.4f} from {STORED.name}, more than {TOLERANCE}")
    return difference


def predict(image: str, platform: str, seconds: float) -> tuple[dict[str, float], float]:
    """An app image's probabilities for the stored picture, and the seconds from start to ready."""
    picture = ROOT / json.loads(STORED.read_text())["image"]
    with running(image, platform, 8501) as address:
        took = wait_for(f"{address}/ready", seconds)
        answer = post(f"{address}/api/predict", picture.read_bytes(), "image/jpeg", seconds)
        return answer["images"][0]["probabilities"], took


def smoke_app(image: str, platform: str, seconds: float) -> str:
    """Start the app with no network but a port, and ask it."""
    probabilities, took = predict(image, platform, seconds)
    return f"ready in {took:.1f} s, prediction within {compare(probabilities):.0e}"


def smoke_trainer(image: str, platform: str, seconds: float) -> str:
    """The version, and the command that predicts."""
    picture = json.loads(STORED.read_text())["image"]
    said = docker(
        "run", "--rm", "--platform", platform, "--network", "none", image, "--version", seconds=seconds
    ).strip()
    if said != version():
        raise SmokeError(f"`manasight --version` says {said}, the tree is {version()}")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        options = ["--rm", "--platform", platform, "--network", "none"]
        options += ["--volume", f"{ROOT}/app/samples:/images:ro", "--volume", f"{folder}:/out"]
        command = ["predict", f"/images/{Path(picture).name}", "--out", "/out/predictions.csv"]
        docker("run", *options, image, *command, "--model", "/opt/manasight/models/starter/model.onnx", seconds=seconds)
        with (Path(folder) / "predictions.csv").open(newline="") as table:
            row = next(csv.DictReader(table))
    stored = json.loads(STORED.read_text())["probabilities"]
    return f"version {said}, prediction within {compare({label: float(row[label]) for label in stored}):.0e}"


def smoke_mlflow(image: str, platform: str, seconds: float) -> str:
    """A server on SQLite that creates an experiment."""
    server = ["-m", "mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "1"]  # noqa: S104 - in the container
    server += ["--backend-store-uri", "sqlite:////tmp/mlflow.db", "--artifacts-destination", "/tmp/artifacts"]  # noqa: S108 - in the container
    with running(image, platform, 5000, *server, entrypoint="python3") as address:
        took = wait_for(f"{address}/health", seconds)
        made = post(f"{address}/api/2.0/mlflow/experiments/create", b'{"name": "smoke"}', "application/json", seconds)
    return f"healthy in {took:.1f} s, created experiment {made['experiment_id']}"


SMOKE: dict[str, Callable[[str, str, float], str]] = {
    "app": smoke_app,
    "trainer": smoke_trainer,
    "trainer-cuda": smoke_trainer,
    "mlflow": smoke_mlflow,
}


def main() -> None:
    """Test an image; what is wrong is one sentence and status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=SMOKE)
    parser.add_argument("image")
    parser.add_argument("platform", choices=("linux/amd64", "linux/arm64"))
    parser.add_argument("--seconds", type=float, default=120, help="limit of each step; give more under emulation")
    parser.add_argument("--record", action="store_true", help="replace the stored prediction")
    options = parser.parse_args()
    try:
        if options.record:
            probabilities, _ = predict(options.image, options.platform, options.seconds)
            stored = json.loads(STORED.read_text()) | {"probabilities": probabilities}
            STORED.write_text(json.dumps(stored, indent=2) + "\n")
            return
        machine = check_machine_code(options.image, options.platform)
        check_labels(options.image)
        said = SMOKE[options.target](options.image, options.platform, options.seconds)
        print(f"{options.target} {options.platform}: {machine}; {said}")
    except (SmokeError, OSError) as error:
        sys.exit(f"smoke: {options.target} {options.platform}: {error}")


if __name__ == "__main__":
    main()
