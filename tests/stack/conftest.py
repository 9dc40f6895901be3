"""What the stack's tests share: images of this commit, and one stack under a name and ports of its own."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engine import ROOT, docker
from PIL import Image


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs an engine: `pytest -m stack` asks for it, `-m "not stack"` does without."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.stack)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def make() -> Callable[..., str]:
    """Runs a target of docker/docker.mk on a stack of its own and returns what it printed; fails with its message."""
    ports = {"PORT": str(free_port()), "MLFLOW_PORT": str(free_port())}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"COMPOSE_PROJECT_NAME": "manasight-test", "MANASIGHT_POLL_SECONDS": "2", "YES": "1"} | ports

    def run(target: str, check: bool = True, **settings: str) -> str:
        command = ["make", "--no-print-directory", "-f", "docker/docker.mk", target]
        done = subprocess.run(
            command, cwd=ROOT, env=environment | settings, capture_output=True, text=True, timeout=1800
        )
        if check:
            assert done.returncode == 0, f"make {target}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout + done.stderr

    run.ports = ports
    return run


@pytest.fixture(scope="session")
def app_image(make) -> str:
    """The app for both platforms under one name, as `make images` makes it."""
    subprocess.run(["docker", "info"], check=True, capture_output=True, timeout=30)
    make("images", TARGETS="app", NAMESPACE="manasight-test")
    return "ghcr.io/manasight-test/app:0.1.0"


@pytest.fixture(scope="session")
def picture(tmp_path_factory) -> Path:
    """A picture with something in it."""
    path = tmp_path_factory.mktemp("picture") / "card.png"
    Image.linear_gradient("L").resize((200, 280)).convert("RGB").save(path)
    return path


@pytest.fixture
def container() -> Iterator[Callable[..., str]]:
    """Starts a container as strictly as compose does and removes it afterwards, even one that hangs under emulation."""
    started = []

    def start(image: str, *options: str) -> str:
        strict = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        started.append(docker("run", "--detach", *strict, *options, image))
        return started[-1]

    yield start
    for name in started:
        subprocess.run(["timeout", "-k", "5", "60", "docker", "rm", "--force", name], check=False, capture_output=True)
