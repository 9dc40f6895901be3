"""A database of another PostgreSQL is refused before anything starts, and an empty volume is not."""

import os
import subprocess
from collections.abc import Iterator

import pytest
from engine import ROOT, docker

PROJECT = "manasight-old-database"


@pytest.fixture
def volume() -> Iterator[str]:
    """The empty database volume of a stack that was never started."""
    name = docker("volume", "create", f"{PROJECT}_database")
    yield name
    docker("volume", "rm", "--force", name)


def check(volume: str, image: str) -> subprocess.CompletedProcess:
    """What docker/stack.sh asks before it starts the stack."""
    script = f". docker/preflight.sh; . docker/database_version.sh; check_database {volume}"
    environment = os.environ | {"COMPOSE_PROJECT_NAME": PROJECT, "POSTGRES_IMAGE": image}
    command = ["bash", "-euc", script]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def postgres() -> str:
    """The database's image, as compose.yaml names it or as it was made here."""
    command = ["docker", "compose", "config", "--images", "postgres"]
    named = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    return named.partition("@")[0]


def test_make_up_refuses_the_database_of_another_postgresql(make, volume: str, postgres: str) -> None:
    folder = "/database/18/docker"
    write = ("run", "--rm", "--user", "0", "--volume", f"{volume}:/database", "--entrypoint", "sh", postgres, "-c")
    docker(*write, f"mkdir -p {folder}; echo 17 >{folder}/PG_VERSION; chown -R 999:999 /database")
    said = make("up", check=False, COMPOSE_PROJECT_NAME=PROJECT)
    assert (
        f"The database in the volume {volume} is of PostgreSQL 17, which {postgres} (PostgreSQL 18) cannot read" in said
    )
    assert "make backup" in said or "make up backup" in said
    assert not docker("ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}")


def test_an_empty_volume_still_gets_the_owner_that_the_database_needs(volume: str, postgres: str) -> None:
    assert check(volume, postgres).stderr == ""
    look = ("run", "--rm", "--volume", f"{volume}:/var/lib/postgresql", "--entrypoint", "stat", postgres)
    assert docker(*look, "--format", "%u", "/var/lib/postgresql") == "999"
