"""What .env says counts for scripts and compose alike; compose itself reads it here."""

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engine import ROOT, docker

NAMED, OTHER = "manasight-test-named", "manasight-test-other"


@pytest.fixture
def checkout(tmp_path: Path, make) -> Callable[..., str]:
    """Runs a command of docker/stack.sh in a copy of the checkout with a file .env; returns what it says."""
    for name in ("docker", "trainer/experiments"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "compose.yaml", tmp_path)
    dropped = ("COMPOSE_", "PORT", "MLFLOW_PORT")
    environment = {name: value for name, value in make.environment.items() if not name.startswith(dropped)}

    def run(command: str, env_file: bytes, **settings: str) -> str:
        (tmp_path / ".env").write_bytes(env_file)
        done = subprocess.run(
            ["docker/stack.sh", command],
            cwd=tmp_path,
            env=environment | settings,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.stdout + done.stderr

    return run


@pytest.fixture
def projects(tmp_path: Path) -> Iterator[Callable[[str], tuple[bool, bool]]]:
    """Two stacks with a database and secrets each; the function says whether a stack's data and secrets are there."""
    for project in (NAMED, OTHER):
        docker("volume", "create", f"--label=com.docker.compose.project={project}", f"{project}_database")
        (tmp_path / ".secrets" / project).mkdir(parents=True)
        (tmp_path / ".secrets" / project / "postgres").write_text("the password of its database")

    def find(project: str) -> tuple[bool, bool]:
        return bool(docker("volume", "ls", "-q", "-f", f"name=^{project}_database$")), (
            tmp_path / ".secrets" / project / "postgres"
        ).is_file()

    yield find
    for project in (NAMED, OTHER):
        docker("volume", "rm", "--force", f"{project}_database")


@pytest.mark.parametrize(
    "env_file",
    [
        f"COMPOSE_PROJECT_NAME={NAMED}\n",
        f'export COMPOSE_PROJECT_NAME = "{NAMED}"\n',
        f"# mine\r\nPORT=8999\r\nCOMPOSE_PROJECT_NAME={NAMED}\r\n",
        f"NAME={NAMED}\nCOMPOSE_PROJECT_NAME=${{NAME}} # of this machine\n",
    ],
    ids=["plain", "exported and quoted", "lines of Windows", "of a variable"],
)
def test_purge_deletes_data_and_secrets_of_the_stack_that_env_names(checkout, projects, env_file):
    checkout("purge", env_file.encode())
    assert projects(NAMED) == (False, False)
    assert projects(OTHER) == (True, True)


def test_the_environment_comes_before_the_file(checkout, projects):
    checkout("purge", f"COMPOSE_PROJECT_NAME={NAMED}\n".encode(), COMPOSE_PROJECT_NAME=OTHER)
    assert projects(NAMED) == (True, True)
    assert projects(OTHER) == (False, False)


def test_a_file_of_compose_may_name_the_stack(checkout, projects, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"name: {NAMED}\n")
    checkout("purge", b"COMPOSE_FILE=compose.yaml:mine.yaml\n")
    assert projects(NAMED) == (False, False)
    assert projects(OTHER) == (True, True)


@pytest.mark.parametrize(
    ("env_file", "says"),
    [
        (b"PORT=abc\n", "PORT must be a number from 1 to 65535, not 'abc'"),
        (b"APP_HOST_PORT='8700'\r\nMLFLOW_PORT=8700\r\n", "cannot both use port 8700"),
        (b"BIND = foo\n", "BIND must be an IP address"),
        (b"MANASIGHT_TAG=not/a/tag\n", "MANASIGHT_TAG must be an image's tag"),
        (b"MLFLOW_AUTH=basci\n", "MLFLOW_AUTH must be 'basic' or 'none', not 'basci'"),
        (b"COMPOSE_PROJECT_NAME=My Stack\n", "COMPOSE_PROJECT_NAME cannot be 'My Stack'"),
        (b"no value\n", "Compose cannot read the settings: "),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(checkout, env_file, says):
    said = checkout("up", env_file)
    assert says in said
    assert len(said.splitlines()) == 1


def test_the_port_of_the_file_is_the_one_that_is_looked_at(checkout):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert f"Port {port} is taken by another program" in checkout("up", f"PORT={port}\n".encode())
        # What is given for one call comes before it.
        said = checkout("up", f"PORT={port}\n".encode(), APP_HOST_PORT="1", BIND="0.0.0.0", MLFLOW_HOST_PORT=str(port))
        assert f"Port {port} is taken by another program: stop it, or choose another with MLFLOW_PORT" in said
