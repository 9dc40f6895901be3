"""Ways to break a service of the running stack, and to bring it back."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine import PROJECT, ROOT, container, docker

SERVICES = ("postgres", "minio", "mlflow", "app")
# Which volume a service writes to.
VOLUMES = {"postgres": "database", "minio": "objects", "trainer": "state"}
# Fills the disk below /volume, waits for a signal, and frees it.
FILL = """
import os, sys
path = "/volume/.filler"
with open(path, "wb", buffering=0) as file:
    try:
        while True:
            file.write(bytes(1 << 20))
    except OSError:
        pass
print("full", flush=True)
sys.stdin.read()
os.unlink(path)
"""


def image() -> str:
    """An image of the stack with a Python."""
    return docker("inspect", "--format", "{{.Config.Image}}", container("mlflow"))


def healthy() -> bool:
    """Whether every service runs and says that it is well."""
    names = [container(service) for service in SERVICES]
    if not all(names):
        return False
    return all(
        found["State"].get("Health", {}).get("Status") == "healthy" for found in json.loads(docker("inspect", *names))
    )


def until(truth: Callable[[], object], what: str, seconds: float) -> float:
    """Wait for something; returns for how many seconds."""
    start = time.monotonic()
    while not truth():
        assert time.monotonic() < start + seconds, f"not {what} within {seconds} s"
        time.sleep(0.5)
    return time.monotonic() - start


def undo(name: str, *arguments: str) -> None:
    """Bring a container back by a docker command; a trainer's may have ended meanwhile, and is gone then."""
    try:
        docker(*arguments)
    except AssertionError:
        if docker("ps", "-q", "-f", f"id={name}"):
            raise


@contextmanager
def killed(service: str) -> Iterator[None]:
    """SIGKILL to its first process, which the engine takes for a crash; `docker kill` would count as a wish to stop."""
    pid = docker("inspect", "--format", "{{.State.Pid}}", container(service))
    shoot = f"import os; os.kill({pid}, 9)"
    helper = ["run", "--rm", "--pid", "host", "--user", "0", "--entrypoint", "python3", image()]
    docker(*helper, "-c", shoot)
    yield


@contextmanager
def paused(service: str) -> Iterator[None]:
    """Frozen, as by a machine that swaps."""
    name = container(service)
    docker("pause", name)
    try:
        yield
    finally:
        undo(name, "unpause", name)


@contextmanager
def cut_off(service: str) -> Iterator[None]:
    """Without its networks."""
    name = container(service)
    (found,) = json.loads(docker("inspect", name))
    networks = found["NetworkSettings"]["Networks"]
    for network in networks:
        docker("network", "disconnect", "--force", network, name)
    try:
        yield
    finally:
        for network in networks:
            undo(name, "network", "connect", "--alias", service, network, name)


@contextmanager
def full(service: str) -> Iterator[None]:
    """The disk of its volume full to the last block."""
    volume = f"{PROJECT}_{VOLUMES[service]}:/volume"
    helper = ["docker", "run", "--rm", "-i", "--user", "0", "--volume", volume, "--entrypoint", "python3", image()]
    process = subprocess.Popen([*helper, "-c", FILL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "full\n"
    try:
        yield
    finally:
        process.communicate(timeout=60)


KINDS = {"killed": killed, "paused": paused, "cut off": cut_off, "disk full": full}


def restart_engine() -> None:
    """The engine stops, with all containers, and starts again."""
    if (
        subprocess.run(["systemctl", "is-active", "--quiet", "docker"], check=False, capture_output=True).returncode
        == 0
    ):
        subprocess.run(["sudo", "-n", "systemctl", "restart", "docker"], check=True, timeout=120)
        return
    pid = Path("/var/run/docker.pid").read_text().strip()
    subprocess.run(["kill", pid], check=True)
    until(lambda: subprocess.run(["kill", "-0", pid], check=False, capture_output=True).returncode != 0, "stopped", 120)
    subprocess.run([ROOT / "tests/airgap/engine.sh"], check=True, timeout=180)
