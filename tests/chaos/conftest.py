"""The stack of tests/stack, on volumes of their own small disks, so that a full one fills nothing else."""

import importlib.util
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/stack"))

specification = importlib.util.spec_from_file_location("stack_fixtures", ROOT / "tests/stack/conftest.py")
stack_fixtures = importlib.util.module_from_spec(specification)
specification.loader.exec_module(stack_fixtures)
make = stack_fixtures.make
pytest_collection_modifyitems = stack_fixtures.pytest_collection_modifyitems

from engine import PROJECT, docker  # noqa: E402
from faults import VOLUMES  # noqa: E402

# What the images' users need: PostgreSQL's and the one that the others share.
OWNERS = {"database": "999:999", "objects": "10001:10001", "state": "10001:10001"}
SIZE = 1536  # megabytes


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long, and from which seed."""
    parser.addoption("--long", action="store_true", help="every fault on every service, pairs, and the engine")
    parser.addoption("--seed", type=int, default=random.SystemRandom().randrange(10_000), help="of order and moments")


def root(*command: str) -> str:
    """Run a command as root."""
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    return subprocess.run([*sudo, *command], check=True, capture_output=True, text=True, timeout=60).stdout.strip()


@pytest.fixture(scope="session")
def stack(make, tmp_path_factory) -> Iterator:
    """A stack on empty volumes, each a disk of its own; gone afterwards."""
    make("purge")
    folder, devices = tmp_path_factory.mktemp("disks"), []
    try:
        for volume in VOLUMES.values():
            disk = folder / f"{volume}.img"
            with disk.open("wb") as file:
                file.truncate(SIZE * 1024**2)
            subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-E", f"root_owner={OWNERS[volume]}", disk], check=True)
            # Docker and PostgreSQL take a volume for used that holds anything.
            subprocess.run(["/usr/sbin/debugfs", "-w", "-R", "rmdir lost+found", disk], check=True, capture_output=True)
            devices.append(root("losetup", "--find", "--show", str(disk)))
            labels = [
                f"--label=com.docker.compose.{key}={value}" for key, value in (("project", PROJECT), ("volume", volume))
            ]
            options = ["--opt", "type=ext4", "--opt", f"device={devices[-1]}"]
            docker("volume", "create", *labels, *options, f"{PROJECT}_{volume}")
        # Volumes without their passwords are refused.
        subprocess.run([ROOT / "docker/secrets.sh"], check=True, env=make.environment)
        make("up")
        yield make
    finally:
        make("purge", check=False)
        for device in devices:
            root("losetup", "--detach", device)
